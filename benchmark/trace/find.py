"""One image of a published dataset, found by the hash of its bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from spurious_imagenet.benchmark.trace.record import Link
from spurious_imagenet.datasets.manifest import MANIFEST, DatasetManifest, hub_repository
from spurious_imagenet.errors import ConfigError, DataError, SpuriousImagenetError, one_line

__all__ = ["PublishedImage", "find_image"]

_SHA256 = re.compile(r"[0-9a-f]{4,64}")
#: What tells the table of spurious images from a dataset's other tables.
_COLUMNS = {"sha256", "class_id", "concept_id", "alpha", "models", "shard", "shard_offset", "shard_size"}


@dataclass(frozen=True)
class PublishedImage:
    """A row of a published dataset.

    Attributes:
        row: Its columns.
        manifest: What the dataset says of itself; None for one of before there were manifests.
        place: The file that holds the row, for messages.
        file: How that file compares with the manifest.
    """

    row: dict[str, Any]
    manifest: DatasetManifest | None
    place: str
    file: Link


def find_image(image: str, dataset: str, concept: str | None = None) -> PublishedImage:
    """Find one image of a published dataset; only hashes are read of the others.

    Args:
        image: SHA-256 of the image's bytes, or how it begins.
        dataset: Folder, Hub id or address; see :func:`~spurious_imagenet.benchmark.trace.trace.trace`.
        concept: Which one, where the image is published for several.

    Raises:
        ConfigError: ``image`` is no hash.
        DataError: No image, or several, are meant; or the dataset cannot be read.
    """
    wanted = image.strip().lower()
    if not _SHA256.fullmatch(wanted):
        raise ConfigError(f"got the image {image!r}: expected its SHA-256, or at least its first 4 hexadecimal digits.")
    root = _address(dataset)
    try:
        fs, folder = fsspec.core.url_to_fs(root)
        manifest = _manifest(fs, folder, dataset)
        places = list(_matches(fs, folder, _tables(fs, folder, manifest), wanted, concept))
        path, group, index = _one(places, wanted, dataset, manifest)
        with fs.open(f"{folder}/{path}", "rb") as file:
            row = pq.ParquetFile(file).read_row_group(group).slice(index, 1).to_pylist()[0]
        link = _file_link(fs, folder, path, manifest)
    except SpuriousImagenetError:
        raise
    except Exception as error:  # a file system on the net raises what its own client does
        raise DataError(f"dataset {dataset} cannot be read: {one_line(error)}") from error
    return PublishedImage(row, manifest, path, link)


def _address(dataset: str) -> str:
    return f"hf://datasets/{dataset}" if "://" not in dataset and hub_repository(dataset) else dataset


def _manifest(fs: Any, folder: str, dataset: str) -> DatasetManifest | None:
    if not fs.isdir(folder):
        raise DataError(f"there is no dataset {dataset}.")
    if not fs.exists(f"{folder}/{MANIFEST}"):
        return None
    try:
        return DatasetManifest.model_validate_json(fs.cat_file(f"{folder}/{MANIFEST}"))
    except ValueError as error:
        raise DataError(f"{MANIFEST} of {dataset} is not of this schema: {one_line(error)}") from None


def _tables(fs: Any, folder: str, manifest: DatasetManifest | None) -> list[str]:
    if manifest is not None:
        return [file.path for file in manifest.files]
    prefix = fs._strip_protocol(folder).rstrip("/") + "/"
    return sorted(p.removeprefix(prefix) for p in fs.find(folder) if p.endswith(".parquet"))


def _matches(
    fs: Any, folder: str, tables: Iterable[str], wanted: str, concept: str | None
) -> Iterator[tuple[str, int, int, str, str]]:
    """Yield file, row group, row, hash and concept of every image that is meant."""
    for path in tables:
        with fs.open(f"{folder}/{path}", "rb") as file:
            table = pq.ParquetFile(file)
            if not set(table.schema_arrow.names) >= _COLUMNS:
                continue
            for group in range(table.num_row_groups):
                found = table.read_row_group(group, ["sha256", "concept_id"])
                for index, (sha256, of) in enumerate(zip(*(c.to_pylist() for c in found.columns), strict=True)):
                    if sha256.startswith(wanted) and concept in (None, of):
                        yield path, group, index, sha256, of


def _one(
    places: Sequence[tuple[str, int, int, str, str]], wanted: str, dataset: str, manifest: DatasetManifest | None
) -> tuple[str, int, int]:
    hashes, concepts = sorted({p[3] for p in places}), sorted({p[4] for p in places})
    if not places:
        gone = [r for r in (manifest.retired if manifest else ()) if r.sha256.startswith(wanted)]
        why = f": it was taken back in version {gone[0].since}, {gone[0].reason}" if gone else ""
        raise DataError(f"no image of {dataset} has a SHA-256 that begins with {wanted}{why}.")
    if len(hashes) > 1:
        raise DataError(f"{len(hashes)} images of {dataset} begin with {wanted}, such as {hashes[0]} and {hashes[1]}.")
    if len(places) > 1:
        raise DataError(f"image {hashes[0][:12]} is published for {', '.join(concepts)}: say which by --concept.")
    return places[0][:3]


def _file_link(fs: Any, folder: str, path: str, manifest: DatasetManifest | None) -> Link:
    if manifest is None:
        return Link.unchecked("file", path, f"the dataset has no {MANIFEST} that says its hash")
    listed = next(f for f in manifest.files if f.path == path)
    claim = f"{path} with SHA-256 {listed.sha256}"
    if not isinstance(fs, LocalFileSystem):
        return Link.unchecked("file", claim, "only the image's row was fetched")
    with fs.open(f"{folder}/{path}", "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Link.compared("file", claim, digest == listed.sha256, f"the file has {digest}")
