"""What a store keeps in files: canonical submissions, versions, scores and withdrawals."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spurious_imagenet.datasets.manifest import Sha256
from spurious_imagenet.datasets.rankings import RankingsInfo
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.submission.table import SUBMISSION_SCHEMA, canonical
from spurious_imagenet.leaderboard.version import VersionInfo
from spurious_imagenet.records import Record

__all__ = [
    "Broken",
    "StoredVersion",
    "Withdrawal",
    "canonical_predictions",
    "content_sha256",
    "entry_id",
    "json_bytes",
    "now",
    "parquet_bytes",
    "sha256_bytes",
]


class Broken(NamedTuple):
    """A file that is not what it must be, and why; it is left out wherever it would count."""

    path: str
    reason: str


class Withdrawal(Record):
    """An entry that no longer counts; its files stay."""

    schema_version: int = 1
    entry: Sha256
    time: str
    """ISO 8601, UTC."""
    reason: str


class StoredVersion(Record):
    """The file that makes a version part of a store; it names the others, which are known by their hashes."""

    schema_version: int = 1
    info: VersionInfo
    files: dict[str, str]
    """``images``, ``rankings``, ``pictures`` -> file name, which holds the first digits of its SHA-256."""
    sha256: dict[str, Sha256]
    """The same -> SHA-256."""
    rankings: RankingsInfo | None = None


def sha256_bytes(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def json_bytes(record: Record) -> bytes:
    """Write a record so that equal ones give equal bytes."""
    return record.to_json().encode()


def now() -> str:
    """Return the time as records carry it: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parquet_bytes(table: pa.Table) -> bytes:
    """Write a table without metadata, so that equal tables give equal bytes."""
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer, compression="zstd")
    return buffer.getvalue()


def canonical_predictions(table: pd.DataFrame) -> pa.Table:
    """Return submitted predictions so that equal ones are equal, whatever form and order they came in.

    Raises:
        DataError: They lack a column, or hold what is not of its type.
    """
    try:
        ordered = canonical(table)
        ordered["probability"] = ordered["probability"].to_numpy(np.float64) + 0.0  # minus zero is zero
        return pa.Table.from_pandas(ordered, schema=SUBMISSION_SCHEMA, preserve_index=False)
    except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
        reason = one_line(error)
        raise DataError(f"predictions do not have the columns {SUBMISSION_SCHEMA.names}: {reason}.") from error


def content_sha256(table: pa.Table) -> str:
    """Return a hash over the values of predictions, column by column, whatever file they are in.

    Raises:
        KeyError: A column is missing.
        DataError: A value is missing.
    """
    digest = hashlib.sha256()
    for field in SUBMISSION_SCHEMA:
        digest.update(f"{field.name}\n{len(table)}\n".encode())
        for part in _parts(table[field.name].combine_chunks().cast(field.type)):
            digest.update(part)
    return digest.hexdigest()


def _parts(values: pa.Array) -> Iterator[bytes]:
    if values.null_count:
        raise DataError(f"predictions lack {values.null_count} values: expected a value in every place.")
    if pa.types.is_list(values.type):
        yield values.value_lengths().to_numpy().astype("<i4").tobytes()
        yield from _parts(values.flatten())
    elif pa.types.is_string(values.type):
        yield pc.binary_length(values).to_numpy().astype("<i4").tobytes()
        yield "".join(values.to_pylist()).encode()
    else:
        numbers = values.to_numpy()
        yield numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()


def entry_id(info: SubmissionInfo, content: str) -> str:
    """Return the id of the entry of this information and of predictions of this hash."""
    return sha256_bytes(f"{info.to_json()}{content}\n".encode())
