"""Raw records of a board, as files to download."""

from __future__ import annotations

from pydantic import BaseModel

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import canonical_json
from spurious_imagenet.leaderboard.pages.board import VersionBoard
from spurious_imagenet.leaderboard.store.records import sha256_bytes
from spurious_imagenet.leaderboard.store.store import Store


def record(model: BaseModel) -> bytes:
    """Write a record as JSON."""
    return model.model_dump_json().encode()


def entry_record(store: Store, entry_id: str) -> bytes | None:
    """Write an entry and what came out when it was run again; None if there is no such entry."""
    try:
        entry = store.entry(entry_id)
    except StoreError:
        return None
    verifications = [v.model_dump(mode="json") for v in store.verifications(entry_id)]
    return canonical_json({"entry": entry.model_dump(mode="json"), "verifications": verifications}).encode()


def entries_record(board: VersionBoard) -> bytes:
    """Write all entries with their scores on a version, without classes, which each entry's score has."""
    found = [
        {
            "entry": entry.model_dump(mode="json"),
            "verifications": [v.model_dump(mode="json") for v in board.verifications.get(entry_id, [])],
            "score": board.score(entry_id).model_dump(mode="json", exclude={"classes", "concepts"}),
        }
        for entry_id, entry in board.entries.items()
    ]
    return canonical_json({"version": board.name, "entries": found}).encode()


def version_record(board: VersionBoard) -> bytes:
    """Write what a version is made of, and its images by their hashes."""
    images = board.version.images[["side", "class_id", "concept_id", "sha256"]]
    rows = images.astype(object).where(images.notna(), None).values.tolist()
    return canonical_json(
        {
            "info": board.version.info.model_dump(mode="json"),
            "columns": list(images.columns),
            "images": rows,
        }
    ).encode()


def predictions_file(store: Store, entry_id: str) -> bytes:
    """Return the parquet of an entry's predictions, byte for byte as its hash says.

    Raises:
        StoreError: There is no such entry, or the file is missing or changed.
    """
    entry = store.entry(entry_id)
    try:
        data = store.place.read(f"entries/{entry_id[:2]}/{entry_id}.predictions.parquet")
    except FileNotFoundError:
        data = b""
    if sha256_bytes(data) != entry.predictions_sha256:
        raise StoreError(f"the predictions of entry {entry_id[:12]} are missing or changed since they were written.")
    return data
