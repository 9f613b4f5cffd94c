"""The folder of feature visualisations.

config.json                      what decides the images; a rerun must match it
<class index>/
    <component>.png              the image
    npfv.parquet                 one row per concept: NPFV_SCHEMA
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.errors import StoreError

#: One row per concept. ``file`` is relative to the visualisations' folder; ``objective`` and ``start_objective``: the
#: concept's score of the image and of the grey image; ``confidence``: softmax probability of the class at the image;
#: ``chosen_rank``: 1 for the most confident of the class, null where not chosen.
NPFV_SCHEMA = pa.schema(
    [
        ("concept_id", pa.string()),
        ("class_index", pa.int32()),
        ("component", pa.int32()),
        ("file", pa.string()),
        ("objective", pa.float32()),
        ("start_objective", pa.float32()),
        ("confidence", pa.float32()),
        ("chosen", pa.bool_()),
        ("chosen_rank", pa.int32()),
    ]
)


@dataclass(frozen=True, eq=False)
class NpfvStore:
    """A folder of feature visualisations.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> NpfvStore:
        """Open what ``make_npfvs`` wrote; classes may be missing.

        Raises:
            StoreError: It is no such folder.
        """
        if not (Path(path) / "config.json").is_file() or not any(Path(path).glob("*/npfv.parquet")):
            raise StoreError(f"{path} holds no feature visualisations: expected what `spurious npfv` wrote.")
        return cls(Path(path))

    @cached_property
    def _table(self) -> pd.DataFrame:
        parts = sorted(self.path.glob("[0-9]*/npfv.parquet"))
        try:
            table: pd.DataFrame = pa.concat_tables([pq.read_table(p, schema=NPFV_SCHEMA) for p in parts]).to_pandas()
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path} is not readable as feature visualisations: {error}") from error
        return table

    @cached_property
    def _files(self) -> dict[str, str]:
        return dict(zip(self._table["concept_id"], self._table["file"], strict=True))

    def table(self) -> pd.DataFrame:
        """Return one row per concept (:data:`NPFV_SCHEMA`), by class and importance."""
        return self._table.copy()

    def image_path(self, concept_id: str) -> Path | None:
        """Return where a concept's image is; None where it has none."""
        file = self._files.get(concept_id)
        return None if file is None else self.path / file

    def chosen(self, class_index: int) -> Sequence[str]:
        """Return the ids of a class's chosen concepts, the most confident first."""
        rows = self._table[(self._table["class_index"] == class_index) & self._table["chosen"]]
        return [str(i) for i in rows.sort_values("chosen_rank")["concept_id"]]
