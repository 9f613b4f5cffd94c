"""FeatureStore: penultimate features of a pool of images, one part per shard.

Each part is a directory that appears in one rename, so it is there whole or not at all:

    store.json                       what made the features (model, weights, preprocessing); a rerun must match it
    parts/<shard>-<hash of url>/
        features.npy                 (n, D) float16, memory-mapped when read
        rows.parquet                 one row an image, in the order of the features
        receipt.json                 counts, rejects with reasons, hashes of input and outputs
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import atomic_directory, canonical_json, is_unused, remove_leftovers, sha256_file, write_json

__all__ = ["ROW_SCHEMA", "FeaturePart", "FeatureStore", "PartReceipt", "Reject", "StoreConfig", "part_name"]

SCHEMA_VERSION = 1

#: One row an image. ``offset`` and ``size`` locate its bytes in the tar, ``meta_offset`` and ``meta_size`` its JSON.
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


class Reject(BaseModel):
    """One thing in a shard that got no features, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    reason: str


class StoreConfig(BaseModel):
    """What made a store's features; equal configurations give interchangeable features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    model: str
    weights_sha256: str
    label_space: str
    class_ids: tuple[str, ...]
    feature_dim: int
    preprocess: dict[str, Any]
    dtype: str = "float16"

    @property
    def sha256(self) -> str:
        """Hash of everything that changes the features (where the weights were found does not)."""
        content = self.model_dump(mode="json", exclude={"model"})
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()


class PartReceipt(BaseModel):
    """What became of one shard."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    shard: str
    """Where the shard was read from."""
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


def part_name(shard: str) -> str:
    """Name a shard's part: its file name without extension, and a hash of its whole address."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in shard.rsplit("/", 1)[-1])
    return f"{stem.removesuffix('.tar')[:80]}-{hashlib.sha256(shard.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class FeaturePart:
    """The features of one shard."""

    path: Path

    @cached_property
    def receipt(self) -> PartReceipt:
        """The part's receipt."""
        try:
            return PartReceipt.model_validate_json((self.path / "receipt.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path}/receipt.json cannot be read: {error}") from error

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


class FeatureStore:
    """Features of many shards by one model, read part by part."""

    def __init__(self, path: str | Path, config: StoreConfig) -> None:
        self.path = Path(path)
        self.config = config

    @classmethod
    def create(cls, path: str | Path, config: StoreConfig) -> FeatureStore:
        """Make a store, or open the one that is there if ``config`` made it.

        Raises:
            StoreError: The directory holds a store of another configuration, or something else.
        """
        root = Path(path)
        if (root / "store.json").exists():
            store = cls.open(root)
            changed = [
                name
                for name in StoreConfig.model_fields
                if name != "model" and getattr(store.config, name) != getattr(config, name)
            ]
            if changed:
                raise StoreError(
                    f"{root} was made with another configuration ({', '.join(changed)} differ): "
                    "resume with the same model and options, or write to another directory."
                )
        elif not is_unused(root):
            raise StoreError(f"{root} is not empty and not a feature store: expected a new directory.")
        else:
            write_json(root / "store.json", config.model_dump(mode="json"))
        (root / "parts").mkdir(exist_ok=True)
        remove_leftovers(root)
        remove_leftovers(root / "parts")
        return cls(root, config)

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Open a store for reading.

        Raises:
            StoreError: There is none at ``path``, or its schema is another.
        """
        file = Path(path) / "store.json"
        if not file.is_file():
            raise StoreError(f"{path} is not a feature store: store.json is missing.")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            config = StoreConfig.model_validate(content)
        except ValueError as error:
            raise StoreError(f"{file} cannot be read: {error}") from error
        if config.schema_version != SCHEMA_VERSION:
            raise StoreError(f"{file} has schema {config.schema_version}: expected {SCHEMA_VERSION}.")
        return cls(path, config)

    @property
    def parts(self) -> tuple[FeaturePart, ...]:
        """The finished parts, ordered by name, whatever the order they were made in."""
        return tuple(
            FeaturePart(p.parent) for p in sorted(self.path.glob("parts/*/receipt.json")) if p.parent.name[0] != "."
        )

    def part(self, shard: str) -> FeaturePart | None:
        """Return the part of ``shard``, or None where it is not finished."""
        path = self.path / "parts" / part_name(shard)
        return FeaturePart(path) if (path / "receipt.json").is_file() else None

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def write_part(
        self,
        *,
        shard: str,
        shard_sha256: str,
        shard_bytes: int,
        features: NDArray[np.float16],
        rows: pa.Table,
        rejects: Iterable[Reject],
        versions: dict[str, str],
        label_problems: Iterable[Reject] = (),
        turned: int | None = None,
    ) -> FeaturePart:
        """Write one shard's part, whole or not at all.

        Args:
            shard: The shard's address.
            shard_sha256: Hash of the shard's bytes.
            shard_bytes: Size of the shard.
            features: (n, D) float16.
            rows: n rows of :data:`ROW_SCHEMA`.
            rejects: What got no features.
            versions: Versions of the libraries that made the features.
            label_problems: Scored images whose label cannot be used, and why.
            turned: Scored images with an orientation that is not applied; None where nobody counted.
        """
        path = self.path / "parts" / part_name(shard)
        refused = tuple(rejects)
        with atomic_directory(path) as directory:
            # Written by way of memory: numpy reports a full disk without saying that the disk is full.
            content = io.BytesIO()
            np.save(content, features, allow_pickle=False)
            (directory / "features.npy").write_bytes(content.getbuffer())
            pq.write_table(rows.cast(ROW_SCHEMA), directory / "rows.parquet", compression="zstd")
            receipt = PartReceipt(
                shard=shard,
                shard_sha256=shard_sha256,
                shard_bytes=shard_bytes,
                samples=len(features) + len(refused),
                scored=len(features),
                rejects=refused,
                label_problems=tuple(label_problems),
                turned=turned,
                config_sha256=self.config.sha256,
                features_sha256=sha256_file(directory / "features.npy"),
                rows_sha256=sha256_file(directory / "rows.parquet"),
                versions=versions,
            )
            (directory / "receipt.json").write_text(canonical_json(receipt.model_dump(mode="json")), encoding="utf-8")
        return FeaturePart(path)
