"""The official archive of Spurious ImageNet's images → a dataset folder of this project's form.

The archive holds ``images/<folder>/<file>``; of the folder's name, split at ``_``, the third field is the class index
in ImageNet-1k and the last one the 0-based component.

data/            one parquet file
import.json      how many images and files, and every file that is not in the dataset, with the reason
README.md        the card
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import imagehash
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import Field

from spurious_imagenet.builders.imports._archive import Archive, ArchiveLimits, UnreadableFileError, open_archive
from spurious_imagenet.builders.publish.schema import FEATURES, summarise
from spurious_imagenet.data_cards.imported_card import render_imported_card
from spurious_imagenet.errors import DataError
from spurious_imagenet.images import DecodeLimits, UndecodableImageError, decode_image
from spurious_imagenet.io import atomic_directory, sha256_file, write_json
from spurious_imagenet.models.labels import LabelSpace, imagenet_label_space
from spurious_imagenet.records import Record

_SPLIT = "test"
#: Rows a row group at most, and bytes of images that one is not to exceed: that is what memory holds.
_ROW_GROUP, _ROW_GROUP_BYTES = 100, 64 << 20
_MAX_NUMBER_DIGITS = 6


class ImagesConfig(Record):
    """What to import, and what is too large."""

    source: str
    """The archive: a zip, or the folder it was unpacked to."""
    name: str = "Spurious ImageNet (official images)"
    """Title of the dataset's card."""
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """An import that rejects a larger share of all files fails."""
    limits: ArchiveLimits = ArchiveLimits()
    decode: DecodeLimits = DecodeLimits(max_pixels=50_000_000)


@dataclass(frozen=True)
class ImportedImages:
    """What was imported.

    Attributes:
        path: The dataset folder.
        images: Images in it.
        concepts: One row a component: class, concept id, images.
        rejects: Name and reason of every other file.
    """

    path: Path
    images: int
    concepts: pd.DataFrame
    rejects: tuple[tuple[str, str], ...]


@dataclass(frozen=True, order=True)
class _Placed:
    """A file in the folder of a component."""

    class_index: int
    component: int
    name: str


def import_spurious_images(
    config: ImagesConfig, out: str | Path, *, progress: Callable[[int, int], None] | None = None
) -> ImportedImages:
    """Write the official images as a dataset that ``datasets.load_dataset(out)`` and ``spurious evaluate`` read.

    The columns are those of ``spurious publish``; what the archive does not say is null. Equal archives give equal
    bytes. Memory holds one row group.

    Args:
        config: What to import.
        out: Dataset folder; appears whole, must not exist with content.
        progress: Called with (files done, of all).

    Raises:
        DataError: There is no such archive, it was made to do harm, it holds no usable image or too few of them.
        StoreError: ``out`` holds something.
    """
    labels = imagenet_label_space("imagenet-1k")
    with open_archive(config.source, config.limits) as archive, atomic_directory(out) as directory:
        placed, rejects = _place(archive, labels)
        if not placed:
            raise DataError(
                f"{config.source} holds no files of components: expected images/<folder>/<file> with folders such as "
                "spurious_class_8_comp_2 (class index third, component last)."
            )
        written = _Rows(archive, placed, labels, config.decode, rejects, progress or (lambda *_: None))
        data = _write_data(directory / "data", written)
        _check_rejects(config, written.count, rejects)
        concepts = summarise(pd.DataFrame(written.summary))
        _write_texts(directory, config, data, written.count, rejects, concepts)
    return ImportedImages(Path(out), written.count, concepts, tuple(sorted(rejects)))


def _place(archive: Archive, labels: LabelSpace) -> tuple[list[_Placed], list[tuple[str, str]]]:
    placed, rejects = [], list(archive.refused)
    for name in archive.names:
        try:
            placed.append(_Placed(*_class_and_component(PurePosixPath(name), labels), name))
        except UnreadableFileError as error:
            rejects.append((name, str(error)))
    homes = sorted({str(PurePosixPath(p.name).parent.parent) for p in placed})
    if len(homes) > 1:
        raise DataError(f"the archive holds components in both {homes[0]!r} and {homes[1]!r}: expected one copy.")
    return sorted(placed), rejects


def _class_and_component(path: PurePosixPath, labels: LabelSpace) -> tuple[int, int]:
    if len(path.parts) < 2:
        raise UnreadableFileError("not in the folder of a component")
    if path.parts[0] == "__MACOSX" or path.name.startswith("."):
        raise UnreadableFileError("what an operating system keeps beside the files")
    fields = path.parts[-2].split("_")
    if len(fields) < 4 or not (_is_number(fields[2]) and _is_number(fields[-1])):
        raise UnreadableFileError("its folder's name has no class index as third and no component as last field")
    if int(fields[2]) >= len(labels):
        raise UnreadableFileError(f"class {int(fields[2])} is unknown: expected an index below {len(labels)}")
    return int(fields[2]), int(fields[-1])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_NUMBER_DIGITS


class _Rows:
    """The rows of the published table, read one image at a time; counts what it yields."""

    def __init__(
        self,
        archive: Archive,
        placed: list[_Placed],
        labels: LabelSpace,
        limits: DecodeLimits,
        rejects: list[tuple[str, str]],
        progress: Callable[[int, int], None],
    ) -> None:
        self._archive, self._placed, self._labels, self._limits = archive, placed, labels, limits
        self._rejects, self._progress = rejects, progress
        self._alike = Counter(_key(file) for file in placed)
        self.summary: list[dict[str, str]] = []

    @property
    def count(self) -> int:
        return len(self.summary)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for done, file in enumerate(self._placed, start=1):
            try:
                row = self._row(file, self._archive.read(file.name))
            except (UnreadableFileError, UndecodableImageError) as error:
                self._rejects.append((file.name, str(error)))
            else:
                self.summary.append({c: row[c] for c in ("class_name", "class_id", "concept_id")})
                yield row
            self._progress(done, len(self._placed))

    def _row(self, file: _Placed, data: bytes) -> dict[str, Any]:
        pixels = decode_image(data, self._limits)
        path, class_id = PurePosixPath(file.name), self._labels.class_ids[file.class_index]
        known = {
            "image": {"bytes": data, "path": path.name},
            "class_id": class_id,
            "class_name": self._labels.class_names[file.class_index],
            "concept_id": f"npca/{class_id}/{file.component}",
            "component": file.component,
            "key": _key(file) if self._alike[_key(file)] == 1 else f"{path.parent.name}/{path.name}",
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "sha256": hashlib.sha256(data).hexdigest(),
            "perceptual_hash": str(imagehash.phash(Image.fromarray(pixels))),
        }
        return dict.fromkeys(FEATURES) | known


def _key(file: _Placed) -> str:
    path = PurePosixPath(file.name)
    return f"{path.parent.name}/{path.stem}"


def _write_data(folder: Path, rows: _Rows) -> str:
    """Write the one parquet file; return its name, which carries the hash of its bytes as ``spurious publish`` does."""
    folder.mkdir()
    unnamed = folder / "unnamed.parquet"
    schema = FEATURES.arrow_schema
    with pq.ParquetWriter(unnamed, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=_ROW_GROUP)
    named = folder / f"{_SPLIT}-00000-of-00001-{sha256_file(unnamed)[:16]}.parquet"
    unnamed.rename(named)
    return named.name


def _groups(rows: _Rows) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        more = len(row["image"]["bytes"])
        if group and (len(group) == _ROW_GROUP or size + more > _ROW_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += more
    if group:
        yield group


def _check_rejects(config: ImagesConfig, images: int, rejects: list[tuple[str, str]]) -> None:
    files = images + len(rejects)
    if images and len(rejects) <= config.max_reject_fraction * files:
        return
    name, reason = sorted(rejects)[0]
    raise DataError(
        f"{config.source}: {len(rejects)} of {files} files are not images of a component, more than "
        f"{config.max_reject_fraction:.0%}; the first is {name!r:.120}: {reason}."
    )


def _write_texts(
    directory: Path,
    config: ImagesConfig,
    data: str,
    images: int,
    rejects: list[tuple[str, str]],
    concepts: pd.DataFrame,
) -> None:
    listed = [{"name": name, "reason": reason} for name, reason in sorted(rejects)]
    write_json(directory / "import.json", {"schema_version": 1, "images": images, "rejects": listed})
    card = render_imported_card(
        name=config.name,
        split=_SPLIT,
        data_file=f"data/{data}",
        images=images,
        rejects=len(rejects),
        concepts=[{str(k): v for k, v in c.items()} for c in concepts.to_dict("records")],
    )
    (directory / "README.md").write_text(card, encoding="utf-8")
