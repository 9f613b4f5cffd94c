"""One shard's part of a feature store: its rows, its features, and where its shard was seen last."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import sha256_file
from spurious_imagenet.records import Record
from spurious_imagenet.shards.remote import local_path

SCHEMA_VERSION = 1

#: Hexadecimal digits of a local shard's hash in the name of its part: shards of one file name stay apart by them.
_HASH_DIGITS = 16

#: One row per image. ``offset`` and ``size`` locate its bytes in the tar, ``meta_offset`` and ``meta_size`` its JSON.
ROW_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("meta_offset", pa.int64()),
        ("meta_size", pa.int64()),
        ("sha256", pa.binary(32)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("class_id", pa.string()),
        ("label", pa.int32()),
        ("top5_index", pa.list_(pa.int32(), 5)),
        ("top5_probability", pa.list_(pa.float32(), 5)),
    ]
)


class Reject(Record):
    """One thing in a shard that got no features, and why."""

    key: str
    reason: str


class PartReceipt(Record):
    """What became of one shard."""

    schema_version: int = SCHEMA_VERSION
    shard: str
    """Where the shard was read from; :attr:`FeaturePart.shard` is where it was found last."""
    shard_sha256: str
    shard_bytes: int
    samples: int
    """Samples the tar holds: ``scored + len(rejects)``."""
    scored: int
    rejects: tuple[Reject, ...]
    label_problems: tuple[Reject, ...] = ()
    """Scored images whose label cannot be used or contradicts itself, and why."""
    turned: int | None = None
    """Of the scored images, those with an EXIF orientation that is not applied here; None in a store of before."""
    config_sha256: str
    features_sha256: str
    rows_sha256: str
    versions: dict[str, str]


class SeenShard(Record):
    """Where a part's shard was found last, in ``shard.json``.

    Unlike the receipt it says nothing of the content, and changes as the shard is moved: without it, or where the time
    is another, the shard is hashed again.
    """

    schema_version: int = SCHEMA_VERSION
    shard: str
    mtime_ns: int
    """When the shard was changed last, as its file system has it."""


def part_name(shard: str, shard_sha256: str) -> str:
    """Name a shard's part: its file name without extension, and a hash.

    The hash is that of a local shard's bytes, which stay the same wherever it is moved, and of another one's address.
    """
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in shard.rsplit("/", 1)[-1])
    address = hashlib.sha256(shard.encode()).hexdigest()[:8]
    mark = address if local_path(shard) is None else shard_sha256[:_HASH_DIGITS]
    return f"{stem.removesuffix('.tar')[:80]}-{mark}"


@dataclass(frozen=True)
class FeaturePart:
    """The features of one shard."""

    path: Path

    @cached_property
    def receipt(self) -> PartReceipt:
        """The part's receipt."""
        return PartReceipt.read(self.path / "receipt.json", "a part's receipt", StoreError)

    @cached_property
    def seen(self) -> SeenShard | None:
        """Where the shard was found last; None where that was never written down."""
        try:
            return SeenShard.model_validate_json((self.path / "shard.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it only saves reading the shard once more
            return None

    @property
    def shard(self) -> str:
        """The address at which the shard was found last."""
        return self.receipt.shard if self.seen is None else self.seen.shard

    @property
    def changed_at(self) -> int | None:
        """When the shard was changed last, in nanoseconds as its file system has it; None where that is not known."""
        return None if self.seen is None else self.seen.mtime_ns

    def saw(self, shard: str, mtime_ns: int) -> FeaturePart:
        """Write down where the shard was found; return the part that says so."""
        SeenShard(shard=shard, mtime_ns=mtime_ns).write(self.path / "shard.json")
        return FeaturePart(self.path)

    def __len__(self) -> int:
        return self.receipt.scored

    def features(self) -> NDArray[np.float16]:
        """Return the (n, D) float16 features, memory-mapped where there are any.

        Raises:
            StoreError: The file is missing, torn or of another length.
        """
        file = self.path / "features.npy"
        try:
            # an empty file cannot be mapped
            features = np.load(file, mmap_mode="r" if len(self) else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise StoreError(f"{file} cannot be read: {error}") from error
        if len(features) != len(self):
            raise StoreError(f"{file} holds {len(features)} images: expected {len(self)}, as its receipt says.")
        return np.asarray(features)

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the part's rows (see :data:`ROW_SCHEMA`), all columns or the named ones.

        Raises:
            StoreError: The file is missing or torn.
        """
        file = self.path / "rows.parquet"
        try:
            return pq.read_table(file, columns=list(columns) if columns else None)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{file} cannot be read: {error}") from error

    def check(self) -> None:
        """Compare the part's files with the hashes in its receipt.

        Raises:
            StoreError: A file changed since it was written.
        """
        for name, expected in (
            ("features.npy", self.receipt.features_sha256),
            ("rows.parquet", self.receipt.rows_sha256),
        ):
            if sha256_file(self.path / name) != expected:
                raise StoreError(
                    f"{self.path / name} has changed since it was written: its SHA-256 is not the receipt's."
                )
