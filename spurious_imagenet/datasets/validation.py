"""Labelled validation images, from shards or from an image folder with one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS, LabelCount
from spurious_imagenet.features.label_reading import LabelReader, ReadLabel
from spurious_imagenet.images.folder import ImageTree, SkipCount
from spurious_imagenet.models import LabelSpace
from spurious_imagenet.shards import SampleMetadata, expand_shards, index_shard, open_shard

__all__ = ["SeenImages", "ValidationImage", "once_each", "validation_images"]


@dataclass(frozen=True)
class ValidationImage:
    """One labelled image.

    Attributes:
        class_id: Its class.
        name: Where it is, for messages.
        read: Returns its bytes.
    """

    class_id: str
    name: str
    read: Callable[[], bytes]


@dataclass
class SeenImages:
    """What a pass over validation images met.

    Attributes:
        max_label_problems: Largest share of the images whose label may be of no use, in [0, 1].
        rejects: Name and reason of each sample of a shard that holds no usable image, or no usable label.
        labels: The labels of all images.
        skips: What a folder holds that is not data.
        readings: How an odd layout was read.
    """

    max_label_problems: float = MAX_LABEL_PROBLEMS
    rejects: list[tuple[str, str]] = field(default_factory=list)
    labels: LabelCount = field(default_factory=lambda: LabelCount(""))
    skips: SkipCount = field(default_factory=SkipCount)
    readings: list[str] = field(default_factory=list)

    def remarks(self) -> list[str]:
        """Say what a reader of the numbers must know of the images, one sentence each."""
        found = [*self.readings, self.labels.sentence(), self.skips.sentence(self.labels.where)]
        return [sentence for sentence in found if sentence is not None]

    def _took(self, name: str, label: ReadLabel, *, usable: bool) -> None:
        self.labels.add(label)
        if label.problem is not None and not usable:
            self.rejects.append((name, label.problem))


def validation_images(
    source: str, classes: Collection[str], labels: LabelSpace, seen: SeenImages
) -> Iterator[ValidationImage]:
    """Go through the validation images of some classes; those of other classes are not read.

    Args:
        source: An image folder with one sub-folder per class (named by class id), or shards as
            :func:`~spurious_imagenet.shards.expand_shards` takes them.
        classes: Class ids that are wanted.
        labels: Names the classes of shards that only carry ``.cls`` indices.
        seen: Gets what was met.

    Raises:
        DataError: There is nothing at ``source``, or more labels than allowed cannot be used: before any image of the
            folder, or of the shard, is read.
    """
    seen.labels.where = source
    reader = _Wanted(classes, labels)
    folder = Path(source)
    if folder.is_dir() and not any(folder.glob("*.tar")):
        yield from _from_folder(folder, reader, seen)
    else:
        yield from _from_shards(source, reader, seen)
        seen.labels.check(seen.max_label_problems, foreign=False)


class _Wanted(LabelReader):
    """Reads labels where any class that is wanted is known, whatever the label space holds."""

    def __init__(self, classes: Collection[str], labels: LabelSpace) -> None:
        super().__init__(labels)
        self.classes = classes

    def accepted(self, label: ReadLabel) -> ReadLabel:
        """Take a class that is wanted as known."""
        if label.label < 0 and label.class_id is not None and label.class_id in self.classes:
            return ReadLabel(label.class_id, 0)
        return label


def _from_folder(folder: Path, reader: _Wanted, seen: SeenImages) -> Iterator[ValidationImage]:
    tree = ImageTree(folder)
    if tree.reading is not None:
        seen.readings.append(tree.reading)
    found: list[ValidationImage] = []
    for group in tree.groups(seen.skips.add):
        for name, class_id in zip(group.names, group.class_ids, strict=True):
            path = folder / group.folder / name
            label = reader.accepted(reader.read(SampleMetadata(class_id, None, {})))
            wanted = class_id is not None and class_id in reader.classes
            seen._took(str(path), label, usable=wanted)
            if class_id is not None and wanted:
                found.append(ValidationImage(class_id, str(path), path.read_bytes))
    seen.labels.check(seen.max_label_problems, foreign=False)
    if not found:
        expected = f"expected folders such as {sorted(reader.classes)[:3]}"
        told = " ".join(("", *seen.remarks()))
        raise DataError(f"{folder} has no sub-folder of a wanted class: {expected}.{told}")
    yield from found


def _from_shards(source: str, reader: _Wanted, seen: SeenImages) -> Iterator[ValidationImage]:
    for url in expand_shards([source]):
        with open_shard(url) as shard, shard.path.open("rb") as file:
            index = index_shard(shard)
            seen.rejects += [(f"{url}/{key}", reason) for key, reason in index.rejects]
            read = [reader.accepted(label) for label in reader.read_shard(file, index.samples)]
            for sample, label in zip(index.samples, read, strict=True):
                wanted = label.label >= 0 and label.class_id in reader.classes
                seen._took(f"{url}/{sample.key}", label, usable=wanted)
            if read and all(label.problem is not None for label in read):
                seen.labels.check(seen.max_label_problems, foreign=False)
            for sample, label in zip(index.samples, read, strict=True):
                if label.label >= 0 and label.class_id is not None and label.class_id in reader.classes:
                    # Read at once: the shard may be a temporary file that is gone when the images are scored.
                    data = os.pread(file.fileno(), sample.size, sample.offset)
                    yield ValidationImage(label.class_id, f"{url}/{sample.key}", partial(bytes, data))


def once_each(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Keep one image of equal bytes, since a copy says nothing new and would weigh its class's figures.

    Args:
        table: One row per image, with ``class_id``, ``name`` and ``sha256``.

    Returns:
        The first row of each image of a class; of an image in several classes the one whose class id comes first. And
        what was left out, one sentence for each kind.
    """
    copies = table.duplicated(["class_id", "sha256"])
    first = table.groupby("sha256")["class_id"].transform("min") if len(table) else table["class_id"]
    elsewhere = ~copies & (table["class_id"] != first)
    said = []
    if copies.any():
        said.append(
            f"{int(copies.sum())} of {len(table)} validation images repeat the bytes of another of their class "
            f"and count once, such as {table.loc[copies, 'name'].iloc[0]}."
        )
    if elsewhere.any():
        place = int(elsewhere.to_numpy().argmax())
        row = table.iloc[place]
        said.append(
            f"{int(elsewhere.sum())} of {len(table)} validation images lie in another class too and count there alone, "
            f"such as {row['name']}, which is in {row['class_id']!r} and in {first.iloc[place]!r}."
        )
    return table[~copies & ~elsewhere].reset_index(drop=True), said
