"""Images to look at: a published dataset's or a candidates folder's, in a cache beside neither."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.shards import ShardImages, StoredImage

__all__ = ["Gallery", "default_cache", "feature_map"]

#: Columns that a gallery shows, of datasets and candidates alike; those that are not there are left out.
_COLUMNS = (
    "class_id",
    "class_name",
    "concept_id",
    "component",
    "alpha",
    "rank",
    "status",
    "votes",
    "models",
    "verdicts",
    "key",
    "sha256",
    "width",
    "height",
)
_BATCH = 200


def default_cache() -> Path:
    """Return the user's cache folder for extracted images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spurious-imagenet" / "browse"


@dataclass(frozen=True)
class Gallery:
    """What is to be looked at.

    Attributes:
        source: The dataset's or the candidates' folder.
        tables: Its parquet files.
        kind: ``dataset`` or ``candidates``.
    """

    source: Path
    tables: tuple[Path, ...]
    kind: str

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Find out what a folder holds.

        Raises:
            DataError: It is neither a published dataset nor a candidates folder.
        """
        source = Path(path).resolve()
        if (source / "candidates.parquet").is_file():
            return cls(source, (source / "candidates.parquet",), "candidates")
        if tables := tuple(sorted(source.glob("data/*.parquet"))):
            return cls(source, tables, "dataset")
        raise DataError(f"{path} is neither a published dataset (data/*.parquet) nor a folder of `spurious mine`.")

    @property
    def identity(self) -> str:
        """Hexadecimal digits that change with the folder's place and content."""
        stats = [(table.name, table.stat().st_size, table.stat().st_mtime_ns) for table in self.tables]
        return hashlib.sha256(repr((str(self.source), stats)).encode()).hexdigest()[:20]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows to show, without the images' bytes.

        Raises:
            DataError: A table cannot be read, or lacks the images' hashes.
        """
        found = [row for table in self.tables for row in _read(table, _COLUMNS)]
        if found and "sha256" not in found[0]:
            raise DataError(f"{self.tables[0]} has no column sha256: it is not of this project.")
        return found

    def extract(
        self,
        folder: Path,
        *,
        shards: tuple[str, ...] = (),
        allow_pipe: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Path]:
        """Write the images' original bytes into a folder, once each; those that are there are not read again.

        Args:
            folder: Where to.
            shards: Where the shards of candidates are now, if they are not where the candidates say.
            allow_pipe: Run the command of a ``pipe:`` address of a shard.
            progress: Called with the number of images that are there.

        Returns:
            SHA-256 of an image → its file.

        Raises:
            DataError: A shard or table cannot be read, or an image's bytes are not those of its hash.
        """
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.stem: path for path in folder.iterdir() if len(path.stem) == 64}
        source = ShardImages(self.source, shards, since="it was mined", allow_pipe=allow_pipe)
        images = self._from_shards(there, source) if self.kind == "candidates" else self._from_tables(there)
        for sha256, name, data in images:
            if hashlib.sha256(data).hexdigest() != sha256:
                raise DataError(f"image {name} of {self.source} is not the one that was found: its SHA-256 differs.")
            there[sha256] = _write(folder / f"{sha256}{Path(name).suffix.lower()}", data)
            if progress:
                progress(len(there))
        return there

    def _from_tables(self, there: dict[str, Path]) -> Iterator[tuple[str, str, bytes]]:
        for table in self.tables:
            for row in _read(table, ("sha256", "image")):
                if row["sha256"] not in there:
                    yield row["sha256"], row["image"]["path"] or "image", row["image"]["bytes"]

    def _from_shards(self, there: dict[str, Path], source: ShardImages) -> Iterator[tuple[str, str, bytes]]:
        wanted: dict[str, dict[str, dict[str, Any]]] = {}
        for table in self.tables:
            for row in _read(table, ("sha256", "shard", "member", "offset", "size")):
                if row["sha256"] not in there:
                    wanted.setdefault(row["shard"], {})[row["sha256"]] = row
        for shard, rows in sorted(wanted.items()):
            images = [StoredImage(r["member"], r["offset"], r["size"], r["sha256"]) for r in rows.values()]
            for (sha256, row), data in zip(rows.items(), source.read(shard, images), strict=True):
                yield sha256, row["member"], data


def _read(table: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(table) as file:
            present = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(_BATCH, columns=present):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table} cannot be read: {error}") from error


def _write(path: Path, data: bytes) -> Path:
    # A cache: it must be whole, but need not outlive a power cut.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    return temporary.replace(path)


def feature_map(store: FeatureStore, hashes: list[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Lay images out in the plane by their features: the two first principal components.

    Args:
        store: Features of at least some of the images.
        hashes: SHA-256 of the images.

    Returns:
        Those of ``hashes`` that the store has, in its order and each once, and their (n, 2) places.

    Raises:
        DataError: The store has fewer than three of them.
    """
    wanted, found, features = {bytes.fromhex(h) for h in hashes}, list[str](), list[NDArray[np.float32]]()
    for part in store.parts:
        values = part.features()
        for place, sha256 in enumerate(part.rows(["sha256"]).column("sha256").to_pylist()):
            if sha256 in wanted:
                wanted.remove(sha256)
                found.append(sha256.hex())
                features.append(np.asarray(values[place], dtype=np.float32))
    if len(found) < 3:
        raise DataError(f"{store.path} has features of {len(found)} of these images: expected those of their pool.")
    places = PCA(2, random_state=0).fit_transform(np.stack(features))
    return found, places.astype(np.float64)
