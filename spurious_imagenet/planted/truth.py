"""What is true of a planted world, as its files say it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from spurious_imagenet.errors import DataError

__all__ = ["PlantedTruth", "TruePair"]

_COLUMNS = ("split", "file", "mask", "sha256", "class_id", "cues", "own_cue")


@dataclass(frozen=True)
class TruePair:
    """A cue that was planted beside a class's object.

    Attributes:
        class_id: The class.
        cue: The cue.
        share: Share of the class's training images that show the cue.
    """

    class_id: str
    cue: str
    share: float


@dataclass(frozen=True, eq=False)
class PlantedTruth:
    """The truth of a planted world.

    Attributes:
        table: One row per image, indexed by the SHA-256 (hexadecimal) of its bytes: ``split``, ``file``, ``mask``,
            ``class_id`` (the label; in the pool that of the object, None without one), ``cues``, ``own_cue`` and
            ``shown_class_id`` (the class whose object the image shows; another one where the label is wrong).
        pairs: What was planted.
    """

    table: pd.DataFrame
    pairs: tuple[TruePair, ...]

    @classmethod
    def load(cls, world: str | Path) -> PlantedTruth:
        """Read the truth of a world that ``write_world`` wrote.

        Raises:
            DataError: The folder is not a planted world, or its truth is torn.
        """
        folder = Path(world) / "truth"
        try:
            about = json.loads((folder / "world.json").read_text(encoding="utf-8"))
            pairs = tuple(TruePair(**pair) for pair in about["pairs"])
            file = pq.ParquetFile(folder / "truth.parquet")
            told = [*_COLUMNS, *(c for c in ("shown_class_id",) if c in file.schema_arrow.names)]
            rows = file.read(columns=told).to_pylist()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{world} is not a readable planted world: {error}") from error
        table = pd.DataFrame(rows, columns=told, dtype=object).set_index("sha256")
        if "shown_class_id" not in table:
            table["shown_class_id"] = table["class_id"]
        if not table.index.is_unique:
            raise DataError(f"{folder / 'truth.parquet'} lists an image twice: expected each image's bytes once.")
        return cls(table, pairs)

    def mislabelled(self) -> pd.DataFrame:
        """Return the rows of images whose label is wrong."""
        labelled = self.table[self.table["split"] != "pool"]
        return labelled[labelled["class_id"] != labelled["shown_class_id"]]

    def pool(self) -> pd.DataFrame:
        """Return the rows of the unlabelled pool."""
        return self.table[self.table["split"] == "pool"]
