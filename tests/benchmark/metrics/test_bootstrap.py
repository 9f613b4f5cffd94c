from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.bootstrap import by_resample, percentile
from reference.metrics import auc_by_counting, average_precision_by_thresholds
from sklearn.metrics import average_precision_score, roc_auc_score

from spurious_imagenet.benchmark.metrics import bootstrap as module
from spurious_imagenet.benchmark.metrics import (
    bootstrap_ap,
    bootstrap_auc,
    bootstrap_counts,
    bootstrap_mean,
    class_rng,
    interval,
    mean_over_classes,
    paired_difference,
    spurious_ap,
    spurious_auc,
)
from spurious_imagenet.benchmark.metrics.intervals import intervals
from spurious_imagenet.errors import UndefinedMetricError

# A coarse grid makes ties common.
scores = st.lists(st.integers(0, 8).map(lambda i: i / 8), min_size=1, max_size=25)
seeds = st.integers(0, 2**32 - 1)


def drawn(n: int, m: int, seed: int, resamples: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return bootstrap_counts(n, resamples, rng), bootstrap_counts(m, resamples, rng)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), seeds)
def test_every_resample_draws_as_many_images_as_there_are(n: int, resamples: int, seed: int) -> None:
    counts = bootstrap_counts(n, resamples, np.random.default_rng(seed))
    assert counts.shape == (resamples, n)
    assert counts.dtype == np.int32
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == n).all()
    assert (counts == bootstrap_counts(n, resamples, np.random.default_rng(seed))).all()


@settings(deadline=None)
@given(seeds, st.integers(1, 300), st.integers(1, 16), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_intervals_are_numpys_quantiles_to_the_last_bit(seed: int, resamples: int, digits: int, level: float) -> None:
    values = np.random.default_rng(seed).normal(size=(3, resamples)).round(digits)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=1)
    assert [(i.low, i.high) for i in intervals(values, level)] == list(zip(low, high, strict=True))


def test_counts_are_multinomial() -> None:
    n, resamples = 20, 40_000
    counts = bootstrap_counts(n, resamples, np.random.default_rng(0)).astype(float)
    # Mean 1, variance 1 - 1/n, covariance -1/n; the tolerance is about five standard errors.
    assert counts.mean(axis=0) == pytest.approx(np.ones(n), abs=0.025)
    covariance = np.cov(counts.T)
    assert np.diag(covariance) == pytest.approx(np.full(n, 1 - 1 / n), abs=0.05)
    assert covariance[~np.eye(n, dtype=bool)] == pytest.approx(np.full(n * (n - 1), -1 / n), abs=0.03)


def test_counts_are_drawn_in_blocks_of_bounded_memory() -> None:
    import tracemalloc

    n, resamples = 200_000, 100
    tracemalloc.start()
    counts = bootstrap_counts(n, resamples, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (counts.sum(axis=1) == n).all()
    assert peak < counts.nbytes + 150e6  # drawn at once, the draws alone would take 320 MB


@settings(max_examples=40, deadline=None)
@given(scores, scores, seeds)
def test_ap_of_every_resample_equals_its_definition_and_sklearn(
    validation: list[float], spurious: list[float], seed: int
) -> None:
    counts = drawn(len(validation), len(spurious), seed)
    ours = bootstrap_ap(validation, spurious, *counts)
    naive = by_resample(average_precision_by_thresholds, validation, spurious, *counts)
    assert ours == pytest.approx(naive, abs=1e-12)
    labels = [1] * len(validation) + [0] * len(spurious)
    weighted = [
        average_precision_score(labels, validation + spurious, sample_weight=np.concatenate(pair))
        for pair in zip(*counts, strict=True)
    ]
    assert ours == pytest.approx(weighted, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(scores, scores, seeds)
def test_auc_of_every_resample_equals_its_definition_and_sklearn(
    validation: list[float], spurious: list[float], seed: int
) -> None:
    counts = drawn(len(validation), len(spurious), seed)
    ours = bootstrap_auc(validation, spurious, *counts)
    assert ours == pytest.approx(by_resample(auc_by_counting, validation, spurious, *counts), abs=1e-12)
    labels = [1] * len(validation) + [0] * len(spurious)
    weighted = [
        roc_auc_score(labels, validation + spurious, sample_weight=np.concatenate(pair))
        for pair in zip(*counts, strict=True)
    ]
    assert ours == pytest.approx(weighted, abs=1e-12)


@settings(deadline=None)
@given(scores, scores)
def test_each_image_once_gives_the_metric_itself(validation: list[float], spurious: list[float]) -> None:
    once = np.ones((1, len(validation)), int), np.ones((1, len(spurious)), int)
    assert bootstrap_ap(validation, spurious, *once)[0] == pytest.approx(spurious_ap(validation, spurious), abs=1e-12)
    assert bootstrap_auc(validation, spurious, *once)[0] == pytest.approx(spurious_auc(validation, spurious), abs=1e-12)


@settings(deadline=None)
@given(scores, scores, seeds, st.randoms())
def test_order_of_images_does_not_matter(validation: list[float], spurious: list[float], seed: int, random) -> None:  # type: ignore[no-untyped-def]
    counts_v, counts_s = drawn(len(validation), len(spurious), seed)
    v, s = list(range(len(validation))), list(range(len(spurious)))
    random.shuffle(v)
    random.shuffle(s)
    shuffled = np.array(validation)[v], np.array(spurious)[s], counts_v[:, v], counts_s[:, s]
    for metric in (bootstrap_ap, bootstrap_auc):
        assert metric(*shuffled) == pytest.approx(metric(validation, spurious, counts_v, counts_s), abs=1e-12)


@settings(deadline=None)
@given(scores, scores, seeds)
def test_a_rising_function_of_the_scores_changes_nothing(
    validation: list[float], spurious: list[float], seed: int
) -> None:
    counts = drawn(len(validation), len(spurious), seed)
    for metric in (bootstrap_ap, bootstrap_auc):
        risen = metric(np.exp(3 * np.array(validation)) - 40, np.exp(3 * np.array(spurious)) - 40, *counts)
        assert risen == pytest.approx(metric(validation, spurious, *counts), abs=1e-12)


@pytest.mark.parametrize("resamples", [1, 15, 16, 17, 1000, 1009])
def test_blocks_do_not_show(resamples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    v, s = rng.random(40).round(2), rng.random(30).round(2)
    counts = bootstrap_counts(40, resamples, rng), bootstrap_counts(30, resamples, rng)
    before = [metric(v, s, *counts) for metric in (bootstrap_ap, bootstrap_auc)]
    monkeypatch.setattr(module, "_BLOCK", 1)
    after = [metric(v, s, *counts) for metric in (bootstrap_ap, bootstrap_auc)]
    assert np.array(before) == pytest.approx(np.array(after), abs=1e-14)
    assert before[0].shape == (resamples,)


@settings(deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), seeds)
def test_mean_of_every_resample(values: list[float], seed: int) -> None:
    counts = bootstrap_counts(len(values), 5, np.random.default_rng(seed))
    expected = [np.repeat(values, row).mean() for row in counts]
    assert bootstrap_mean(values, counts) == pytest.approx(expected, abs=1e-9)


def test_mean_over_classes_resamples_classes_alike_for_equal_seeds() -> None:
    values = np.random.default_rng(0).random((6, 50))
    counts = bootstrap_counts(6, 50, class_rng(3, "", 0))
    expected = [np.average(values[:, r], weights=counts[r]) for r in range(50)]
    assert mean_over_classes(values, class_rng(3, "", 0)) == pytest.approx(expected, abs=1e-12)


def test_mean_over_classes_varies_with_the_classes_even_where_images_do_not() -> None:
    values = np.tile([[0.0], [1.0]], 400)
    found = interval(mean_over_classes(values, np.random.default_rng(0)))
    assert (found.low, found.high) == (0, 1)


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 0.95]))
def test_interval_is_between_percentiles(values: list[float], level: float) -> None:
    found = interval(values, level)
    assert found.low == pytest.approx(percentile(values, (1 - level) / 2), abs=1e-9)
    assert found.high == pytest.approx(percentile(values, (1 + level) / 2), abs=1e-9)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        sample = rng.normal(0.3, 1, 60)
        found = interval(bootstrap_mean(sample, bootstrap_counts(60, 400, rng)))
        inside += found.low <= 0.3 <= found.high
    assert 0.90 <= inside / 300 <= 0.98


def test_draws_depend_on_seed_class_and_side_alone() -> None:
    draws = [bootstrap_counts(12, 3, class_rng(*key)) for key in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0))]
    assert (draws[0] == bootstrap_counts(12, 3, class_rng(0, "a", 0))).all()
    assert all((draws[0] != other).any() for other in draws[1:])


def test_pairing_finds_a_difference_that_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, 100)
    a, b = hard + 0.1, hard + rng.normal(0, 0.05, 100)
    counts = bootstrap_counts(100, 1000, rng)
    first, second = bootstrap_mean(a, counts), bootstrap_mean(b, counts)
    assert interval(second).high > interval(first).low
    found = paired_difference(a.mean(), b.mean(), first, second)
    assert found.distinguishable
    assert found.interval.low > 0.05
    assert found.standard_error == pytest.approx(np.std(a - b, ddof=1) / 10, rel=0.1)
    assert found.sentence.startswith("they differ: +0.1")


def test_what_cannot_be_told_apart_says_what_could_have_been() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(50)
    counts = bootstrap_counts(50, 1000, rng)
    found = paired_difference(a.mean(), b.mean(), bootstrap_mean(a, counts), bootstrap_mean(b, counts))
    assert not found.distinguishable
    assert found.detectable == pytest.approx(2.802 * found.standard_error)
    assert "cannot be told apart" in found.sentence
    assert f"{found.detectable:.3f}" in found.sentence


def test_the_detectable_difference_is_found_four_times_of_five() -> None:
    rng = np.random.default_rng(0)
    n, sd = 80, 1.0
    shift = 2.802 * sd / np.sqrt(n)
    found = 0
    for _ in range(300):
        sample = rng.normal(shift, sd, n)
        resampled = bootstrap_mean(sample, bootstrap_counts(n, 400, rng))
        found += paired_difference(sample.mean(), 0, resampled, np.zeros(400)).distinguishable
    assert 0.73 <= found / 300 <= 0.87


def test_swapping_two_models_turns_the_sign_of_their_difference() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(200), rng.random(200)
    there, back = paired_difference(0.6, 0.5, a, b), paired_difference(0.5, 0.6, b, a)
    assert there.difference == -back.difference
    assert there.interval.low == pytest.approx(-back.interval.high)
    assert there.distinguishable == back.distinguishable


def test_a_model_cannot_be_told_apart_from_itself_and_promises_nothing() -> None:
    values = np.random.default_rng(0).random(100)
    found = paired_difference(0.5, 0.5, values, values)
    assert (found.difference, found.distinguishable, found.detectable) == (0, False, None)
    assert "the same on every image" in found.sentence


def test_rounding_alone_tells_no_models_apart() -> None:
    values = np.random.default_rng(0).random(100)
    found = paired_difference(0.5, 0.5, values, values + 1e-16)
    assert not found.distinguishable


@pytest.mark.parametrize(
    ("validation", "spurious", "shape_v", "shape_s"),
    [
        ([], [0.1], (3, 0), (3, 1)),
        ([0.1], [], (3, 1), (3, 0)),
        ([np.nan], [0.1], (3, 1), (3, 1)),
        ([0.1], [np.inf], (3, 1), (3, 1)),
        ([0.1, 0.2], [0.1], (3, 1), (3, 1)),
        ([0.1], [0.1], (3, 1), (4, 1)),
        ([0.1], [0.1], (0, 1), (0, 1)),
        ([[0.1]], [0.1], (3, 1), (3, 1)),
    ],
)
def test_what_is_undefined_raises(
    validation: list[float], spurious: list[float], shape_v: tuple[int, int], shape_s: tuple[int, int]
) -> None:
    for metric in (bootstrap_ap, bootstrap_auc):
        with pytest.raises(UndefinedMetricError, match="expected"):
            metric(validation, spurious, np.ones(shape_v, np.int32), np.ones(shape_s, np.int32))


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap_counts(0, 3, np.random.default_rng(0)),
        lambda: bootstrap_counts(3, 0, np.random.default_rng(0)),
        lambda: bootstrap_mean([np.nan], np.ones((2, 1), np.int32)),
        lambda: bootstrap_mean([], np.ones((2, 0), np.int32)),
        lambda: mean_over_classes(np.empty((0, 5)), np.random.default_rng(0)),
        lambda: mean_over_classes([[np.nan]], np.random.default_rng(0)),
        lambda: interval([]),
        lambda: interval([0.1, np.nan]),
        lambda: paired_difference(0, 0, [0.1, 0.2], [0.1]),
        lambda: paired_difference(0, 0, [0.1], [0.1]),
    ],
)
def test_what_has_no_value_raises(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UndefinedMetricError, match="expected"):
        call()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6))
def test_models_that_say_the_same_of_every_image_score_by_chance(n: int, m: int) -> None:
    counts = drawn(n, m, 0)
    assert bootstrap_auc(np.full(n, 0.3), np.full(m, 0.3), *counts) == pytest.approx(np.full(7, 0.5))
    assert bootstrap_ap(np.full(n, 0.3), np.full(m, 0.3), *counts) == pytest.approx(np.full(7, n / (n + m)))
