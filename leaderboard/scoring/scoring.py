"""Scoring an entry: everything is computed from its predictions."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version as installed_version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.evaluation.gaps import GapSample, gap_sample
from spurious_imagenet.benchmark.evaluation.summary import summarise_resampled
from spurious_imagenet.benchmark.evaluation.values import ClassRecord
from spurious_imagenet.benchmark.metrics.resamples import BootstrapResamples
from spurious_imagenet.datasets.predictions import Predictions, ordered
from spurious_imagenet.errors import DataError
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.scoring._leave_out import SelectionVotes
from spurious_imagenet.leaderboard.scoring._related import relations
from spurious_imagenet.leaderboard.scoring.score import Score, ScoredEntry
from spurious_imagenet.leaderboard.version import BenchmarkVersion

__all__ = ["score_entry"]

#: Resamples are the same for every entry of a version: so much of them is kept between entries.
_KEPT_BYTES = 512 << 20
_KEYS = ["side", "class_id", "concept_id", "sha256"]


def score_entry(entry: Entry, predictions: Predictions, version: BenchmarkVersion) -> ScoredEntry:
    """Score an entry on a version of the benchmark.

    Classes, means and intervals are those that ``spurious evaluate`` records of the same predictions, bit for bit.

    Args:
        entry: Who made the predictions.
        predictions: One row per image of the version.
        version: What they are of.

    Raises:
        DataError: The predictions are not of exactly the images of the version.
        UndefinedMetricError: A class lacks the images of one side.
    """
    return _scorer(version).score(entry, predictions)


@lru_cache(maxsize=2)
def _scorer(version: BenchmarkVersion) -> _Scorer:
    return _Scorer(version)


class _Scorer:
    """What is the same for every entry of a version."""

    def __init__(self, version: BenchmarkVersion) -> None:
        self.version, info = version, version.info
        self.draws = BootstrapResamples(info.resamples, info.seed, _KEPT_BYTES)
        images = ordered(version.images)
        self.images = images[_KEYS]
        self.votes = (
            None if info.min_agree is None else SelectionVotes(images[images["side"] == "spurious"], info.min_agree)
        )

    def score(self, entry: Entry, predictions: Predictions) -> ScoredEntry:
        info, ordered = self.version.info, self._checked(entry, predictions)
        summary, values = summarise_resampled(ordered, info.class_names, self.draws)
        resampled = {name: values[name] for name in ("spurious_ap", "spurious_auc", "accuracy")}
        sample = self._gaps(ordered)
        if sample is not None:
            resampled |= _resampled_gaps(sample)
        worst = _worst(summary.classes)
        score = Score(
            entry=entry.id,
            version=info.version,
            code_version=installed_version("spurious-imagenet"),
            **vars(summary),
            worst_classes_auc=float(np.mean([c.spurious_auc for c in worst])),
            worst_classes=tuple(c.class_id for c in worst),
            gaps=None if sample is None else sample.record(),
            **self._left_out(entry, ordered),
        )
        return ScoredEntry(score, {name: value.astype(np.float32) for name, value in resampled.items()})

    def _checked(self, entry: Entry, predictions: Predictions) -> Predictions:
        """Return the predictions in the order of evaluation, by which every model is resampled alike."""
        if _same(predictions.table, self.images):
            return predictions
        predictions = predictions.ordered()
        if _same(predictions.table, self.images):
            return predictions
        raise DataError(
            f"entry {entry.id[:12]} has predictions of {len(predictions)} images that are not the {len(self.images)} "
            f"of version {self.version.info.version}: expected exactly these."
        )

    def _left_out(self, entry: Entry, predictions: Predictions) -> dict[str, Any]:
        related = relations(entry.info, self.version)
        if self.votes is None or not self.version.info.miners:
            return {"related": related}
        sets: list[tuple[str, ...]] = [(miner.model,) for miner in self.version.info.miners]
        if related:
            sets.append(tuple(relation.miner for relation in related))
        scores = self.votes.scores(predictions, sets)
        alone = len(self.version.info.miners)
        return {
            "related": related,
            "without_each_miner": scores[:alone],
            "without_related": scores[alone] if related else None,
        }

    def _gaps(self, predictions: Predictions) -> GapSample | None:
        info, rankings = self.version.info, self.version.rankings
        if rankings is None:
            return None
        where = f"the rankings of version {info.version}"
        return gap_sample(predictions, rankings, k=info.gap_k, resamples=info.resamples, seed=info.seed, where=where)


def _same(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    # Validation images have no concept, which one table may call None and another NaN.
    return len(found) == len(expected) and all(
        np.array_equal(found[key].fillna("").to_numpy(), expected[key].fillna("").to_numpy()) for key in _KEYS
    )


def _worst(classes: tuple[ClassRecord, ...]) -> list[ClassRecord]:
    ordered = sorted(classes, key=lambda c: (c.spurious_auc, c.class_id))
    return ordered[: max(1, len(ordered) // 10)]


def _resampled_gaps(sample: GapSample) -> dict[str, NDArray[np.float64]]:
    high = sample.resampled_mean(c.resampled_high for c in sample.measured)
    low = sample.resampled_mean(c.resampled_low for c in sample.measured)
    return {
        "spurious_gap": sample.resampled_mean(c.resampled_gap for c in sample.measured),
        "accuracy_high": high,
        "accuracy_low": low,
    }
