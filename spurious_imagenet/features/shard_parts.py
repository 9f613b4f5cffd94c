"""Which part of a feature store is a shard's: known by its bytes, wherever it lies and whatever it is called."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from spurious_imagenet.errors import StoreError
from spurious_imagenet.features._parts import FeaturePart
from spurious_imagenet.io import sha256_file
from spurious_imagenet.shards.remote import local_path

__all__ = ["ShardParts", "changed"]


class ShardParts:
    """The parts of a store, by their shards.

    A local shard that lies where it was seen last, with the size and the time of change that it had then, is taken for
    the same. Any other one is hashed, unless no part is of a shard of its size. A shard that is not local is known by
    its address.

    Args:
        parts: The finished parts.

    Attributes:
        hashed: SHA-256 of the shards that were hashed, by their path.
        hashed_bytes: Bytes that were read for it.
    """

    def __init__(self, parts: Iterable[FeaturePart]) -> None:
        self.hashed: dict[Path, str] = {}
        self.hashed_bytes = 0
        self._at: dict[str, FeaturePart] = {}
        self._of_size: dict[int, dict[str, FeaturePart]] = {}
        for part in parts:
            self.add(part)

    def add(self, part: FeaturePart) -> None:
        """Take up a part that was written, or whose shard was found elsewhere."""
        self._at[self.place(part.shard)] = part
        self._of_size.setdefault(part.receipt.shard_bytes, {})[part.path.name] = part

    def find(self, shard: str) -> FeaturePart | None:
        """Return the part of a shard, or None where it has none.

        Raises:
            StoreError: A shard of other bytes, which has a part, lay at this address before.
        """
        own, path = self._at.get(self.place(shard)), local_path(shard)
        if path is None or not path.is_file():
            return own
        found = path.stat()
        if own is not None and own.receipt.shard_bytes == found.st_size and own.changed_at == found.st_mtime_ns:
            return own
        same = self._of_size.get(found.st_size, {})
        digest = self._sha256(path, found.st_size) if same else ""
        equal = [part for part in same.values() if part.receipt.shard_sha256 == digest]
        if equal:
            return self._remember(own if own in equal else equal[0], shard, found.st_mtime_ns)
        if own is not None:
            raise changed(own, shard)
        return None

    def with_bytes_of(self, other: FeaturePart) -> FeaturePart | None:
        """Return the part of the same shard as that of another store's part, or None."""
        same = self._of_size.get(other.receipt.shard_bytes, {}).values()
        return next((part for part in same if part.receipt.shard_sha256 == other.receipt.shard_sha256), None)

    @staticmethod
    def place(shard: str) -> str:
        """Return one spelling of a local address, whatever links lead to it; others are as they are."""
        path = local_path(shard)
        return shard if path is None else os.path.realpath(path)

    def _sha256(self, path: Path, size: int) -> str:
        if path not in self.hashed:
            self.hashed[path] = sha256_file(path)
            self.hashed_bytes += size
        return self.hashed[path]

    def _remember(self, part: FeaturePart, shard: str, mtime_ns: int) -> FeaturePart:
        """Write down where the shard is, unless it is a copy of one that is still where it was."""
        there = local_path(part.shard)
        if there is not None and there.is_file() and self.place(part.shard) != self.place(shard):
            return part
        try:
            part = part.saw(shard, mtime_ns)
        except OSError:  # a store that cannot be written to is none the worse: the shard is hashed the next time too
            return part
        self.add(part)
        return part


def changed(part: FeaturePart, shard: str) -> StoreError:
    """Say that other bytes lie where a part's shard was, and what to do."""
    made, path = part.receipt, local_path(shard)
    size = path.stat().st_size if path is not None and path.is_file() else made.shard_bytes
    if any(reject.key.startswith("byte ") and " is damaged at " in reject.reason for reject in made.rejects):
        return StoreError(
            f"{shard} has {size} bytes, but {made.shard_bytes} when it was scored, damaged, with --salvage: to score "
            f"this one in its place, delete {part.path} and rerun."
        )
    what = (
        f"{shard} has changed since it was scored: its SHA-256 is not the receipt's"
        if size == made.shard_bytes
        else f"{shard} has {size} bytes, but {made.shard_bytes} when it was scored: it has changed"
    )
    return StoreError(
        f"{what}; put the shard back that was scored, or delete {part.path} and rerun to score this one in its place."
    )
