from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.metrics import auc_by_counting, average_precision_by_thresholds
from sklearn.metrics import average_precision_score

from spurious_imagenet.benchmark.metrics import spurious_ap, spurious_auc
from spurious_imagenet.errors import UndefinedMetricError

# A coarse grid makes ties common.
scores = st.lists(st.integers(0, 8).map(lambda i: i / 8), min_size=1, max_size=40)


@given(scores, scores)
def test_auc_equals_counting_pairs_with_ties_one_half(validation: list[float], spurious: list[float]) -> None:
    assert spurious_auc(validation, spurious) == pytest.approx(auc_by_counting(validation, spurious), abs=1e-12)


@given(scores, scores)
def test_ap_equals_its_definition_and_sklearn(validation: list[float], spurious: list[float]) -> None:
    ours = spurious_ap(validation, spurious)
    labels = [1] * len(validation) + [0] * len(spurious)
    assert ours == pytest.approx(average_precision_by_thresholds(validation, spurious), abs=1e-12)
    assert ours == pytest.approx(average_precision_score(labels, validation + spurious), abs=1e-12)


@given(scores, scores)
def test_auc_of_swapped_sides_is_its_complement(validation: list[float], spurious: list[float]) -> None:
    assert spurious_auc(validation, spurious) + spurious_auc(spurious, validation) == pytest.approx(1)


@given(scores, scores, st.randoms())
def test_order_of_images_does_not_matter(validation: list[float], spurious: list[float], random) -> None:  # type: ignore[no-untyped-def]
    before = spurious_ap(validation, spurious), spurious_auc(validation, spurious)
    random.shuffle(validation)
    random.shuffle(spurious)
    assert (spurious_ap(validation, spurious), spurious_auc(validation, spurious)) == pytest.approx(before)


def test_indistinguishable_sides_give_chance_of_each_metric() -> None:
    assert spurious_ap(np.full(50, 0.3), np.full(75, 0.3)) == pytest.approx(50 / 125)
    assert spurious_auc(np.full(50, 0.3), np.full(75, 0.3)) == pytest.approx(0.5)


def test_perfect_separation_is_one() -> None:
    assert spurious_ap([0.9, 0.8], [0.1]) == spurious_auc([0.9, 0.8], [0.1]) == 1


def test_ap_and_auc_may_disagree_grossly() -> None:
    # A few class images on top and the rest below all spurious ones: precision stays high, most pairs are lost.
    validation, spurious = [0.9] * 4 + [0.1] * 6, [0.5] * 2
    assert spurious_auc(validation, spurious) < 0.5 < 0.85 < spurious_ap(validation, spurious)


@pytest.mark.parametrize(("validation", "spurious"), [([], [0.1]), ([0.1], []), ([np.nan], [0.1]), ([0.1], [np.inf])])
def test_what_is_undefined_raises(validation: list[float], spurious: list[float]) -> None:
    for metric in (spurious_ap, spurious_auc):
        with pytest.raises(UndefinedMetricError):
            metric(validation, spurious)
