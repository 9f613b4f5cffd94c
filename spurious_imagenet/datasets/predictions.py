"""Predictions: what one model said of every image of an evaluation, one row an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.io import atomic_path

__all__ = ["PREDICTIONS_SCHEMA", "Predictions", "Side", "ordered"]

Side = Literal["validation", "spurious"]

#: ``side``: validation images show their class, spurious ones only a spurious feature of it (``concept_id``).
#: ``sha256`` is hexadecimal, of the image file's bytes; ``probability`` that of ``class_id``; ``predicted_id`` the
#: class of the highest logit.
PREDICTIONS_SCHEMA = pa.schema(
    [
        ("side", pa.string()),
        ("class_id", pa.string()),
        ("concept_id", pa.string()),
        ("name", pa.string()),
        ("sha256", pa.string()),
        ("probability", pa.float64()),
        ("predicted_id", pa.string()),
        ("top5_id", pa.list_(pa.string())),
        ("top5_probability", pa.list_(pa.float32())),
    ]
)


def ordered(images: pd.DataFrame) -> pd.DataFrame:
    """Return rows of both sides in the order in which predictions are kept, which the images alone decide.

    Validation images come first; then by class, concept, hash and name.
    """
    marked = images.assign(_first=images["side"] == "spurious")
    order = ["_first", "class_id", "concept_id", "sha256", "name"]
    return marked.sort_values(order, kind="stable", ignore_index=True).drop(columns="_first")


@dataclass(frozen=True, eq=False)
class Predictions:
    """Per-image results of one model under one protocol.

    Attributes:
        table: One row an image, columns as in :data:`PREDICTIONS_SCHEMA`.

    Raises:
        DataError: A column is missing, or a probability is not in [0, 1].
    """

    table: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [name for name in PREDICTIONS_SCHEMA.names if name not in self.table.columns]
        if missing:
            raise DataError(f"predictions lack the columns {missing}: expected {PREDICTIONS_SCHEMA.names}.")
        probability = self.table["probability"].to_numpy(dtype=np.float64)
        bad = ~((probability >= 0) & (probability <= 1))
        if bad.any():
            row = int(bad.argmax())
            raise DataError(f"row {row} of the predictions has the probability {probability[row]}: expected 0 to 1.")

    def __len__(self) -> int:
        return len(self.table)

    def of(self, side: Side, class_id: str | None = None, concept_id: str | None = None) -> pd.DataFrame:
        """Return the rows of one side, of one class or concept of it where given."""
        mask = self.table["side"] == side
        if class_id is not None:
            mask &= self.table["class_id"] == class_id
        if concept_id is not None:
            mask &= self.table["concept_id"] == concept_id
        return self.table[mask]

    def ordered(self) -> Predictions:
        """Return them in the order of :func:`ordered`: what is computed from them then has the same bits."""
        return Predictions(ordered(self.table))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether each image was classified as its ``class_id``; for spurious images that is the error."""
        return np.asarray(self.table["predicted_id"] == self.table["class_id"], dtype=bool)

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]]) -> Predictions:
        """Make predictions of mappings with the schema's names."""
        return cls(pa.Table.from_pylist(list(rows), schema=PREDICTIONS_SCHEMA).to_pandas())

    def save(self, path: str | Path) -> None:
        """Write them as parquet, whole or not at all; equal predictions give equal bytes."""
        table = pa.Table.from_pandas(self.table, schema=PREDICTIONS_SCHEMA, preserve_index=False)
        with atomic_path(path) as temporary:
            pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> Predictions:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing, torn, or holds no predictions.
        """
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            reason = one_line(error)
            raise DataError(f"{path} is not a readable predictions file: {reason}") from error
        try:
            return cls(table.to_pandas())
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
