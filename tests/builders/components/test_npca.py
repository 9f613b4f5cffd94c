from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference.npca import alpha, eigenpairs

from spurious_imagenet.builders.components import class_npca, npca_concepts
from spurious_imagenet.errors import DataError


def a_class(images: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rectified features of rapidly decaying variance, as a network's are, and a weight row."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((dim, dim)) * (0.8 ** np.arange(dim))[:, None]
    return np.maximum(rng.standard_normal((images, dim)) @ mixing + 0.5, 0), rng.standard_normal(dim)


SHAPES = [(2, 5), (5, 2), (2, 2), (7, 30), (30, 7), (12, 12), (13, 12)]


@pytest.mark.parametrize(("images", "dim"), SHAPES)
def test_components_are_those_of_the_full_covariance(images: int, dim: int) -> None:
    features, weight = a_class(images, dim)
    values, vectors, mean = eigenpairs(features, weight)
    npca = class_npca(features, weight, top=dim)
    assert npca.rank == len(npca.eigenvalues) == min(images - 1, dim)
    np.testing.assert_allclose(npca.eigenvalues, values[: npca.rank], rtol=1e-7, atol=1e-12 * values[0])
    assert npca.total_variance == pytest.approx(values.sum())
    np.testing.assert_allclose(npca.psi_mean, mean)
    directions, offsets = npca_concepts(npca, weight)
    for image in np.vstack([features[:2], a_class(3, dim, seed=1)[0]]):
        expected = [alpha(image, weight, v, mean) for v in vectors[: npca.rank]]
        np.testing.assert_allclose(directions[:-1] @ image + offsets[:-1], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("images", "dim"), SHAPES)
def test_eigenvectors_are_orthonormal_and_signed(images: int, dim: int) -> None:
    npca = class_npca(*a_class(images, dim), top=dim)
    np.testing.assert_allclose(npca.eigenvectors @ npca.eigenvectors.T, np.eye(npca.rank), atol=1e-12)
    np.testing.assert_allclose(npca.ones_dot_v, npca.eigenvectors.sum(axis=1), atol=1e-14)
    assert (npca.ones_dot_v > -1e-9).all()


@pytest.mark.parametrize("top", [1, 3, 100])
@pytest.mark.parametrize(("images", "dim"), SHAPES)
def test_contributions_and_residual_add_up_to_the_logit_of_any_image(images: int, dim: int, top: int) -> None:
    features, weight = a_class(images, dim)
    npca = class_npca(features, weight, top)
    directions, offsets = npca_concepts(npca, weight)
    assert len(directions) == len(offsets) == min(top, npca.rank) + 1
    unseen = np.vstack([features, 3 * a_class(50, dim, seed=2)[0]])
    logits = unseen @ weight
    total = (unseen @ directions.T + offsets).sum(axis=1) + npca.psi_mean.sum()
    assert np.abs(total - logits).max() <= 1e-9 * np.ptp(logits)


def test_flipped_eigenvectors_give_the_same_concepts() -> None:
    features, weight = a_class(20, 40)
    npca = class_npca(features, weight, top=10)
    signs = np.where(np.arange(10) % 2, 1.0, -1.0)
    flipped = replace(npca, eigenvectors=npca.eigenvectors * signs[:, None], ones_dot_v=npca.ones_dot_v * signs)
    for before, after in zip(npca_concepts(npca, weight), npca_concepts(flipped, weight), strict=True):
        np.testing.assert_array_equal(before, after)


def test_an_image_given_twice_doubles_the_sums_and_keeps_the_contributions() -> None:
    features, weight = a_class(6, 10)
    once, twice = class_npca(features, weight, 5), class_npca(np.repeat(features, 2, axis=0), weight, 5)
    assert once.rank == twice.rank == 5
    np.testing.assert_allclose(twice.eigenvalues, 2 * once.eigenvalues)
    for a, b in zip(npca_concepts(once, weight), npca_concepts(twice, weight), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_a_constant_feature_contributes_through_the_mean_only() -> None:
    features, weight = a_class(8, 20)
    features[:, 3] = 7.25
    directions, _ = npca_concepts(class_npca(features, weight, 20), weight)
    np.testing.assert_allclose(directions[:-1, 3], 0, atol=1e-12)
    assert directions[-1, 3] == pytest.approx(weight[3])


@pytest.mark.parametrize(("images", "dim"), [(40, 10), (10, 40)])
def test_rank_counts_the_dimensions_in_which_images_differ(images: int, dim: int) -> None:
    rng = np.random.default_rng(3)
    features = 100 + rng.standard_normal((images, 3)) @ rng.standard_normal((3, dim))
    npca = class_npca(features, np.ones(dim), top=dim)
    assert npca.rank == 3
    np.testing.assert_allclose(npca.explained_share.sum(), 1)


@pytest.mark.parametrize("images", [2, 3, 50, 1301])
def test_equal_images_have_rank_zero_and_leave_all_to_the_residual(images: int) -> None:
    features, weight = np.tile(a_class(1, 30)[0], (images, 1)), a_class(1, 30)[1]
    npca = class_npca(features, weight, top=4)
    directions, offsets = npca_concepts(npca, weight)
    assert npca.rank == 0
    np.testing.assert_array_equal(directions, weight[None])
    np.testing.assert_allclose(offsets, -npca.psi_mean.sum())


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_order_of_images_does_not_matter(images: int, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, weight = rng.standard_normal((images, dim)), rng.standard_normal(dim)
    shuffled = class_npca(features[rng.permutation(images)], weight, top=1)
    npca = class_npca(features, weight, top=1)
    assert shuffled.rank == npca.rank
    np.testing.assert_allclose(shuffled.eigenvalues, npca.eigenvalues, rtol=1e-9)
    if npca.explained_share[0] > 0.6:  # else the first two axes may be too close for one basis
        for a, b in zip(npca_concepts(npca, weight), npca_concepts(shuffled, weight), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(-8, 8), st.integers(0, 2**32 - 1))
def test_scaling_features_scales_contributions(images: int, dim: int, power: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, weight = rng.standard_normal((images, dim)), rng.standard_normal(dim)
    npca, scaled = class_npca(features, weight, dim), class_npca(features * 2.0**power, weight, dim)
    np.testing.assert_array_equal(scaled.eigenvalues, npca.eigenvalues * 4.0**power)
    (directions, offsets), (same, grown) = npca_concepts(npca, weight), npca_concepts(scaled, weight)
    np.testing.assert_array_equal(same, directions)
    np.testing.assert_array_equal(grown, offsets * 2.0**power)


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(2, 9), st.integers(1, 9), st.integers(1, 9))
def test_any_grid_of_features_has_its_rank_and_adds_up(data: st.DataObject, images: int, dim: int, top: int) -> None:
    features = data.draw(arrays(np.float64, (images, dim), elements=st.integers(-4, 4).map(float)))
    weight = data.draw(arrays(np.float64, dim, elements=st.integers(-3, 3).map(float)))
    npca = class_npca(features, weight, top)
    psi = features * weight
    assert npca.rank == np.linalg.matrix_rank(psi - psi.mean(axis=0), tol=1e-6)
    directions, offsets = npca_concepts(npca, weight)
    unseen = np.vstack([features, np.eye(dim), -np.ones((1, dim))])
    total = (unseen @ directions.T + offsets).sum(axis=1) + npca.psi_mean.sum()
    np.testing.assert_allclose(total, unseen @ weight, atol=1e-9)


def test_input_that_has_no_components_is_refused() -> None:
    features, weight = a_class(4, 3)
    with pytest.raises(DataError, match="at least 2 images, got 1"):
        class_npca(features[:1], weight, 2)
    with pytest.raises(DataError, match=r"\(4, 3\) and \(2,\)"):
        class_npca(features, weight[:2], 2)
    features[2, 1] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        class_npca(features, weight, 2)
