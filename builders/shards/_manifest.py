"""``shards.json``: what was packed, and the hashes by which a changed shard is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import Field

from spurious_imagenet.io import sha256_file
from spurious_imagenet.records import Record

MANIFEST_NAME = "shards.json"


class ShardRecord(Record):
    """One shard as it was written."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+\.tar$")
    """File name, in the manifest's own directory."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    samples: int = Field(ge=0)


class ShardManifest(Record):
    """All shards of one packing."""

    schema_version: Literal[1] = 1
    shards: tuple[ShardRecord, ...]
    samples: int
    label_space: str | None
    """What the ``.cls`` indices count in: ``imagenet-1k``, ``folders`` (sorted names), or None without classes."""
    classes: dict[str, int]
    """Class id -> the index in its samples' ``.cls``."""
    skipped: dict[str, int]
    """Files that were not packed, counted by reason; ``skipped.jsonl`` lists them."""
    without_metadata: int | None
    """Packed images that have no row in the metadata CSV; None where there was no CSV."""
    unused_rows: int | None = None
    """Rows of the metadata CSV of which the folder has no image; None where there was no CSV, or it was not counted."""
    types: dict[str, int] = {}
    """Ending of the images in the shards -> how many have it; empty where it was not counted."""

    @classmethod
    def load(cls, path: str | Path) -> ShardManifest:
        """Read a manifest from its file or its directory.

        Raises:
            DataError: It is missing or not a manifest.
        """
        return cls.read(_manifest_file(path), "a shard manifest")


def _manifest_file(path: str | Path) -> Path:
    return Path(path) / MANIFEST_NAME if Path(path).is_dir() else Path(path)


def verify_manifest(path: str | Path, *, progress: Callable[[ShardRecord], None] | None = None) -> list[str]:
    """Compare shards with their manifest, byte for byte (by SHA-256).

    Args:
        path: The manifest, or the directory that holds it beside its shards.
        progress: Called after each shard.

    Returns:
        One sentence a problem; empty where every shard is as it was written and no other tar lies beside them.

    Raises:
        DataError: The manifest is missing or not one.
    """
    manifest = ShardManifest.load(path)
    directory = _manifest_file(path).parent
    problems = []
    for record in manifest.shards:
        if problem := _problem(directory / record.name, record):
            problems.append(problem)
        if progress is not None:
            progress(record)
    names = {record.name for record in manifest.shards}
    extra = sorted(file.name for file in directory.glob("*.tar") if file.name not in names)
    problems += [f"{name}: is not in the manifest." for name in extra]
    if manifest.samples != sum(record.samples for record in manifest.shards):
        problems.append(f"the manifest counts {manifest.samples} samples, but its shards add up to another number.")
    return problems


def _problem(file: Path, record: ShardRecord) -> str | None:
    try:
        size, sha256 = file.stat().st_size, sha256_file(file)
    except OSError as error:
        return f"{record.name}: cannot be read ({error.strerror})."
    if size != record.bytes:
        return f"{record.name}: has {size} bytes, expected {record.bytes}."
    if sha256 != record.sha256:
        return f"{record.name}: its content has changed, the SHA-256 is not the manifest's."
    return None
