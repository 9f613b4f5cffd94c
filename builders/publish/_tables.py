"""Writing a published dataset's parquet files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.datasets.manifest import DataFile
from spurious_imagenet.io import sha256_file

#: Rows a row group at most, what the Hub's viewer reads at once; and bytes of images, what memory holds.
ROW_GROUP, _ROW_GROUP_BYTES = 100, 64 << 20


def write_table(
    root: Path, folder: str, config: str, split: str, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]
) -> DataFile:
    """Write one split of one config as one parquet file, whose name carries the hash of its bytes.

    ``datasets`` caches what it has read under the folder's last name and the files' names alone: two datasets of the
    same names, or an old and a new version in one place, would otherwise be taken for each other.

    Args:
        root: The dataset's folder.
        folder: Where in it.
        config: Name of the config.
        split: Name of the split.
        schema: Columns, with the metadata that ``datasets`` reads features from.
        rows: Read once.
    """
    (root / folder).mkdir(exist_ok=True)
    unnamed = root / folder / "unnamed.parquet"
    with pq.ParquetWriter(unnamed, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=ROW_GROUP)
    named = unnamed.rename(unnamed.with_name(f"{split}-00000-of-00001-{sha256_file(unnamed)[:16]}.parquet"))
    return describe_file(root, named, config, split)


def copy_table(root: Path, source: Path, config: str, split: str) -> DataFile:
    """Copy a parquet file, byte for byte and under its name, to the dataset's ``data``."""
    (root / "data").mkdir(exist_ok=True)
    target = root / "data" / source.name
    target.write_bytes(source.read_bytes())
    return describe_file(root, target, config, split)


def describe_file(root: Path, path: Path, config: str, split: str) -> DataFile:
    """Return what the manifest says of a file."""
    return DataFile(
        config=config,
        split=split,
        path=path.relative_to(root).as_posix(),
        rows=pq.read_metadata(path).num_rows,
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
    )


def public_date(time: str | None) -> str | None:
    """Return the day of a time: the hour at which somebody worked is nobody's business."""
    return None if time is None else time[:10]


def sha256_text(lines: Iterable[str]) -> str:
    """Hash lines of text in their order."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    group: list[Mapping[str, Any]] = []
    size = 0
    for row in rows:
        own = sum(len(v["bytes"] or b"") for v in row.values() if isinstance(v, dict) and "bytes" in v)
        if group and (len(group) == ROW_GROUP or size + own > _ROW_GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(row)
        size += own
    if group:
        yield group
