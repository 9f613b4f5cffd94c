"""Labelled validation images, from shards or from an image folder with one sub-folder a class."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from spurious_imagenet.benchmark.models import LabelSpace
from spurious_imagenet.benchmark.shards import expand_shards, index_shard, open_shard, read_metadata
from spurious_imagenet.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "ValidationImage", "validation_images"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


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


def validation_images(
    source: str, classes: Collection[str], labels: LabelSpace, rejects: list[tuple[str, str]]
) -> Iterator[ValidationImage]:
    """Go through the validation images of some classes; those of other classes are not read.

    Args:
        source: An image folder with one sub-folder a class (named by class id), or shards as
            :func:`~spurious_imagenet.benchmark.shards.expand_shards` takes them.
        classes: Class ids that are wanted.
        labels: Names the classes of shards that only carry ``.cls`` indices.
        rejects: Gets the name and reason of each sample of a shard that holds no usable image.

    Raises:
        DataError: There is nothing at ``source``.
    """
    folder = Path(source)
    if folder.is_dir() and not any(folder.glob("*.tar")):
        yield from _from_folder(folder, classes)
    else:
        yield from _from_shards(source, classes, labels, rejects)


def _from_folder(folder: Path, classes: Collection[str]) -> Iterator[ValidationImage]:
    directories = sorted(d for d in folder.iterdir() if d.is_dir() and d.name in classes)
    if not directories:
        raise DataError(
            f"{folder} has no sub-folder of a wanted class: expected folders such as {sorted(classes)[:3]}."
        )
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                yield ValidationImage(directory.name, str(path), path.read_bytes)


def _from_shards(
    source: str, classes: Collection[str], labels: LabelSpace, rejects: list[tuple[str, str]]
) -> Iterator[ValidationImage]:
    for url in expand_shards([source]):
        with open_shard(url) as shard, shard.path.open("rb") as file:
            index = index_shard(shard)
            rejects += [(f"{url}/{key}", reason) for key, reason in index.rejects]
            for sample in index.samples:
                class_id, cls, *_ = read_metadata(file, sample)
                if class_id is None and cls is not None and 0 <= cls < len(labels):
                    class_id = labels.class_ids[cls]
                if class_id is not None and class_id in classes:
                    # Read at once: the shard may be a temporary file that is gone when the images are scored.
                    data = os.pread(file.fileno(), sample.size, sample.offset)
                    yield ValidationImage(class_id, f"{url}/{sample.key}", partial(bytes, data))
