"""Entries as files of a store: the predictions first, and last the record that makes them an entry."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.errors import StoreError, one_line
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.leaderboard.store.records import (
    Broken,
    canonical_predictions,
    content_sha256,
    entry_id,
    json_bytes,
    parquet_bytes,
    sha256_bytes,
)
from spurious_imagenet.leaderboard.submission.read import Submission

_CHANGED = "it changed since it was written"


def entry_path(entry_id: str) -> str:
    """Return where the record of an entry is."""
    return f"entries/{entry_id[:2]}/{entry_id}.json"


def predictions_path(entry_id: str) -> str:
    """Return where the predictions of an entry are."""
    return f"entries/{entry_id[:2]}/{entry_id}.predictions.parquet"


def write_entry(place: ObjectStore, submission: Submission, received: str) -> tuple[Entry, bool]:
    """Write an entry, or what a killed writer left out of it; one that is there stays as it is.

    Returns:
        The entry, and whether it is new: if not, the one that is there may have come at another time.

    Raises:
        StoreError: It cannot be written, or there is a torn or changed file in its place.
    """
    table = canonical_predictions(submission.table)
    content = content_sha256(table)
    number, data = entry_id(submission.info, content), parquet_bytes(table)
    path = predictions_path(number)
    if not place.write_once(path, data):
        data = place.read(path)  # another version of the writing library gives the same predictions other bytes
        broken = _read(data, path, content)
        if isinstance(broken, Broken):
            raise StoreError(f"{place.name}: {broken.path}: {broken.reason}.")
    entry = Entry(
        id=number,
        info=submission.info,
        content_sha256=content,
        predictions_sha256=sha256_bytes(data),
        received=received,
    )
    return entry, place.write_once(entry_path(number), json_bytes(entry))


def parse_entry(path: str, data: bytes) -> Entry | Broken:
    """Read the record of an entry, and whether its id is that of what it says."""
    try:
        entry = Entry.model_validate_json(data)
    except ValueError as error:
        return Broken(path, f"it is not an entry: {one_line(error)}")
    found = entry_id(entry.info, entry.content_sha256 or entry.predictions_sha256)
    if not path == entry_path(found) == entry_path(entry.id):
        return Broken(path, f"{_CHANGED}: its contents have another hash than its name")
    return entry


def read_submitted(place: ObjectStore, entry: Entry) -> pa.Table | Broken:
    """Read an entry's predictions, as they were written."""
    path = predictions_path(entry.id)
    try:
        data = place.read(path)
    except FileNotFoundError:
        return Broken(path, "it is missing")
    if sha256_bytes(data) != entry.predictions_sha256:
        return Broken(path, f"{_CHANGED}: its SHA-256 is another")
    return _read(data, path, entry.content_sha256)


def _read(data: bytes, path: str, content: str | None) -> pa.Table | Broken:
    try:
        table = pq.read_table(io.BytesIO(data))
        if content is None or content_sha256(table) == content:
            return table
    except (ValueError, KeyError, pa.ArrowException):
        pass
    return Broken(path, f"{_CHANGED}: it does not hold the predictions that its name is of")
