"""A published dataset of spurious images as a version of the benchmark needs it: images, columns, manifest, boards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.datasets.manifest import DatasetManifest, SelectionModel, manifest_of
from spurious_imagenet.datasets.spurious import SpuriousDataset, open_dataset
from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.leaderboard.version import IMAGES_SCHEMA

_SPURIOUS, _CONCEPTS, _SPLIT = "spurious", "concepts", "test"


@dataclass(frozen=True, eq=False)
class PublishedDataset:
    """A dataset that ``spurious publish`` wrote.

    Attributes:
        source: Its folder, or its id on the Hub.
        manifest: What it says of itself; None in datasets of older code.
        table: A ``datasets.Dataset`` of its images, not decoded.
    """

    source: str
    manifest: DatasetManifest | None
    table: Any

    @classmethod
    def open(cls, source: str | Path) -> PublishedDataset:
        """Open a folder, or a dataset on the Hub.

        Raises:
            DataError: There is none, it holds no spurious images, or it lacks a column.
        """
        from datasets import Image

        manifest = manifest_of(source)
        if manifest is not None and manifest.kind != "spurious-images":
            raise DataError(f"dataset {source} holds {manifest.kind}: expected spurious images.")
        config = _SPURIOUS if manifest is not None else None
        table = open_dataset(source, config=config, split=_split(manifest, _SPURIOUS))
        SpuriousDataset(table)  # refuses a table without images or without the columns that evaluation reads
        return cls(str(source), manifest, table.cast_column("image", Image(decode=False)))

    def rows(self) -> pa.Table:
        """Return one row per image, columns of :data:`IMAGES_SCHEMA`, hashes taken of the images' bytes.

        Raises:
            DataError: An image has another hash than the dataset says.
        """
        known = [n for n in IMAGES_SCHEMA.names if n in self.table.column_names]
        found = self.table.select_columns(known).with_format("arrow")[:]
        hashes = [hashlib.sha256(self.image(row)).hexdigest() for row in range(len(self.table))]
        if "sha256" in known and (said := found["sha256"].to_pylist()) != hashes:
            row = next(i for i, pair in enumerate(zip(said, hashes, strict=True)) if pair[0] != pair[1])
            raise DataError(
                f"dataset {self.source}: row {row} says SHA-256 {str(said[row])[:12]}, "
                f"its image has {hashes[row][:12]}."
            )
        own = {
            "side": pa.array(["spurious"] * len(hashes)),
            "name": pa.array([f"row {row}" for row in range(len(hashes))]),
            "sha256": pa.array(hashes),
        }
        columns = [
            own.get(field.name, found[field.name].cast(field.type) if field.name in known else None)
            for field in IMAGES_SCHEMA
        ]
        empty = [pa.nulls(len(hashes), field.type) for field in IMAGES_SCHEMA]
        return pa.table([e if c is None else c for c, e in zip(columns, empty, strict=True)], schema=IMAGES_SCHEMA)

    def image(self, row: int) -> bytes:
        """Return the bytes of one image."""
        return _bytes(self.table[row]["image"])

    @cached_property
    def miners(self) -> tuple[SelectionModel, ...]:
        """The models that chose the images; of older datasets the weights are not known."""
        if self.manifest is not None:
            return self.manifest.miners
        if "models" not in self.table.column_names or not self.table[0]["models"]:
            return ()
        names = [m["model"] for m in self.table.select_columns(["models"])[0]["models"]]
        return tuple(
            SelectionModel(model=name, role="voter" if place else "scorer") for place, name in enumerate(names)
        )

    def concept_names(self) -> dict[str, str]:
        """Return what people call the concepts, where they do."""
        table = self._concepts()
        if table is None or "name" not in table.column_names:
            return {}
        pairs = zip(table["concept_id"][:], table["name"][:], strict=True)
        return {concept: name for concept, name in pairs if name}

    def boards(self, folder: str | Path | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield concepts with the image files of their boards.

        Args:
            folder: Written by ``spurious boards``; the dataset's own boards if left out.

        Raises:
            DataError: The folder holds no boards, or one cannot be read.
        """
        if folder is not None:
            wanted = set(self.table["concept_id"][:])
            yield from ((concept, data) for concept, data in _boards_of_folder(Path(folder), wanted))
            return
        table = self._concepts()
        if table is not None and "board" in table.column_names:
            for row in table.select_columns(["concept_id", "board"]):
                if row["board"] is not None:
                    yield row["concept_id"], _bytes(row["board"])

    def _concepts(self) -> Any:
        from datasets import Image

        if self.manifest is None or not any(f.config == _CONCEPTS for f in self.manifest.files):
            return None
        table = open_dataset(self.source, config=_CONCEPTS, split=_split(self.manifest, _CONCEPTS))
        return table.cast_column("board", Image(decode=False)) if "board" in table.column_names else table


def _split(manifest: DatasetManifest | None, config: str) -> str:
    return next((f.split for f in manifest.files if f.config == config), _SPLIT) if manifest else _SPLIT


def _bytes(image: dict[str, Any]) -> bytes:
    data: bytes | None = image["bytes"]
    return data if data is not None else Path(image["path"]).read_bytes()


def _boards_of_folder(folder: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    try:
        table = pq.read_table(folder / "boards.parquet", columns=["concept_id", "png"])
        for concept, file in zip(table["concept_id"].to_pylist(), table["png"].to_pylist(), strict=True):
            if concept in wanted:
                yield concept, (folder / file).read_bytes()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{folder} holds no boards that can be read: {one_line(error)}") from error
