"""A folder of masks that ``spurious masks`` wrote, read class by class, with what people said of its concepts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spurious_imagenet.builders.sensitivity.corruptions import without_core
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.images import DecodeLimits, Preprocess, read_picture
from spurious_imagenet.io import sha256_file


def concept_roles(bank: ConceptBank) -> dict[str, str]:
    """Return each concept's verdict: ``spurious``, ``core``, ``unclear``, or ``unjudged`` where the bank has none."""
    ids = bank.table["concept_id"].astype(str)
    if "verdict" not in bank.table.columns:
        return dict.fromkeys(ids, "unjudged")
    verdicts = bank.table["verdict"].astype(object)
    return dict(zip(ids, verdicts.where(verdicts.notna(), "unjudged"), strict=True))


@dataclass(frozen=True, eq=False)
class ClassMasks:
    """The masks of one class that are to be measured.

    Attributes:
        folder: Where their files are.
        rows: One row a mask (see ``MASK_SCHEMA``) with its ``role``, ordered by shard and offset.
        core: SHA-256 of an image -> the files of its masks for the class's core concepts.
    """

    folder: Path
    rows: pd.DataFrame
    core: dict[str, list[str]]

    def mask(self, row: int) -> tuple[NDArray[np.uint8], bool]:
        """Return the (S, S) uint8 mask of a row, and whether a core mask was taken out of it (see ``without_core``)."""
        name, sha256, role = map(str, self.rows.loc[row, ["file_name", "sha256", "role"]])
        mask, core = self._read(name), self.core.get(sha256, []) if role == "spurious" else []
        if core:
            mask = without_core(mask, reduce(np.maximum, map(self._read, core)))
        return mask, bool(core)

    def _read(self, name: str) -> NDArray[np.uint8]:
        image = read_picture(self.folder / name, "mask")
        mask = np.asarray(image)
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise DataError(f"mask {self.folder / name} is {image.mode}: expected 8-bit grey.")
        return mask


class MaskFolder:
    """The masks of many classes' concepts.

    Args:
        path: What ``spurious masks`` wrote.

    Raises:
        StoreError: It is not a folder of masks, or not all of its classes are there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            made: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
            self.weights_sha256: str = made["weights_sha256"]
            self.model: str = made["model"]
            self.concepts: tuple[str, ...] = tuple(made["concepts"])
            described = dict(made["preprocess"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is not a folder of masks: {error}") from error
        self.limits = DecodeLimits.model_validate(described.get("limits", {}))
        self.preprocess = Preprocess.model_validate(
            {k: v for k, v in described.items() if k in Preprocess.model_fields}
        )
        self.folders = tuple(sorted(file.parent for file in self.path.glob("[0-9]*/metadata.parquet")))
        listed = {c for folder in self.folders for c in pc.unique(self._table(folder)["concept_id"]).to_pylist()}
        if missing := sorted(set(self.concepts) - listed):
            raise StoreError(
                f"{path} is unfinished: {len(missing)} of its {len(self.concepts)} concepts, such as {missing[0]!r}, "
                "have no masks yet; run `spurious masks` again."
            )

    @cached_property
    def sha256(self) -> str:
        """Hash of the file that says what made the masks."""
        return sha256_file(self.path / "config.json")

    def check_bank(self, bank: ConceptBank) -> None:
        """Refuse a bank that does not say what the masks' concepts are.

        Raises:
            StoreError: Its concepts are another model's, or none of them has masks.
        """
        if bank.info.weights_sha256 != self.weights_sha256:
            raise StoreError(
                f"{self.path} holds masks by {self.model} (weights {self.weights_sha256[:12]}), but the concept bank "
                f"is of {bank.info.model} (weights {bank.info.weights_sha256[:12]})."
            )
        if not set(self.concepts) & set(bank.table["concept_id"]):
            raise StoreError(f"{self.path} has masks of none of the {len(bank)} concepts of the bank: expected some.")

    def read(self, folder: Path, roles: dict[str, str], images: int | None) -> ClassMasks:
        """Read the list of one class's masks.

        Args:
            folder: One of ``folders``.
            roles: Concept id -> role; other concepts are not measured.
            images: Masks a concept, those of the highest scores; all where None.
        """
        table = self._table(folder).to_pandas()
        table["role"] = table["concept_id"].map(roles)
        is_core = table["role"] == "core"
        core = table[is_core].groupby("sha256", sort=False)["file_name"].agg(list).to_dict()
        wanted = table[table["role"].notna() & (table["rank"] <= (images or len(table)))]
        return ClassMasks(folder, wanted.sort_values(["shard", "offset", "concept_id"], ignore_index=True), core)

    def _table(self, folder: Path) -> pa.Table:
        try:
            return pq.read_table(folder / "metadata.parquet")
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{folder}/metadata.parquet cannot be read: {error}") from error
