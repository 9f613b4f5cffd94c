from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.topn import top_by_sorting

from spurious_imagenet.builders.mining._topn import MAX_ID, StreamingTopN
from spurious_imagenet.errors import ConfigError, DataError

BLOCKS = [1, 7, 256, 5000]


def update(top: StreamingTopN, scores: np.ndarray, ids: np.ndarray) -> None:
    """Hand over (B, M) scores of images that count for every concept."""
    images, concepts = scores.shape
    top.update(np.tile(np.arange(concepts), images), scores.reshape(-1), np.repeat(ids, concepts))


def streamed(scores: np.ndarray, ids: np.ndarray, n: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    top = StreamingTopN(scores.shape[1], n)
    for start in range(0, len(ids), block):
        update(top, scores[start : start + block], ids[start : start + block])
    return top.result()


def check(scores: np.ndarray, ids: np.ndarray, n: int, block: int) -> None:
    for got, expected in zip(streamed(scores, ids, n, block), top_by_sorting(scores, ids, n), strict=True):
        np.testing.assert_array_equal(got, expected)


def some_scores(order: str, images: int, concepts: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    scores = rng.standard_normal((images, concepts), dtype=np.float32)
    if order == "ties":
        return np.round(scores).astype(np.float32)
    if order == "equal":
        return np.full_like(scores, -2.5)
    if order == "mixed":  # one concept rises while the others come at random
        scores[:, 0].sort()
        return scores
    if order == "random":
        return scores
    return np.sort(scores, axis=0)[:: 1 if order == "ascending" else -1]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("order", ["random", "ascending", "descending", "mixed", "ties", "equal"])
@pytest.mark.parametrize("n", [1, 10, 1500])
def test_equals_sorting_everything(order: str, block: int, n: int) -> None:
    images = 300 if block == 1 else 4000
    scores = some_scores(order, images, concepts=3)
    check(scores, np.random.default_rng(8).permutation(images) * 1000, n, block)


grid = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, np.inf, float(np.float32(1e-45)), -3e38])


@settings(deadline=None, max_examples=150)
@given(st.data(), st.integers(1, 60), st.integers(1, 4), st.integers(1, 70), st.sampled_from([1, 3, 100]))
def test_equals_sorting_on_few_values(data: st.DataObject, images: int, concepts: int, n: int, block: int) -> None:
    values = data.draw(st.lists(grid, min_size=images * concepts, max_size=images * concepts))
    ids = data.draw(st.lists(st.integers(0, MAX_ID), min_size=images, max_size=images, unique=True))
    check(np.array(values, np.float32).reshape(images, concepts), np.array(ids), n, block)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(1, 50))
def test_order_and_size_of_blocks_do_not_matter(seed: int, images: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 40, (images, 3)).astype(np.float32)
    ids = rng.permutation(images)
    order = rng.permutation(images)
    cut = int(rng.integers(1, images + 1))
    for a, b in zip(streamed(scores, ids, n, 256), streamed(scores[order], ids[order], n, cut), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("count", [5, 3000, 9000])
def test_pairs_equal_sorting_each_concept_s_own_images(count: int) -> None:
    rng = np.random.default_rng(count)
    scores = np.full((count, 4), np.nan, np.float32)
    concepts = rng.choice(4, count, p=[0.9, 0.05, 0.05, 0.0])  # more at once than a queue holds; one concept has none
    values = rng.integers(0, 30, count).astype(np.float32)
    scores[np.arange(count), concepts] = values
    top = StreamingTopN(4, 20)
    for part in np.array_split(np.arange(count), 3):
        top.update(concepts[part], values[part], part)
    best, ids = top.result()
    for m in range(4):
        own = np.flatnonzero(concepts == m)
        expected = top_by_sorting(scores[own, m : m + 1], own, 20)
        np.testing.assert_array_equal(best[m], expected[0][0])
        np.testing.assert_array_equal(ids[m], expected[1][0])


def test_the_stream_goes_on_after_a_result() -> None:
    scores = some_scores("random", 3000, 2)
    top = StreamingTopN(2, 15)
    for part in np.array_split(np.arange(3000), 11):
        update(top, scores[part], part)
        top.result()
    np.testing.assert_array_equal(top.result()[1], top_by_sorting(scores, np.arange(3000), 15)[1])


def test_many_concepts_keep_short_queues() -> None:
    top = StreamingTopN(60_000, 2)
    scores = np.random.default_rng(0).standard_normal((1200, 1)).astype(np.float32) + np.zeros((1, 60_000), np.float32)
    update(top, scores, np.arange(1200))
    best, ids = top.result()
    expected = top_by_sorting(scores[:, :1], np.arange(1200), 2)
    assert (best == expected[0]).all()
    assert (ids == expected[1]).all()


@pytest.mark.parametrize("warm", [0, 2000])
@pytest.mark.parametrize("share", [1.0, 0.001])
def test_nan_is_refused_wherever_it_comes(warm: int, share: float) -> None:
    rng = np.random.default_rng(0)
    top = StreamingTopN(3, 5)
    if warm:
        update(top, rng.standard_normal((warm, 3)).astype(np.float32) + 10, np.arange(warm))
    block = rng.standard_normal((400, 3)).astype(np.float32) + (20 if share == 1.0 else 0)
    block[17, 2] = np.nan
    with pytest.raises(DataError, match="concept 2 for image 9017 is NaN"):
        update(top, block, np.arange(9000, 9400))
    with pytest.raises(DataError, match="concept 1 for image 3 is NaN"):
        top.update(np.array([0, 1]), np.array([1, np.nan], np.float32), np.array([2, 3]))


def test_wrong_shapes_types_and_ids_are_refused() -> None:
    top = StreamingTopN(3, 5)
    scores, concepts, ids = np.zeros(3, np.float32), np.arange(3), np.arange(3)
    for bad in (scores.astype(np.float64), scores[:2], scores[:, None]):
        with pytest.raises(DataError, match="expected float32 scores and equal lengths"):
            top.update(concepts, bad, ids)
    for bad_ids in (ids - 1, ids + MAX_ID - 1):
        with pytest.raises(DataError, match="expected ids in"):
            top.update(concepts, scores, bad_ids)
    with pytest.raises(DataError, match="concept outside"):
        top.update(np.array([3]), np.zeros(1, np.float32), np.array([0]))
    with pytest.raises(DataError, match="equal lengths"):
        top.update(np.array([1, 2]), np.zeros(1, np.float32), np.array([0]))
    with pytest.raises(ConfigError, match="0 and 5"):
        StreamingTopN(0, 5)
    with pytest.raises(ConfigError, match="3 and 0"):
        StreamingTopN(3, 0)
    top.update(concepts[:0], scores[:0], ids[:0])
    assert (top.result()[1] == -1).all()
