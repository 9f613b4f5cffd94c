from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import CLASSES
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import spufix as reference
from spufix_helpers import DIGESTS, IMAGES, LABELS, World, make_world, store_of

from spurious_imagenet.benchmark.mitigation.spufix import TransferConfig, fit_scorer, matched_basis, transfer
from spurious_imagenet.benchmark.mitigation.spufix_alphas import ClassAlphas, alphas_of_store
from spurious_imagenet.benchmark.mitigation.spufix_file import Spufix
from spurious_imagenet.errors import DataError, ModelError, StoreError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import Classifier


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def transferred(
    alphas: list[ClassAlphas], store: FeatureStore, classifier: Classifier, max_unmatched: float = 0.01
) -> Spufix:
    return transfer(
        alphas, store, classifier, TransferConfig(max_unmatched=max_unmatched), scorer="robust", scorer_sha256="ab" * 32
    )


def stored(features: np.ndarray) -> np.ndarray:
    return features.astype(np.float16).astype(np.float64)


def test_the_scoring_model_loses_the_positive_parts_of_its_components(world: World) -> None:
    bank = world.spurious()
    fix = fit_scorer(bank, world.scorer)
    features = world.scorer_features
    logits = world.scorer.linear_head().logits(features).astype(np.float32)
    changed = logits.copy()
    changed[:, fix.classes] -= fix.removed(features)
    scores = bank.score(features)
    for n in range(IMAGES):
        for k, class_id in enumerate(CLASSES):
            own = [scores[n, m] for m in np.flatnonzero(bank.table["class_id"] == class_id)]
            assert changed[n, k] == pytest.approx(reference.corrected_by_alpha(logits[n, k], own), abs=1e-5)
    untouched = world.scorer.labels.index("bird")
    np.testing.assert_array_equal(changed[:, untouched], logits[:, untouched])
    assert [d.concept_id for d in fix.info.directions] == bank.table["concept_id"].tolist()


def test_images_that_the_correction_changes_are_counted(world: World) -> None:
    bank = world.spurious()
    fix = fit_scorer(bank, world.scorer, world.scorer_store)
    scores = bank.score(stored(world.scorer_features))
    for counts in fix.info.classes:
        own = scores[CLASSES.index(counts.class_id) == LABELS][:, bank.table["class_id"] == counts.class_id]
        assert (counts.images, counts.changed) == (len(own), (own > 0).any(axis=1).sum())
    assert 0 < sum(c.changed for c in fix.info.classes) < sum(c.images for c in fix.info.classes)


def test_another_model_loses_what_the_paper_says(world: World) -> None:
    bank = world.spurious()
    fix = transferred(list(alphas_of_store(bank, world.scorer_store)), world.target_store, world.target)
    scores = bank.score(stored(world.scorer_features))
    head = world.target.linear_head()
    logits = head.logits(world.target_features).astype(np.float64)
    removed = fix.removed(world.target_features)
    assert not fix.info.dropped
    for column, k in enumerate(fix.classes):
        own = np.flatnonzero(bank.table["class_id"] == CLASSES[k])
        training, weight = stored(world.target_features)[k == LABELS], head.weight[k].astype(np.float64)
        mean = reference.mean_psi(training, weight)
        directions = [reference.direction(training, weight, scores[k == LABELS, m]) for m in own]
        for n in range(IMAGES):
            image = world.target_features[n]
            expected = reference.corrected_by_directions(logits[n, k], image, weight, mean, directions)
            assert logits[n, k] - removed[n, column] == pytest.approx(expected, abs=2e-4)
    assert removed.max() > 0.1


def test_a_transfer_to_the_scoring_model_is_its_own_correction(world: World) -> None:
    bank = world.spurious()
    own = fit_scorer(bank, world.scorer)
    fix = transferred(list(alphas_of_store(bank, world.scorer_store)), world.scorer_store, world.scorer)
    np.testing.assert_allclose(fix.readouts, own.readouts, atol=2e-4 * np.abs(own.readouts).max())
    features = world.scorer_features
    np.testing.assert_allclose(fix.removed(features), own.removed(features), atol=1e-3)
    assert all(d.alpha_correlation == pytest.approx(1, abs=1e-4) for d in fix.info.directions)


def test_neither_the_order_of_images_nor_how_they_are_sharded_matters(world: World, tmp_path: Path) -> None:
    given_alphas = list(alphas_of_store(world.spurious(), world.scorer_store))
    order = np.random.default_rng(0).permutation(IMAGES)
    shuffled = store_of(tmp_path / "shuffled", world.target, world.target_features, order, parts=5)
    plain = transferred(given_alphas, world.target_store, world.target).removed(world.target_features)
    for alphas, store in ((given_alphas, shuffled), (given_alphas[::-1], world.target_store)):
        other = transferred(alphas, store, world.target).removed(world.target_features)
        np.testing.assert_allclose(other, plain, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 99))
def test_directions_do_not_depend_on_the_scale_or_the_mean_of_alpha(scale: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    psi, alpha = rng.standard_normal((30, 8)), rng.standard_normal((30, 3))
    psi -= psi.mean(axis=0)
    basis, other = matched_basis(psi, alpha), matched_basis(psi, scale * alpha + shift)
    np.testing.assert_allclose(other.directions, basis.directions, atol=1e-9)
    np.testing.assert_allclose(other.coordinates, basis.coordinates, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 6))
def test_coordinates_are_those_of_least_squares(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    psi, alpha = rng.standard_normal((40, 8)), rng.standard_normal((40, count))
    psi -= psi.mean(axis=0)
    basis = matched_basis(psi, alpha)
    np.testing.assert_allclose(np.linalg.norm(basis.directions, axis=1), 1)
    expected = np.linalg.lstsq(basis.directions.T, psi.T, rcond=None)[0]
    np.testing.assert_allclose(basis.coordinates @ psi.T, expected, atol=1e-8)


def test_directions_that_depend_on_others_or_on_nothing_are_dropped(world: World) -> None:
    (apple,) = (a for a in alphas_of_store(world.spurious(), world.scorer_store) if a.class_id == "apple")
    first, second = apple.alpha.T
    more = np.stack([first, second, 3 * first - second, np.full_like(first, 2.5)], axis=1)
    names = ("one", "two", "between", "constant")
    fix = transferred(
        [replace(apple, concept_ids=names, components=(0, 1, 2, 3), alpha=more)], world.target_store, world.target
    )
    plain = transferred([apple], world.target_store, world.target)
    assert [d.concept_id for d in fix.info.directions] == ["one", "two"]
    assert {d["concept_id"]: d["reason"].split()[0:2] for d in fix.info.dropped} == {
        "between": ["its", "direction"],
        "constant": ["its", "α"],
    }
    np.testing.assert_array_equal(fix.readouts, plain.readouts)


def test_images_on_one_side_only_are_counted_and_too_many_refused(world: World, tmp_path: Path) -> None:
    given_alphas = list(alphas_of_store(world.spurious(), world.scorer_store))
    apples = np.flatnonzero(LABELS == 0)
    rows = np.setdiff1d(np.arange(IMAGES), apples[:2])
    fewer = store_of(tmp_path / "fewer", world.target, world.target_features, rows)
    with pytest.raises(DataError, match=r"class 'apple': 22 training images .* 2 have only α and 0 only .*8\.3% unm"):
        transferred(given_alphas, fewer, world.target)
    fix = transferred(given_alphas, fewer, world.target, max_unmatched=0.1)
    counts = {c.class_id: (c.images, c.without_alpha, c.without_features) for c in fix.info.classes}
    assert counts == {"apple": (22, 0, 2), "cup": (24, 0, 0), "dog": (24, 0, 0)}
    known = [replace(a, sha256=a.sha256[1:], alpha=a.alpha[1:]) for a in given_alphas]
    fix = transferred(known, world.target_store, world.target, max_unmatched=0.1)
    assert {(c.images, c.without_alpha, c.without_features) for c in fix.info.classes} == {(23, 1, 0)}


def test_a_class_without_common_images_is_refused_whatever_is_allowed(world: World) -> None:
    apple = next(alphas_of_store(world.spurious(), world.scorer_store))
    strangers = replace(apple, sha256=tuple(bytes([i]) * 32 for i in range(len(apple.sha256))))
    with pytest.raises(DataError, match=r"class 'apple': 0 training images have α and features, 24 .* 24 only"):
        transferred([strangers], world.target_store, world.target, max_unmatched=1)


def test_a_file_that_is_twice_in_a_store_has_one_alpha(world: World, tmp_path: Path) -> None:
    twice = store_of(tmp_path / "twice", world.scorer, world.scorer_features, [*range(IMAGES), 0, 4, 8], parts=3)
    bank = world.bank.select([0])
    info = bank.info.model_copy(update={"feature_config_sha256": twice.config.sha256})
    (apple,) = alphas_of_store(replace(bank, info=info), twice)
    assert sorted(apple.sha256) == sorted(DIGESTS[i] for i in np.flatnonzero(LABELS == 0))
    row = apple.sha256.index(DIGESTS[4])
    assert apple.alpha[row, 0] == pytest.approx(bank.score(stored(world.scorer_features[4:5]))[0, 0], abs=1e-5)


def test_what_does_not_fit_is_refused_in_one_sentence(world: World, tmp_path: Path) -> None:
    bank = world.spurious()
    with pytest.raises(ModelError, match="to correct another model, give features of both"):
        fit_scorer(bank, world.target)
    neurons = replace(bank, table=bank.table.assign(kind="neuron"))
    with pytest.raises(ModelError, match="rows of kind 'neuron', whose scores are not parts of a logit"):
        fit_scorer(neurons, world.scorer)
    given_alphas = list(alphas_of_store(bank, world.scorer_store))
    with pytest.raises(StoreError, match="holds features of"):
        transferred(given_alphas, world.scorer_store, world.target)
    with pytest.raises(ModelError, match="class 'zebra' is not in the label space"):
        transferred([replace(given_alphas[0], class_id="zebra")], world.target_store, world.target)
    with pytest.raises(StoreError, match="holds features of a model with weights"):
        list(alphas_of_store(bank, world.target_store))
    nobody = store_of(
        tmp_path / "nobody", world.scorer, world.scorer_features, range(IMAGES), class_ids=[None] * IMAGES
    )
    with pytest.raises(DataError, match="has no images of class 'apple'"):
        list(alphas_of_store(bank, nobody))
    broken = world.target_features.copy()
    broken[0] = np.nan
    torn = store_of(tmp_path / "torn", world.target, broken, range(IMAGES))
    with pytest.raises(DataError, match="NaN or infinite"):
        transferred(given_alphas, torn, world.target)
