"""ConceptBank: M linear read-outs of one model's penultimate features, and what each of them is."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spurious_imagenet.errors import StoreError, one_line
from spurious_imagenet.io import atomic_directory
from spurious_imagenet.records import Record
from spurious_imagenet.tensors import load_arrays, save_arrays

__all__ = ["REQUIRED_COLUMNS", "BankInfo", "ConceptBank", "ConceptChoice"]

#: Columns that every bank's table has; each kind of concept adds its own.
REQUIRED_COLUMNS = ("concept_id", "kind", "class_index", "class_id", "class_name", "component", "name")

_SCHEMA_VERSION = 1


class BankInfo(Record):
    """Where a bank comes from: enough to refuse features of another model."""

    schema_version: int = _SCHEMA_VERSION
    model: str
    """Spec of the model whose features the directions read."""
    weights_sha256: str
    """Hash of that model's weights."""
    feature_dim: int
    feature_config_sha256: str
    """Hash of the configuration (model, preprocessing) of the feature store the bank was made from."""
    config: dict[str, Any] = {}
    """The configuration of the stage that made the bank."""
    counts: dict[str, int] = {}
    """What that stage counted, such as the images it could not use."""
    rejects: tuple[dict[str, Any], ...] = ()
    """What could not become a concept, each with its reason."""


class ConceptChoice(TypedDict, total=False):
    """Which concepts of a bank are wanted; what is not given, or None, leaves none out.

    Attributes:
        concept_ids: Those of these ids.
        class_ids: Those of these classes.
        kinds: Those of these kinds.
        verdict: Those with this verdict: none where the bank carries no verdicts.
        residual: Whether rows that stand for all further components count; they do by default.
        numbered_below: Those whose number is lower: a neuron's is its importance rank, counted from 0, where the bank
            has one, any other concept's its component.
        first: So many of each class in the bank's order, of those that meet all else.
    """

    concept_ids: Collection[str] | None
    class_ids: Collection[str] | None
    kinds: Collection[str] | None
    verdict: str | None
    residual: bool
    numbered_below: int | None
    first: int | None


def _number_in_class(table: pd.DataFrame) -> pd.Series:
    """Return how many concepts of its class come before each: a neuron's component is its index, not its place."""
    if "importance_rank" not in table:
        return table["component"]
    return table["component"].where(table["importance_rank"].isna(), table["importance_rank"] - 1)


@dataclass(frozen=True, eq=False)
class ConceptBank:
    """A set of concepts over one feature space.

    Attributes:
        directions: (M, D) float32; the score of an image with features φ is ``φ · directions[m] + offsets[m]``.
        offsets: (M,) float32.
        table: M rows; at least :data:`REQUIRED_COLUMNS`. ``concept_id`` is unique.
        info: Provenance.

    Examples:
        >>> row = dict(concept_id="text/n1/0", kind="text", class_index=0, class_id="n1", class_name="koala")
        >>> table = pd.DataFrame([row | dict(component=0, name="eucalyptus")])
        >>> made_by = dict(model="timm:resnet50", weights_sha256="0" * 64, feature_config_sha256="0" * 64)
        >>> info = BankInfo(**made_by, feature_dim=3)
        >>> bank = ConceptBank(np.array([[1, 0, 2]], np.float32), np.array([-1], np.float32), table, info)
        >>> bank.score(np.array([[1, 5, 0], [0, 0, 3]], np.float32)).tolist()
        [[0.0], [5.0]]
    """

    directions: NDArray[np.float32]
    offsets: NDArray[np.float32]
    table: pd.DataFrame
    info: BankInfo

    def __post_init__(self) -> None:
        count = len(self.table)
        if self.directions.shape != (count, self.info.feature_dim) or self.offsets.shape != (count,):
            raise StoreError(
                f"concept bank is torn: directions {self.directions.shape}, offsets {self.offsets.shape} and "
                f"{count} table rows, expected ({count}, {self.info.feature_dim}), ({count},) and {count}."
            )
        missing = [c for c in REQUIRED_COLUMNS if c not in self.table.columns]
        if missing:
            raise StoreError(f"concept bank's table lacks the columns {missing}: expected {list(REQUIRED_COLUMNS)}.")

    def __len__(self) -> int:
        return len(self.table)

    def score(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Score images on every concept.

        Args:
            features: (N, D) penultimate features of ``info.model``.

        Returns:
            (N, M) float32 scores; higher means more of the concept. For NPCA rows this is α (SFE eq. 5).
        """
        scores: NDArray[np.float32] = features.astype(np.float32, copy=False) @ self.directions.T
        scores += self.offsets
        return scores

    def select(self, rows: NDArray[Any] | list[int]) -> ConceptBank:
        """Return the bank of the given rows (indices or a boolean mask), in that order."""
        index = np.arange(len(self))[rows]
        table = self.table.iloc[index].reset_index(drop=True)
        return ConceptBank(self.directions[index], self.offsets[index], table, self.info)

    def choose(self, **asked: Unpack[ConceptChoice]) -> ConceptBank:
        """Return the bank of the concepts that meet all that is asked, in the bank's order; see :meth:`rows_of`."""
        return self.select(self.rows_of(**asked))

    def rows_of(self, **asked: Unpack[ConceptChoice]) -> NDArray[np.int64]:
        """Return the rows of the concepts that meet all that is asked, ascending; see :class:`ConceptChoice`.

        ``first=n`` keeps the n of each class (``class_index``) that stand first in the bank among those that meet all
        else. Stages write a class's components by falling variance and its neurons by falling importance.
        ``numbered_below=n`` goes by a concept's own number instead, whether or not the lower ones are there.
        """
        table = self.table
        wanted = np.ones(len(table), dtype=bool)
        for column, values in (
            ("concept_id", asked.get("concept_ids")),
            ("class_id", asked.get("class_ids")),
            ("kind", asked.get("kinds")),
        ):
            if values is not None:
                wanted &= table[column].isin(list(values)).to_numpy()
        if (verdict := asked.get("verdict")) is not None:
            wanted &= (table["verdict"] == verdict).to_numpy() if "verdict" in table else False
        if not asked.get("residual", True):
            wanted &= (table["component"] >= 0).to_numpy()
        if (below := asked.get("numbered_below")) is not None:
            wanted &= (_number_in_class(table) < below).to_numpy()
        rows = np.flatnonzero(wanted)
        if (first := asked.get("first")) is not None:
            rows = rows[table.iloc[rows].groupby("class_index").cumcount().to_numpy() < first]
        return rows

    def check_features(self, weights_sha256: str, config_sha256: str, what: str) -> None:
        """Refuse features that the bank's directions do not read.

        Args:
            weights_sha256: Hash of the weights of the model that made the features.
            config_sha256: Hash of their configuration.
            what: What holds the features, for the message.

        Raises:
            StoreError: Another model, or the same model with other preprocessing, made them.
        """
        if weights_sha256 != self.info.weights_sha256:
            raise StoreError(
                f"{what} holds features of a model with weights {weights_sha256[:12]}, but the concept bank reads "
                f"features of {self.info.model} with weights {self.info.weights_sha256[:12]}."
            )
        if config_sha256 != self.info.feature_config_sha256:
            raise StoreError(
                f"{what} was made by the bank's model with other preprocessing (configuration {config_sha256[:12]}, "
                f"expected {self.info.feature_config_sha256[:12]}): use the same image size and protocol for both."
            )

    @property
    def sha256(self) -> str:
        """Hash of the concepts' ids, directions and offsets: of what the rows score, not of what is said of them."""
        digest = hashlib.sha256("\n".join(self.table["concept_id"]).encode())
        digest.update(np.ascontiguousarray(self.directions).tobytes() + self.offsets.tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the bank as a directory of safetensors, parquet and JSON, whole or not at all."""
        with atomic_directory(path) as directory:
            tensors = {"directions": self.directions, "offsets": self.offsets}
            save_arrays(directory / "directions.safetensors", tensors)
            table = pa.Table.from_pandas(self.table, preserve_index=False)
            pq.write_table(table.replace_schema_metadata(None), directory / "table.parquet", compression="zstd")
            (directory / "bank.json").write_text(self.info.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> ConceptBank:
        """Read a bank written by :meth:`save`.

        Raises:
            StoreError: A file is missing or of another schema.
        """
        directory = Path(path)
        for name in ("bank.json", "directions.safetensors", "table.parquet"):
            if not (directory / name).is_file():
                raise StoreError(f"{directory} is not a concept bank: {name} is missing.")
        try:
            info = BankInfo.model_validate_json((directory / "bank.json").read_text(encoding="utf-8"))
            tensors = load_arrays(directory / "directions.safetensors")
            table = pq.read_table(directory / "table.parquet").to_pandas()
        except Exception as error:
            raise StoreError(f"{directory} is not a readable concept bank: {one_line(error)}") from error
        if info.schema_version != _SCHEMA_VERSION:
            raise StoreError(f"{directory}/bank.json has schema {info.schema_version}: expected {_SCHEMA_VERSION}.")
        return cls(tensors["directions"], tensors["offsets"], table, info)
