"""Did the chain find what was planted? Comparisons of its outputs with a planted world's truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.builders.contrast.cues import aucs_of_cue, pool_scores
from spurious_imagenet.concepts.bank import ConceptBank
from spurious_imagenet.errors import DataError, UndefinedMetricError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.planted.truth import PlantedTruth, TruePair

__all__ = ["CueAuc", "MinedPurity", "cue_auc", "mined_purity"]

_TOP_COMPONENTS = 10


@dataclass(frozen=True)
class CueAuc:
    """How well the components of a class find the cue that was planted in it.

    Attributes:
        pair: Class and cue.
        concept_id: The component that finds the cue best.
        component: Its 0-based number.
        auc: ROC AUC in [0, 1] of its α: cue-only pool images against pool images without the cue; higher is better.
        aucs: The same of each of the class's first components, in their order.
    """

    pair: TruePair
    concept_id: str
    component: int
    auc: float
    aucs: tuple[float, ...]


@dataclass(frozen=True)
class MinedPurity:
    """What was mined with one component.

    Attributes:
        pair: Class and cue.
        concept_id: The component.
        kept: Images kept.
        pure: Those of them that show the cue and not the class's object.
    """

    pair: TruePair
    concept_id: str
    kept: int
    pure: int

    @property
    def purity(self) -> float:
        """``pure / kept``, in [0, 1]; higher is better.

        Raises:
            UndefinedMetricError: Nothing was kept.
        """
        if self.kept == 0:
            raise UndefinedMetricError(
                f"purity of {self.concept_id} is undefined: no image was kept for {self.pair.class_id}."
            )
        return self.pure / self.kept


def _rows_of_pair(bank: ConceptBank, pair: TruePair) -> NDArray[np.intp]:
    """Return the bank's rows of the class's first NPCA components, by component."""
    found = bank.rows_of(kinds=["npca"], class_ids=[pair.class_id], numbered_below=_TOP_COMPONENTS)
    rows: NDArray[np.intp] = found[np.argsort(bank.table["component"].iloc[found], kind="stable")]
    if rows.size == 0:
        raise DataError(
            f"the concept bank has no NPCA components of {pair.class_id}, in which {pair.cue!r} is planted."
        )
    return rows


def cue_auc(bank: ConceptBank, store: FeatureStore, truth: PlantedTruth) -> list[CueAuc]:
    """Measure how well each planted cue is found by one of its class's first ten NPCA components.

    Positives are the pool images that show the cue and no object, negatives all pool images without the cue, whatever
    else they show.

    Args:
        bank: NPCA components of the world's scoring model.
        store: That model's features of the world's pool.
        truth: What was planted.

    Returns:
        One measurement per pair, in the order of ``truth.pairs``.

    Raises:
        DataError: The bank lacks a class, or the store is not of the world's pool.
        UndefinedMetricError: The pool has no cue-only image of a cue, or no image without it.
    """
    pool = truth.pool()
    rows = {pair: _rows_of_pair(bank, pair) for pair in truth.pairs}
    scores = pool_scores(bank.select(np.concatenate(list(rows.values()))), store, pool)
    return [_auc_of_pair(pair, bank.table.iloc[rows[pair]], scores, pool) for pair in truth.pairs]


def _auc_of_pair(pair: TruePair, concepts: pd.DataFrame, scores: pd.DataFrame, pool: pd.DataFrame) -> CueAuc:
    ids = [str(i) for i in concepts["concept_id"]]
    aucs = aucs_of_cue(pair, scores[ids], pool).tolist()
    best = int(np.argmax(aucs))
    return CueAuc(pair, ids[best], int(concepts["component"].iloc[best]), aucs[best], tuple(aucs))


def mined_purity(candidates: pd.DataFrame, truth: PlantedTruth, found: Sequence[CueAuc]) -> list[MinedPurity]:
    """Count what was mined with the component that finds each planted cue best.

    Args:
        candidates: One row a candidate: ``concept_id``, ``sha256`` (hexadecimal) and ``status``, which is ``kept`` for
            what was mined.
        truth: What the world's images show.
        found: The components, from :func:`cue_auc`.

    Returns:
        One count per pair, in the order of ``found``.

    Raises:
        DataError: A column is missing, or a kept image is not of the world's pool.
    """
    if missing := [c for c in ("concept_id", "sha256", "status") if c not in candidates.columns]:
        raise DataError(f"the candidates lack the columns {missing}: expected concept_id, sha256 and status.")
    pool = truth.pool()
    kept = candidates[candidates["status"] == "kept"]
    if strange := sorted(set(kept["sha256"]) - set(pool.index)):
        raise DataError(f"candidate {strange[0]} and {len(strange) - 1} others are not of the world's pool.")
    return [_purity_of_pair(pool.loc[kept["sha256"][kept["concept_id"] == f.concept_id]], f) for f in found]


def _purity_of_pair(images: pd.DataFrame, found: CueAuc) -> MinedPurity:
    cue = images["cues"].map(lambda cues: found.pair.cue in cues).to_numpy(dtype=bool)
    other = (images["class_id"] != found.pair.class_id).to_numpy(dtype=bool)
    return MinedPurity(found.pair, found.concept_id, len(images), int((cue & other).sum()))
