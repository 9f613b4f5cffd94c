"""Versions of the benchmark as files of a store."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.datasets.manifest import VersionName
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings
from spurious_imagenet.errors import StoreError, one_line
from spurious_imagenet.io import sha256_file
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.leaderboard.store.records import StoredVersion, json_bytes, parquet_bytes, sha256_bytes
from spurious_imagenet.leaderboard.version import IMAGES_SCHEMA, BenchmarkVersion

__all__ = ["Pictures", "read_pictures", "read_stored_version", "read_version", "version_order", "write_version"]

#: Keys such as ``image:<sha256>`` and ``board:<concept id>`` in ascending order, each with a JPEG.
Pictures = Iterable[tuple[str, bytes]]

_PICTURES_SCHEMA = pa.schema([("key", pa.string()), ("jpeg", pa.binary())])
#: Pictures a row group: reading one picture reads so many.
_GROUP = 32


def version_order(name: str) -> tuple[int, ...]:
    """Return what versions are sorted by: 1.10.0 comes after 1.9.0."""
    return tuple(map(int, name.split(".")))


def write_version(place: ObjectStore, version: BenchmarkVersion, pictures: Pictures = ()) -> None:
    """Write a version: its tables first, and last the file that makes it part of the store.

    Raises:
        StoreError: The store has other things under this version's name.
    """
    info, files, hashes = version.info, {}, {}
    tables = {"images": pa.Table.from_pandas(version.images, schema=IMAGES_SCHEMA, preserve_index=False)}
    if version.rankings is not None:
        ranked = version.rankings.table
        tables["rankings"] = pa.Table.from_pandas(ranked, schema=RANKINGS_SCHEMA, preserve_index=False)
    for name, table in tables.items():
        data = parquet_bytes(table)
        hashes[name] = sha256_bytes(data)
        files[name] = _file_name(name, hashes[name])
        place.write_once(_path(info.version, files[name]), data)
    with tempfile.TemporaryDirectory(prefix="spurious-pictures-") as folder:
        path = Path(folder) / "pictures.parquet"
        if _write_pictures(path, pictures):
            hashes["pictures"] = sha256_file(path)
            files["pictures"] = _file_name("pictures", hashes["pictures"])
            place.write_once(_path(info.version, files["pictures"]), path)
    made = None if version.rankings is None else version.rankings.info
    stored = StoredVersion(info=info, files=files, sha256=hashes, rankings=made)
    data = json_bytes(stored)
    path_of_all = _path(info.version, "version.json")
    if not place.write_once(path_of_all, data) and place.read(path_of_all) != data:
        raise StoreError(f"{place.name} has another version {info.version} already: expected a new version's name.")


def read_stored_version(place: ObjectStore, name: VersionName) -> StoredVersion:
    """Read what a version is made of.

    Raises:
        StoreError: There is no such version, or its file is torn.
    """
    path = _path(name, "version.json")
    try:
        return StoredVersion.model_validate_json(place.read(path))
    except FileNotFoundError:
        raise StoreError(f"{place.name} has no version {name!r}.") from None
    except ValueError as error:
        raise StoreError(f"{place.name}: {path} cannot be read: {one_line(error)}.") from error


def read_version(place: ObjectStore, name: VersionName) -> BenchmarkVersion:
    """Read a version.

    Raises:
        StoreError: There is no such version, or a file of it is missing or changed.
        DataError: Its images are not those that it names.
    """
    stored = read_stored_version(place, name)
    images = _read_table(place, stored, "images")
    rankings = None
    if stored.rankings is not None:
        rankings = Rankings(_read_table(place, stored, "rankings"), stored.rankings)
    return BenchmarkVersion(stored.info, images, rankings)


def read_pictures(place: ObjectStore, versions: Sequence[VersionName], keys: Sequence[str]) -> dict[str, bytes]:
    """Read some pictures of versions, the last one first, without reading the others; keys that all lack are left out.

    Raises:
        StoreError: A version is missing, or its pictures cannot be read.
    """
    found: dict[str, bytes] = {}
    for name in reversed(versions):
        if missing := [key for key in keys if key not in found]:
            found |= _own_pictures(place, read_stored_version(place, name), missing)
    return found


def _own_pictures(place: ObjectStore, stored: StoredVersion, keys: Sequence[str]) -> dict[str, bytes]:
    if "pictures" not in stored.files:
        return {}
    path = _path(stored.info.version, stored.files["pictures"])
    try:
        with place.open(path) as file:
            table = pq.read_table(file, filters=[("key", "in", sorted(set(keys)))])
    except (FileNotFoundError, pa.ArrowException) as error:
        raise StoreError(f"{place.name}: {path} cannot be read: {one_line(error)}.") from error
    return dict(zip(table["key"].to_pylist(), table["jpeg"].to_pylist(), strict=True))


def _write_pictures(path: Path, pictures: Pictures) -> int:
    rows, remaining = 0, iter(pictures)
    with pq.ParquetWriter(path, _PICTURES_SCHEMA, compression="none") as writer:
        while group := list(islice(remaining, _GROUP)):
            keys, data = zip(*group, strict=True)
            writer.write_table(pa.table([keys, data], schema=_PICTURES_SCHEMA))
            rows += len(group)
    return rows


def _read_table(place: ObjectStore, stored: StoredVersion, name: str) -> pd.DataFrame:
    path = _path(stored.info.version, stored.files[name])
    try:
        data = place.read(path)
    except FileNotFoundError:
        raise StoreError(f"{place.name}: {path} is missing.") from None
    if sha256_bytes(data) != stored.sha256[name]:
        raise StoreError(f"{place.name}: {path} changed since it was written: its SHA-256 is another.")
    table: pd.DataFrame = pq.read_table(io.BytesIO(data)).to_pandas()
    return table


def _file_name(name: str, sha256: str) -> str:
    return f"{name}-{sha256[:16]}.parquet"


def _path(version: str, file: str) -> str:
    return f"versions/{version}/{file}"
