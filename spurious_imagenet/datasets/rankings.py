"""Rankings: the images of each class in the order of their spuriosity (SR section 4.1), without pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.records import Record

__all__ = ["RANKINGS_SCHEMA", "LeftOut", "Rankings", "RankingsInfo"]

#: One row an image, a class's rows by ascending rank. ``rank`` 1 is the lowest spuriosity, ``of`` the class's images in
#: this split, ``percentile`` (rank - 1/2) / of. ``ranked_split`` is low, middle, high, or null between them.
#: ``control`` marks classes without a spurious concept, ranked by those of all the other classes. One ranking of few
#: images is one draw, so their rows list concepts, one of each of up to 20 classes, by each of which they are ranked
#: alone too: what gap a concept gives that is not the class's own. In rankings of older versions they list none.
RANKINGS_SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        ("name", pa.string()),
        ("sha256", pa.string()),
        ("class_id", pa.string()),
        ("class_name", pa.string()),
        ("control", pa.bool_()),
        ("spuriosity", pa.float64()),
        ("rank", pa.int32()),
        ("of", pa.int32()),
        ("percentile", pa.float64()),
        ("ranked_split", pa.string()),
        ("concept_ids", pa.list_(pa.string())),
        ("concept_scores", pa.list_(pa.float64())),
    ]
)


class LeftOut(Record):
    """Images of a class that are not ranked, or are in no ranked split, and why."""

    split: str
    class_id: str
    images: int
    reason: str


class RankingsInfo(Record):
    """What a ranking was made from."""

    schema_version: int = 1
    model: str
    weights_sha256: str
    """Hash of the weights of the model whose features rank the images."""
    feature_config_sha256: str
    concepts: dict[str, tuple[str, ...]]
    """Class id -> ids of the concepts whose mean z-score is the spuriosity."""
    config: dict[str, object] = {}
    """The options that decided which images stand where."""
    counts: dict[str, int] = {}
    judged: str | None = None
    """Who judged the concepts, and how far they agreed; None if no verdicts chose them."""
    left_out: tuple[LeftOut, ...] = ()
    """Classes with a concept that lack images, and classes too small for ranked splits."""


@dataclass(frozen=True, eq=False)
class Rankings:
    """Images ranked within their classes.

    Attributes:
        table: Rows of :data:`RANKINGS_SCHEMA` of one split.
        info: What they were made from.
    """

    table: pd.DataFrame
    info: RankingsInfo

    @classmethod
    def load(cls, path: str | Path, split: str = "val") -> Rankings:
        """Read one split of a folder that ``spurious rank`` wrote.

        Raises:
            DataError: The folder holds no rankings, or none of that split.
        """
        root = Path(path)
        try:
            info = RankingsInfo.model_validate_json((root / "rankings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{root} is not a rankings folder: {one_line(error)}") from error
        files = sorted((root / "data").glob("*.parquet"))
        try:
            tables = [pq.read_table(file, schema=RANKINGS_SCHEMA).to_pandas() for file in files]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{root} holds rankings that cannot be read: {error}") from error
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=RANKINGS_SCHEMA.names)
        chosen = table[table["split"] == split].reset_index(drop=True)
        if chosen.empty:
            have = sorted(set(table["split"]))
            raise DataError(f"{root} has no ranked images of split {split!r}: it has {have}.")
        return cls(chosen, info)
