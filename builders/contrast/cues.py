"""Which of the cues that are known to be in a pool some concepts find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from spurious_imagenet.builders.contrast._record import CueFound, FoundCues
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, UndefinedMetricError
from spurious_imagenet.features.store import FeatureStore

__all__ = ["FOUND", "CueTruth", "PlantedCue", "aucs_of_cue", "found_cues", "pool_scores"]

#: AUC from which on a concept finds a cue.
FOUND = 0.95


class PlantedCue(Protocol):
    """A cue that is known to be shown beside a class's object."""

    @property
    def class_id(self) -> str:
        """The class."""

    @property
    def cue(self) -> str:
        """The cue's name."""


class CueTruth(Protocol):
    """Whoever knows which images of a pool show which cue, such as the maker of a synthetic world."""

    @property
    def pairs(self) -> Sequence[PlantedCue]:
        """The cues that are there to be found."""

    def pool(self) -> pd.DataFrame:
        """Return one row a pool image, indexed by the SHA-256 (hexadecimal) of its bytes.

        Columns: ``cues``, the names of those it shows, and ``class_id``, the class of its object (None without one).
        """


def found_cues(bank: ConceptBank, pool: FeatureStore, truth: CueTruth) -> FoundCues:
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


def _cue(pair: PlantedCue, scores: pd.DataFrame, images: pd.DataFrame) -> CueFound:
    aucs = aucs_of_cue(pair, scores, images)
    best = int(aucs.argmax())
    return CueFound(
        class_id=pair.class_id,
        cue=pair.cue,
        concept_id=str(scores.columns[best]),
        auc=float(aucs[best]),
        finders=int((aucs >= FOUND).sum()),
    )


def pool_scores(bank: ConceptBank, store: FeatureStore, pool: pd.DataFrame) -> pd.DataFrame:
    """Score a pool whose images' cues are known on every concept of a bank.

    Args:
        bank: Concepts of the model that made ``store``.
        store: Features of the pool.
        pool: The pool's rows of the truth, indexed by SHA-256.

    Returns:
        Scores (α for NPCA concepts), one row per image in the order of ``pool`` and one column per concept id.

    Raises:
        StoreError: Another model, or other preprocessing, made the features.
        DataError: The store lacks an image of the pool, or holds one that is not of it.
    """
    bank.check_features(store.config.weights_sha256, store.config.sha256, str(store.path))
    keys: list[str] = []
    scores = []
    for part in store.parts:
        keys += [digest.hex() for digest in part.rows(["sha256"]).column("sha256").to_pylist()]
        scores.append(bank.score(part.features()))
    found = pd.Index(keys)
    if missing := len(pool.index.difference(found)):
        raise DataError(f"{store.path} lacks {missing} of the {len(pool)} images of the world's pool.")
    if not found.is_unique or len(found) != len(pool):
        raise DataError(
            f"{store.path} holds {len(found)} images, {len(pool)} of them of the world's pool: use its pool alone."
        )
    return pd.DataFrame(np.concatenate(scores), index=found, columns=list(bank.table["concept_id"])).loc[pool.index]


def aucs_of_cue(pair: PlantedCue, scores: pd.DataFrame, pool: pd.DataFrame) -> NDArray[np.float64]:
    """Measure how well concepts tell the pool images that show a cue alone from those without it.

    Args:
        pair: The cue.
        scores: One row per pool image, one column per concept.
        pool: The pool's rows of the truth, in the same order.

    Returns:
        (concepts,) ROC AUC in [0, 1], higher is better.

    Raises:
        UndefinedMetricError: The pool has no cue-only image of the cue, or no image without it.
    """
    shown = pool["cues"].map(lambda cues: pair.cue in cues).to_numpy(dtype=bool)
    positive = shown & pool["class_id"].isna().to_numpy()
    if not positive.any() or shown.all():
        raise UndefinedMetricError(
            f"AUC of {pair.cue!r} is undefined: the pool has {positive.sum()} images that show it alone and "
            f"{(~shown).sum()} without it, expected some of both."
        )
    judged = positive | ~shown
    return np.array([roc_auc_score(positive[judged], scores[name].to_numpy()[judged]) for name in scores])
