"""Scores are what `spurious evaluate` says of the same predictions, and never of other images."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from scoring_helpers import RESAMPLED, entry_of, predict, version_of, version_rows, with_rankings

from spurious_imagenet.benchmark.evaluation.gaps import gap_record
from spurious_imagenet.benchmark.evaluation.summary import summarise
from spurious_imagenet.benchmark.metrics.intervals import interval
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import DataError
from spurious_imagenet.leaderboard.scoring.scoring import score_entry


def test_score_is_bit_for_bit_the_summary_of_the_same_predictions() -> None:
    version = version_of(version_rows(classes=12))
    for seed in range(3):
        predictions = predict(version, seed)
        score = score_entry(entry_of(seed), predictions, version).score
        summary = summarise(predictions, version.info.class_names, version.info.resamples, version.info.seed)
        for field, value in vars(summary).items():
            assert getattr(score, field) == value, field


def test_gaps_are_those_of_the_rankings_with_the_versions_k() -> None:
    version = with_rankings(version_of(version_rows(classes=4), gap_k=3))
    predictions = predict(version, 1)
    score = score_entry(entry_of(1), predictions, version).score
    where = f"the rankings of version {version.info.version}"
    expected = gap_record(predictions, version.rankings, k=3, resamples=version.info.resamples, where=where)
    assert score.gaps == expected
    assert score.gaps.k == 3
    assert score_entry(entry_of(1), predictions, version_of(version_rows(classes=4))).score.gaps is None


def test_resamples_are_what_the_intervals_are_of() -> None:
    version = with_rankings(version_of(version_rows(classes=5), gap_k=3))
    scored = score_entry(entry_of(0), predict(version, 0), version)
    score = scored.score
    intervals = {
        "spurious_ap": score.mean_intervals["spurious_ap"],
        "spurious_auc": score.mean_intervals["spurious_auc"],
        "accuracy": score.accuracy_interval,
        "spurious_gap": score.gaps.gap_interval,
    }
    assert set(scored.resampled) == RESAMPLED
    for name, expected in intervals.items():
        values = scored.resampled[name]
        assert values.dtype == np.float32
        assert values.shape == (version.info.resamples,)
        assert close(interval(values), expected), name
    gap = scored.resampled["accuracy_high"] - scored.resampled["accuracy_low"]
    np.testing.assert_allclose(gap, scored.resampled["spurious_gap"], atol=1e-6)


def test_worst_classes_are_the_tenth_of_lowest_auc_the_worst_first() -> None:
    for classes, worst in ((3, 1), (10, 1), (19, 1), (20, 2), (31, 3)):
        version = version_of(version_rows(classes=classes, spurious=4, validation=4))
        score = score_entry(entry_of(0), predict(version, 3), version).score
        aucs = sorted((c.spurious_auc, c.class_id) for c in score.classes)[:worst]
        assert score.worst_classes == tuple(c for _, c in aucs)
        assert score.worst_classes_auc == pytest.approx(np.mean([a for a, _ in aucs]))


def test_order_of_the_predictions_changes_nothing() -> None:
    version = version_of(version_rows(classes=4))
    predictions = predict(version, 2)
    shuffled = Predictions(predictions.table.sample(frac=1, random_state=0).reset_index(drop=True))
    first, second = (score_entry(entry_of(2), p, version) for p in (predictions, shuffled))
    assert first.score == second.score
    for name, values in first.resampled.items():
        np.testing.assert_array_equal(values, second.resampled[name])


def _lacking(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[1:]


def _twice(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.iloc[:1]])


def _another(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(sha256=[hashlib.sha256(b"another").hexdigest(), *table["sha256"][1:]])


def _another_concept(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(concept_id=["npca/another/0", *table["concept_id"][1:]])


@pytest.mark.parametrize("change", [_lacking, _twice, _another, _another_concept])
def test_predictions_of_other_images_are_refused(change) -> None:
    version = version_of(version_rows(classes=3))
    changed = Predictions(change(predict(version, 0).table).reset_index(drop=True))
    with pytest.raises(DataError, match=r"not the \d+ of version 1\.0\.0: expected exactly these"):
        score_entry(entry_of(0), changed, version)


def close(found: Interval, expected: Interval) -> bool:
    return found.low == pytest.approx(expected.low, abs=1e-6) and found.high == pytest.approx(expected.high, abs=1e-6)
