"""Which cues of a planted world some concepts find."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spurious_imagenet.builders.comparison.record import CueFound, FoundCues
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.planted.check import aucs_of_cue, pool_scores
from spurious_imagenet.planted.truth import PlantedTruth, TruePair

__all__ = ["FOUND", "found_cues"]

#: AUC from which on a concept finds a cue.
FOUND = 0.95


def found_cues(bank: ConceptBank, pool: FeatureStore, truth: PlantedTruth) -> FoundCues:
    """Say which planted cues the concepts of their classes find.

    A concept finds a cue where the pool images that show the cue alone score higher than those without it: ROC AUC of
    at least :data:`FOUND`.

    Args:
        bank: Concepts of any kind; all of a class's are tried.
        pool: Their model's features of the world's pool.
        truth: What was planted.

    Raises:
        StoreError: Another model made the features.
        DataError: The bank lacks a class in which a cue was planted, or the features are not of the world's pool.
        UndefinedMetricError: The pool has no cue-only image of a cue, or no image without it.
    """
    images = truth.pool()
    own = {pair: np.flatnonzero(bank.table["class_id"] == pair.class_id) for pair in truth.pairs}
    if empty := [pair for pair, rows in own.items() if not len(rows)]:
        raise DataError(
            f"the concept bank has no concepts of {empty[0].class_id}, in which {empty[0].cue!r} is planted."
        )
    scores = pool_scores(bank, pool, images)
    pairs = [_cue(pair, scores[list(bank.table["concept_id"].iloc[rows])], images) for pair, rows in own.items()]
    return FoundCues(
        threshold=FOUND, found=sum(pair.finders > 0 for pair in pairs), planted=len(pairs), pairs=tuple(pairs)
    )


def _cue(pair: TruePair, scores: pd.DataFrame, images: pd.DataFrame) -> CueFound:
    aucs = aucs_of_cue(pair, scores, images)
    best = int(aucs.argmax())
    return CueFound(
        class_id=pair.class_id,
        cue=pair.cue,
        concept_id=str(scores.columns[best]),
        auc=float(aucs[best]),
        finders=int((aucs >= FOUND).sum()),
    )
