from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference.spuriosity import spuriosity_by_definition

from spurious_imagenet.benchmark.metrics.spuriosity import spuriosity, storage_noise, varying_concepts
from spurious_imagenet.errors import UndefinedMetricError

# A coarse grid makes ties and constant concepts common.
grid = st.integers(-6, 6).map(lambda i: i / 4)
scores = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=grid)
)


@given(scores)
def test_spuriosity_is_what_the_definition_says(values: np.ndarray) -> None:
    np.testing.assert_allclose(spuriosity(values), spuriosity_by_definition(values.tolist()), atol=1e-12)


@given(scores, st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_each_class_has_its_own_mean_and_deviation(values: np.ndarray, labels: list[int]) -> None:
    classes = np.array(labels[: len(values)])
    together = spuriosity(values, classes)
    for label in set(classes.tolist()):
        assert together[classes == label].tolist() == spuriosity(values[classes == label]).tolist()


@given(scores, st.sampled_from([0.25, 2.0, 16.0]), st.integers(-8, 8))
def test_unit_and_origin_of_a_concept_do_not_matter(values: np.ndarray, scale: float, shift: int) -> None:
    moved = values.copy()
    moved[:, 0] = moved[:, 0] * scale + shift
    np.testing.assert_allclose(spuriosity(moved), spuriosity(values), atol=1e-12)


@given(scores, st.floats(-60000, 60000, width=16))
def test_a_constant_concept_only_dilutes(values: np.ndarray, constant: float) -> None:
    count = values.shape[1]
    for dtype in (np.float16, np.float32, np.float64):
        with_constant = np.column_stack([values, np.full(len(values), constant)]).astype(dtype)
        assert not varying_concepts(with_constant)[-1]
        np.testing.assert_allclose(
            spuriosity(with_constant) * (count + 1), spuriosity(values.astype(dtype)) * count, atol=1e-9
        )


@given(scores, st.randoms())
def test_order_of_images_and_of_concepts_does_not_matter(values: np.ndarray, random) -> None:  # type: ignore[no-untyped-def]
    images, concepts = list(range(len(values))), list(range(values.shape[1]))
    random.shuffle(images)
    random.shuffle(concepts)
    np.testing.assert_allclose(spuriosity(values[images][:, concepts]), spuriosity(values)[images], atol=1e-12)


@given(scores)
def test_equal_images_are_equally_spurious_and_the_mean_is_zero(values: np.ndarray) -> None:
    result = spuriosity(np.concatenate([values, values]))
    np.testing.assert_array_equal(result[: len(values)], result[len(values) :])
    assert result.mean() == pytest.approx(0, abs=1e-12)


@given(scores, st.floats(0.01, 5))
def test_more_of_a_concept_is_more_spurious(values: np.ndarray, more: float) -> None:
    values = np.concatenate([values, values[-1:] + more])
    result = spuriosity(values)
    assert result[-1] >= result[-2]


def test_what_float16_rounds_away_is_no_variation() -> None:
    rng = np.random.default_rng(0)
    # Every feature varies by a thirtieth of what float16 can tell, half way between two of its numbers.
    true = 40 + 2**-6 + 1e-3 * rng.standard_normal((200, 8))
    features, directions = true.astype(np.float16), rng.standard_normal((3, 8)).astype(np.float32)
    values = features.astype(np.float32) @ directions.T
    assert spuriosity(values).any()
    assert not spuriosity(values, noise=storage_noise(features, directions)).any()
    features[:, 2] += (np.arange(200) % 2).astype(np.float16)
    values = features.astype(np.float32) @ directions.T
    assert varying_concepts(values, noise=storage_noise(features, directions)).all()


def test_storage_noise_bounds_what_rounding_does() -> None:
    rng = np.random.default_rng(1)
    for scale in (1e-7, 1e-3, 1.0, 300.0):
        true = scale * rng.standard_normal((500, 16))
        kept, directions = true.astype(np.float16), rng.standard_normal((4, 16))
        error = (kept.astype(np.float64) - true) @ directions.T
        noise = storage_noise(kept, directions)
        assert (error.std(axis=0) < noise).all()
        assert (error.std(axis=0) > noise / 10).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.empty((0, 2)), r"shape \(0, 2\)"),
        (np.empty((3, 0)), r"shape \(3, 0\)"),
        (np.ones(3), r"shape \(3,\)"),
        (np.array([[1.0], [np.nan]]), "NaN or infinite"),
        (np.array([[1.0], [np.inf]]), "NaN or infinite"),
    ],
)
def test_undefined_spuriosity_raises(values: np.ndarray, words: str) -> None:
    with pytest.raises(UndefinedMetricError, match=words):
        spuriosity(values)


def test_labels_of_another_number_of_images_are_refused() -> None:
    with pytest.raises(UndefinedMetricError, match=r"3 images and labels of shape \(2,\)"):
        spuriosity(np.ones((3, 1)), [0, 1])


def test_whole_numbers_are_scores_too() -> None:
    assert spuriosity([[1], [3]]).tolist() == [-1, 1]
