"""Checking a dataset's Croissant file, by mlcroissant and against the dataset's files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.data_cards.croissant import CROISSANT, the_library, the_library_quiet
from spurious_imagenet.errors import one_line
from spurious_imagenet.io import sha256_file, write_json

__all__ = ["check_croissant"]

#: Rows of each file that the check reads: mlcroissant would hold a whole file in memory.
_READ_ROWS = 5


@the_library_quiet()
def check_croissant(folder: str | Path) -> list[str]:
    """Say everything that is wrong with a dataset's Croissant file; an empty list means nothing is.

    mlcroissant's errors *and* warnings count. Hashes and sizes are compared with the files, and the first rows of every
    config are read through the description.

    Args:
        folder: The dataset.
    """
    root = Path(folder)
    mlc = the_library()
    try:
        described = mlc.Dataset(jsonld=str(root / CROISSANT))
    except Exception as error:  # whatever the library says of a file of any content is the finding
        return [f"{CROISSANT}: {' '.join(str(error).split())}"]
    issues = described.metadata.ctx.issues
    found = sorted(issues.errors) + sorted(issues.warnings)
    found += [problem for file in described.metadata.file_objects for problem in _file_problems(root, file)]
    return found or _unreadable(mlc, root, described)


def _file_problems(root: Path, file: Any) -> Iterator[str]:
    url = str(file.content_url)
    path = root / url
    if url.startswith("/") or ":" in url or ".." in Path(url).parts:
        yield f"file {url!r} has an address of its own: expected a path inside the dataset."
    elif not path.is_file():
        yield f"file {url!r} is missing."
    elif sha256_file(path) != file.sha256:
        yield f"file {url!r} has another SHA-256 than {CROISSANT} says."


def _unreadable(mlc: Any, root: Path, described: Any) -> list[str]:
    found = []
    with _excerpt(root, described) as folder:
        dataset = mlc.Dataset(jsonld=str(folder / CROISSANT))
        for record_set in dataset.metadata.record_sets:
            wanted = {field.id for field in record_set.fields}
            expected = _rows_of(folder, described, record_set)
            try:
                records = list(dataset.records(record_set.id))
            except Exception as error:  # as above
                found.append(f"record set {record_set.id!r} cannot be read: {one_line(error, 300)}")
                continue
            if len(records) != expected or any(set(record) != wanted for record in records):
                found.append(f"record set {record_set.id!r} gives other rows or columns than its files hold.")
    return found


def _rows_of(folder: Path, described: Any, record_set: Any) -> int:
    origins = {field.source.uuid for field in record_set.fields for field in (field.sub_fields or [field])}
    paths = {path for s in described.metadata.file_sets if s.id in origins for path in s.includes}
    paths |= {str(f.content_url) for f in described.metadata.file_objects if f.id in origins}
    return sum(pq.read_metadata(folder / path).num_rows for path in paths)


@contextmanager
def _excerpt(root: Path, described: Any) -> Iterator[Path]:
    """Yield a folder of the same description with the first rows of every file only, and their hashes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = json.loads((root / CROISSANT).read_text(encoding="utf-8"))
        hashes = {}
        for file in described.metadata.file_objects:
            path = folder / str(file.content_url)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(_first_rows(root / str(file.content_url)), path)
            hashes[file.id] = sha256_file(path)
        for entry in text["distribution"]:
            if entry["@id"] in hashes:
                entry["sha256"] = hashes[entry["@id"]]
        write_json(folder / CROISSANT, text)
        yield folder


def _first_rows(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as parquet:
        batch = next(parquet.iter_batches(batch_size=_READ_ROWS), None)
        return parquet.schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
