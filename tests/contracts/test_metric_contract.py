"""What every metric keeps to: its range, no order of images, no NaN, and the value of a naive second implementation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from inspect import isfunction
from pkgutil import iter_modules
from typing import Any

import numpy as np
import pytest
from reference.bootstrap import by_resample, percentile
from reference.gaps import accuracy_in, distance_from_line, gap_by_sorting, pearson, sample_variance
from reference.metrics import auc_by_counting, average_precision_by_thresholds
from reference.spuriosity import spuriosity_by_definition

from spurious_imagenet.benchmark import metrics
from spurious_imagenet.benchmark.metrics import bootstrap_counts
from spurious_imagenet.errors import UndefinedMetricError

#: Functions that measure nothing of a model, so that no contract of a metric is theirs.
NO_METRIC = {
    "bootstrap_counts": "draws resamples",
    "class_rng": "seeds the draws",
    "storage_noise": "the rounding of stored features",
}


def every_metric() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for module in (import_module(f"{metrics.__name__}.{m.name}") for m in iter_modules(metrics.__path__)):
        found |= {name: f for name in module.__all__ if isfunction(f := getattr(module, name))}
    return found


METRICS = every_metric()


def numbers(result: Any) -> np.ndarray:
    """Return what a metric gave as an array, whatever holds it."""
    if isinstance(result, list):
        return np.array([numbers(one) for one in result])
    if hasattr(result, "standard_error"):
        return np.array([result.difference, result.interval.low, result.interval.high, result.standard_error])
    if hasattr(result, "high") and hasattr(result, "low"):
        return np.array([result.low, result.high])
    return np.asarray(result)


@dataclass(frozen=True)
class Metric:
    """How a metric is called, and what its value must be."""

    example: Callable[[np.random.Generator], tuple[Any, ...]]
    """Valid arguments, with ties."""
    reference: Callable[..., Any]
    undefined: tuple[tuple[Any, ...], ...]
    """Arguments for which there is no value."""
    together: tuple[dict[int, int], ...] = ()
    """Arguments (index → axis) whose order may change together without a change of the value."""
    low: float = -math.inf
    high: float = math.inf
    per_row: bool = False
    """One value per image, which moves with it."""
    read: Callable[[Any], Any] = numbers


def rounded(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return values of which many are equal."""
    return rng.integers(0, 8, shape) / 8


def sides(rng: np.random.Generator) -> tuple[Any, ...]:
    return rounded(rng, 9), rounded(rng, 6)


def drawn_sides(rng: np.random.Generator) -> tuple[Any, ...]:
    return *sides(rng), bootstrap_counts(9, 5, rng), bootstrap_counts(6, 5, rng)


def one_class(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.random(9) < 0.5, rounded(rng, 9), np.array(list("abcdefghi")), 4


def mean_by_drawing(values: np.ndarray, rng: np.random.Generator) -> list[float]:
    counts = bootstrap_counts(len(values), values.shape[1], rng)
    return [np.repeat(values[:, r], counts[r]).mean() for r in range(values.shape[1])]


def ends(values: Any) -> list[float]:
    return [percentile(values, 0.025), percentile(values, 0.975)]


def paired_by_definition(a: float, b: float, first: np.ndarray, second: np.ndarray) -> list[float]:
    apart = [x - y for x, y in zip(first, second, strict=True)]
    return [a - b, *ends(apart), math.sqrt(sample_variance(apart))]


def bins_by_counting(correct: Any, place: Any, bins: int) -> list[tuple[int, float]]:
    found = []
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        if any(low <= p < high or p == high == 1 for p in place):
            found.append(accuracy_in(correct, place, low, high))
    return found


def by_the_keys(values: Any, keys: Any, k: int) -> tuple[list[str], list[str]]:
    ordered = [key for _, key in sorted(zip(values, keys, strict=True))]
    return ordered[-k:], ordered[:k]


def apart(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.random(7), rounded(rng, 7)


NONE = np.empty(0)
SIDES: dict[str, Any] = {"together": ({0: 0}, {1: 0}), "low": 0, "high": 1}
SIDES["undefined"] = ((NONE, [0.5]), ([0.5], NONE), ([[0.5]], [0.5]))
COUNTS_OF_ONE = np.ones((3, 1), np.int32)
DRAWN: dict[str, Any] = {"example": drawn_sides, "low": 0, "high": 1, "together": ({0: 0, 2: 1}, {1: 0, 3: 1})}
DRAWN["undefined"] = ((NONE, [0.5], COUNTS_OF_ONE, COUNTS_OF_ONE), ([0.5], [0.5], COUNTS_OF_ONE, COUNTS_OF_ONE[:2]))

CASES: dict[str, Metric] = {
    "spurious_ap": Metric(sides, average_precision_by_thresholds, **SIDES),
    "spurious_auc": Metric(sides, auc_by_counting, **SIDES),
    "bootstrap_ap": Metric(reference=lambda *a: by_resample(average_precision_by_thresholds, *a), **DRAWN),
    "bootstrap_auc": Metric(reference=lambda *a: by_resample(auc_by_counting, *a), **DRAWN),
    "bootstrap_mean": Metric(
        lambda rng: (rounded(rng, 9), bootstrap_counts(9, 5, rng)),
        lambda values, counts: [np.repeat(values, one).mean() for one in counts],
        ((NONE, COUNTS_OF_ONE), ([0.5, 0.5], COUNTS_OF_ONE)),
        ({0: 0, 1: 1},),
        0,
        1,
    ),
    "mean_over_classes": Metric(
        lambda rng: (rounded(rng, 4, 5), rng),
        mean_by_drawing,
        ((np.empty((0, 3)), np.random.default_rng(0)), ([0.5], np.random.default_rng(0))),
        low=0,
        high=1,
    ),
    "spuriosity": Metric(
        lambda rng: (rounded(rng, 9, 3),),
        spuriosity_by_definition,
        ((np.empty((0, 2)),), (np.empty((2, 0)),), ([[0.5], [0.5]], [0])),
        ({0: 0},),
        per_row=True,
    ),
    "varying_concepts": Metric(
        lambda rng: (np.c_[rounded(rng, 9, 2), np.full(9, 0.1)],),
        lambda scores: [len(set(column)) > 1 for column in scores.T],
        ((np.empty((0, 2)),), ([0.5],)),
        ({0: 0},),
        0,
        1,
    ),
    "interval": Metric(lambda rng: (rounded(rng, 9),), ends, ((NONE,), ([[0.5]],)), ({0: 0},), 0, 1),
    "intervals": Metric(
        lambda rng: (rounded(rng, 3, 9),), lambda v: [ends(row) for row in v], ((NONE,), ([[]],)), ({0: 1},), 0, 1
    ),
    "paired_difference": Metric(
        lambda rng: (0.5, 0.25, *(rounded(rng, 9) for _ in range(2))),
        paired_by_definition,
        ((0.5, 0.5, [0.5], [0.5]), (0.5, 0.5, [0.5, 0.5], [0.5])),
        ({2: 0, 3: 0},),
        -1,
        1,
    ),
    "top_and_bottom_k": Metric(
        lambda rng: one_class(rng)[1:],
        by_the_keys,
        (([0.5], ["a"], 1), ([0.5, 0.5], ["a", "b"], 0), ([0.5, 0.5], ["a"], 1)),
        ({0: 0, 1: 0},),
        read=lambda found: found,
    ),
    "spurious_gap": Metric(
        one_class,
        gap_by_sorting,
        (([True], [0.5], ["a"], 1), ([True], [0.5, 0.5], ["a", "b"], 1)),
        ({0: 0, 1: 0, 2: 0},),
        -1,
        1,
        read=lambda gap: np.asarray(gap.gap),
    ),
    "mean_gap": Metric(lambda rng: (rounded(rng, 9),), np.mean, ((NONE,), ([[0.5]],)), ({0: 0},), -1, 1),
    "pooled_gap": Metric(
        lambda rng: tuple([rng.random(3) < 0.5 for _ in range(2)] for _ in range(2)),
        lambda high, low: np.mean(np.ravel(high)) - np.mean(np.ravel(low)),
        (([], []), ([np.array([True])], [])),
        low=-1,
        high=1,
    ),
    "accuracy_by_percentile": Metric(
        lambda rng: (rng.random(9) < 0.5, rounded(rng, 9), 4),
        bins_by_counting,
        (([], NONE, 4), ([True], [1.5], 4), ([True], [0.5], 0), ([True, True], [0.5], 4)),
        ({0: 0, 1: 0},),
        read=lambda bins: np.array([(b.images, b.accuracy) for b in bins]),
    ),
    "effective_robustness": Metric(
        apart,
        distance_from_line,
        (([0.1, 0.2], [0.1, 0.2]), ([0.3, 0.3, 0.3], [0.1, 0.2, 0.3])),
        ({0: 0, 1: 0},),
        per_row=True,
        read=lambda line: line.effective_robustness,
    ),
    "gap_correlation": Metric(
        apart, pearson, (([0.1], [0.1]), ([0.1, 0.2], [0.3, 0.3]), ([0.1, 0.2], [0.1])), ({0: 0, 1: 0},), -1, 1
    ),
    "variance_ratio": Metric(
        lambda rng: (rounded(rng, 3, 4),),
        lambda gaps: (sample_variance(gaps.mean(axis=0)), sample_variance(gaps.mean(axis=1))),
        (([[0.1, 0.2]],), ([[0.1], [0.2]],), ([0.1],)),
        ({0: 0}, {0: 1}),
        0,
    ),
}


def test_every_metric_has_its_contract() -> None:
    assert set(CASES) | set(NO_METRIC) == set(METRICS)
    assert not set(CASES) & set(NO_METRIC)


def value(name: str, arguments: tuple[Any, ...]) -> Any:
    given = [np.random.default_rng(5) if isinstance(a, np.random.Generator) else a for a in arguments]
    return CASES[name].read(METRICS[name](*given))


def with_nan(arguments: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Give the arguments with one number, in turn, that is none."""
    for i, argument in enumerate(arguments):
        if isinstance(argument, np.ndarray) and argument.dtype.kind == "f":
            for bad in (math.nan, math.inf):
                broken = argument.copy()
                broken.flat[-1] = bad
                yield (*arguments[:i], broken, *arguments[i + 1 :])


def examples(name: str) -> Iterator[tuple[Any, ...]]:
    for seed in range(3):
        yield CASES[name].example(np.random.default_rng(seed))


@pytest.mark.parametrize("name", CASES)
class TestMetric:
    def test_it_has_the_value_of_a_naive_implementation(self, name: str) -> None:
        for arguments in examples(name):
            given = [np.random.default_rng(5) if isinstance(a, np.random.Generator) else a for a in arguments]
            expected, found = CASES[name].reference(*given), value(name, arguments)
            if name == "top_and_bottom_k":
                high, low = ([str(arguments[1][i]) for i in side] for side in found)
                assert (high, low) == expected
            else:
                np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=0, atol=1e-12)

    def test_it_stays_in_its_range(self, name: str) -> None:
        for arguments in examples(name):
            found = np.asarray(value(name, arguments), float)
            assert np.isfinite(found).all()
            assert CASES[name].low <= found.min() <= found.max() <= CASES[name].high

    def test_the_order_of_the_images_does_not_matter(self, name: str) -> None:
        for arguments in examples(name):
            before = value(name, arguments)
            for together in CASES[name].together:
                (count,) = {np.shape(arguments[i])[axis] for i, axis in together.items()}
                order = np.random.default_rng(count).permutation(count)
                moved = [np.take(a, order, together[i]) if i in together else a for i, a in enumerate(arguments)]
                after = value(name, tuple(moved))
                if name == "top_and_bottom_k":
                    after = [order[side] for side in after]
                expected = before[order] if CASES[name].per_row else before
                np.testing.assert_allclose(np.asarray(after, float), np.asarray(expected, float), rtol=0, atol=1e-12)

    def test_it_changes_nothing_that_it_is_given(self, name: str) -> None:
        for arguments in examples(name):
            before = [np.array(a, copy=True) for a in arguments]
            value(name, arguments)
            assert all(np.array_equal(a, b) for a, b in zip(before, arguments, strict=True) if a.dtype.kind != "O")

    def test_a_number_that_is_none_is_refused(self, name: str) -> None:
        for arguments in examples(name):
            for broken in with_nan(arguments):
                with pytest.raises(UndefinedMetricError) as refused:
                    value(name, broken)
                assert len(str(refused.value).splitlines()) == 1

    def test_where_there_is_no_value_none_is_given(self, name: str) -> None:
        for arguments in CASES[name].undefined:
            with pytest.raises(UndefinedMetricError) as refused:
                METRICS[name](*arguments)
            assert len(str(refused.value).splitlines()) == 1
