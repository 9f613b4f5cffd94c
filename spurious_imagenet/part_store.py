"""Arrays and tables in parts, each a folder that one rename makes appear, with a receipt of what it holds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spurious_imagenet.io import atomic_directory, canonical_json, remove_leftovers, sha256_file
from spurious_imagenet.records import Record

__all__ = ["PartStore", "PartWriter", "config_sha256"]

_RECEIPT = "receipt.json"


@dataclass(frozen=True)
class PartWriter:
    """Writes the files of a part that is about to appear in ``path``."""

    path: Path

    def save(self, name: str, content: NDArray[Any] | pa.Table) -> str:
        """Write an array as ``.npy`` or a table as Parquet; return the SHA-256 of the file."""
        file = self.path / name
        if isinstance(content, pa.Table):
            pq.write_table(content, file, compression="zstd")
        else:
            # Written by way of memory: numpy reports a full disk without saying that the disk is full.
            buffer = io.BytesIO()
            np.save(buffer, content, allow_pickle=False)
            file.write_bytes(buffer.getbuffer())
        return sha256_file(file)

    def say(self, content: Record, name: str = _RECEIPT) -> None:
        """Write what is said of the part, as canonical JSON."""
        (self.path / name).write_text(content.to_json(), encoding="utf-8")


@dataclass(frozen=True)
class PartStore:
    """Parts in the folder ``parts`` of a store.

    Attributes:
        path: The store.
    """

    path: Path

    def prepare(self) -> None:
        """Make the folder of parts where it is missing; remove what a killed run left."""
        for folder in (self.path, self.path / "parts"):
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)

    @property
    def folders(self) -> list[Path]:
        """The finished parts, ordered by name, whatever the order they were made in."""
        return [r.parent for r in sorted(self.path.glob(f"parts/*/{_RECEIPT}")) if r.parent.name[0] != "."]

    def place(self, name: str) -> Path:
        """Return where a part is, or will be."""
        return self.path / "parts" / name

    @contextmanager
    def write(self, name: str) -> Iterator[PartWriter]:
        """Write a part, whole or not at all."""
        with atomic_directory(self.place(name)) as directory:
            yield PartWriter(directory)


def config_sha256(config: Record) -> str:
    """Hash everything that changes what a store holds (where the model's weights were found does not)."""
    return hashlib.sha256(canonical_json(config.model_dump(mode="json", exclude={"model"})).encode()).hexdigest()
