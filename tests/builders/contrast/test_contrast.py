from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_store_helpers import add_part, bank_for, empty_store
from helpers import Ran, run_spurious
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import comparison as naive

from spurious_imagenet.builders.components import ClassNpca, class_npca, npca_concepts
from spurious_imagenet.builders.contrast import ContrastConfig, ContrastRecord, contrast, write_contrast
from spurious_imagenet.builders.contrast import report as report_module
from spurious_imagenet.builders.contrast._overlap import (
    distinct_share,
    mean_pairwise,
    principal_angles,
    shared_images,
    top_images,
)
from spurious_imagenet.builders.contrast.cues import found_cues
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, StoreError, UndefinedMetricError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore
from spurious_imagenet.planted.truth import PlantedTruth, TruePair

DIM, TOP, IMAGES = 12, 3, 5
CONFIG = ContrastConfig(top=TOP, top_images=IMAGES)


def bank_of_kind(store: FeatureStore, kind: str, directions: np.ndarray, classes: list[int]) -> ConceptBank:
    bank = bank_for(store, directions, classes=classes)
    order = pd.Series(classes).groupby(classes).cumcount()
    ids = [f"{kind}/{c}/{i}" for c, i in zip(bank.table["class_id"], order, strict=True)]
    return replace(bank, table=bank.table.assign(kind=kind, component=order, concept_id=ids))


def flipped(npca: ClassNpca) -> ClassNpca:
    signs = np.where(np.arange(len(npca.eigenvalues)) % 2, 1.0, -1.0)
    return replace(npca, eigenvectors=npca.eigenvectors * signs[:, None], ones_dot_v=npca.ones_dot_v * signs)


def a_run(path: Path, flip: bool = False) -> tuple[FeatureStore, ConceptBank, ConceptBank]:
    """Features of two classes in two parts, one more class of few images, and both kinds of concepts of all."""
    rng = np.random.default_rng(0)
    store = empty_store(path, DIM)
    features = np.maximum(rng.standard_normal((64, DIM)) @ rng.standard_normal((DIM, DIM)), 0).astype(np.float16)
    labels = np.array([0, 1] * 30 + [2] * 4)
    for name, rows in (("a.tar", slice(0, 40)), ("b.tar", slice(40, 64))):
        keys = [f"{name}-{i}" for i in range(rows.start, rows.stop)]
        add_part(store, name, keys, features[rows], labels=labels[rows])
    weight = rng.standard_normal((3, DIM))
    found = [class_npca(features[labels == k].astype(float), weight[k], TOP) for k in range(3)]
    npcas = [flipped(f) if flip else f for f in found]
    directions = np.concatenate([npca_concepts(npca, weight[k])[0][:TOP] for k, npca in enumerate(npcas)])
    top = [np.argsort(-features[labels == k].astype(float).mean(axis=0) * weight[k])[:TOP] for k in range(3)]
    classes = [k for k in range(3) for _ in range(TOP)]
    npca = bank_of_kind(store, "npca", directions, classes)
    return store, npca, bank_of_kind(store, "neuron", np.eye(DIM)[np.concatenate(top)], classes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, ConceptBank, ConceptBank]:
    return a_run(tmp_path_factory.mktemp("contrast") / "store")


def test_a_class_is_compared_as_by_sets_and_by_the_definition_of_angles(
    made: tuple[FeatureStore, ConceptBank, ConceptBank],
) -> None:
    store, npca, neurons = made
    record = contrast(npca, neurons, store, CONFIG)
    features = np.concatenate([p.features() for p in store.parts]).astype(np.float32)
    labels = np.concatenate([p.rows(["label"]).column("label").to_numpy() for p in store.parts])
    assert [c.class_id for c in record.classes] == ["a", "b"]
    assert "the top 5 of 4 images" in record.refused["c"]
    for k, found in enumerate(record.classes):
        rows = npca.table["class_index"] == k
        sets = [naive.top_sets(features[labels == k] @ bank.directions[rows].T, IMAGES) for bank in (npca, neurons)]
        assert found.npca.overlap == pytest.approx(naive.mean_shared(sets[0]))
        assert found.neurons.overlap == pytest.approx(naive.mean_shared(sets[1]))
        assert found.npca.distinct == pytest.approx(naive.distinct(sets[0]))
        expected = [[naive.shared(a, b) for b in sets[1]] for a in sets[0]]
        np.testing.assert_allclose(found.shared, expected)
        assert found.between == pytest.approx(np.mean(expected))
        assert found.images == 30
        assert found.chance == pytest.approx(IMAGES / 30)
        angles = naive.angles(npca.directions[rows], neurons.directions[rows])
        assert found.angles == pytest.approx(angles, abs=1e-3)
        assert found.shared_subspace == pytest.approx(np.mean(np.cos(np.deg2rad(angles)) ** 2), abs=1e-6)
    for name in ("between", "shared_subspace", "chance"):
        assert getattr(record.mean, name) == pytest.approx(np.mean([getattr(c, name) for c in record.classes]))
    assert record.mean.npca.overlap == pytest.approx(np.mean([c.npca.overlap for c in record.classes]))
    assert record.npca_less_overlap == sum(c.npca.overlap < c.neurons.overlap for c in record.classes)


def test_signs_of_eigenvectors_change_nothing(
    made: tuple[FeatureStore, ConceptBank, ConceptBank], tmp_path: Path
) -> None:
    store, npca, neurons = a_run(tmp_path / "store", flip=True)
    assert contrast(npca, neurons, store, CONFIG).classes == contrast(made[1], made[2], made[0], CONFIG).classes


def test_the_order_of_a_classes_concepts_only_orders_the_table(
    made: tuple[FeatureStore, ConceptBank, ConceptBank],
) -> None:
    store, npca, neurons = made
    turned = npca.select([2, 0, 1, 5, 4, 3, 8, 7, 6])
    ours, other = contrast(npca, neurons, store, CONFIG), contrast(turned, neurons, store, CONFIG)
    for a, b in zip(ours.classes, other.classes, strict=True):
        assert a.npca.overlap == pytest.approx(b.npca.overlap)
        assert a.npca.distinct == b.npca.distinct
        assert a.angles == pytest.approx(b.angles, abs=1e-5)
        np.testing.assert_allclose(sorted(a.shared), sorted(b.shared))


shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10_000))


@settings(deadline=None, max_examples=50)
@given(shapes)
def test_angles_know_neither_sign_nor_length_nor_order(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(shape[2])
    first, second = rng.standard_normal((shape[0], 9)), rng.standard_normal((shape[1], 9))
    found = principal_angles(first, second)
    assert len(found) == min(shape[:2])
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(found, naive.angles(first, second), atol=1e-5)
    changed = (first * rng.choice([-2.0, -1.0, 3.0], (shape[0], 1)))[rng.permutation(shape[0])]
    np.testing.assert_allclose(principal_angles(second, changed), found, atol=1e-6)
    np.testing.assert_allclose(principal_angles(first, np.vstack([first, second])), 0, atol=1e-5)


@given(st.integers(0, 10_000))
def test_overlaps_do_not_know_the_order_of_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, order = rng.permutation(60).reshape(20, 3).astype(float), rng.permutation(20)
    ours, other = top_images(scores, 4), top_images(scores[order], 4)
    np.testing.assert_array_equal(order[other], ours)
    shared = shared_images(ours, ours)
    np.testing.assert_array_equal(shared, shared_images(other, other))
    np.testing.assert_array_equal(np.diag(shared), 1)
    sets = naive.top_sets(scores, 4)
    assert mean_pairwise(shared) == pytest.approx(naive.mean_shared(sets))
    assert distinct_share(ours) == pytest.approx(naive.distinct(sets))


def test_what_has_no_value_is_refused() -> None:
    with pytest.raises(UndefinedMetricError, match="the top 5 of 5 images"):
        top_images(np.zeros((5, 2)), 5)
    with pytest.raises(UndefinedMetricError, match="within 1 concepts"):
        mean_pairwise(np.ones((1, 1)))
    with pytest.raises(UndefinedMetricError, match="all zero"):
        principal_angles(np.zeros((2, 3)), np.eye(3))


def test_banks_of_another_model_or_kind_are_refused(made: tuple[FeatureStore, ConceptBank, ConceptBank]) -> None:
    store, npca, neurons = made
    with pytest.raises(DataError, match=r"kind \['neuron'\]: expected 'npca'"):
        contrast(neurons, neurons, store, CONFIG)
    with pytest.raises(DataError, match=r"no class to compare: .* 3 components and 3 neurons"):
        contrast(npca, neurons, store, ContrastConfig(top=4))
    stranger = replace(npca, info=npca.info.model_copy(update={"weights_sha256": "cd" * 32}))
    with pytest.raises(StoreError, match="features of a model with weights"):
        contrast(stranger, neurons, store, CONFIG)


def a_pool(tmp_path: Path) -> tuple[FeatureStore, PlantedTruth]:
    """A pool where feature 0 is the cue, which feature 1 follows less well; 30 images show it, 20 of them alone."""
    rng = np.random.default_rng(1)
    cue, alone = np.arange(90) < 30, np.arange(90) < 20
    features = rng.random((90, DIM))
    features[:, 0] += cue
    features[:, 1] += 0.6 * cue
    store = empty_store(tmp_path / "pool", DIM)
    add_part(store, "p.tar", [f"p{i}" for i in range(90)], features)
    digests = [bytes([i]) * 32 for i in range(90)]
    _name_images(store, digests)
    table = pd.DataFrame(
        {
            "split": "pool",
            "class_id": [None if a else "b" for a in alone],
            "cues": [["stripes"] if c else [] for c in cue],
        },
        index=[d.hex() for d in digests],
        dtype=object,
    )
    return FeatureStore.open(store.path), PlantedTruth(table, (TruePair("a", "stripes", 0.5),))


def _name_images(store: FeatureStore, digests: list[bytes]) -> None:
    (part,) = store.parts
    rows = part.rows().to_pylist()
    named = [row | {"sha256": digest} for row, digest in zip(rows, digests, strict=True)]
    pq.write_table(pa.Table.from_pylist(named, schema=ROW_SCHEMA), part.path / "rows.parquet")


def test_a_cue_is_found_by_the_concepts_that_rank_it_first(tmp_path: Path) -> None:
    pool, truth = a_pool(tmp_path)
    bank = bank_of_kind(pool, "neuron", np.eye(DIM)[:3], [0, 0, 0])
    found = found_cues(bank, pool, truth)
    features = pool.parts[0].features().astype(np.float32)
    aucs = [naive.auc(features[:20, m].tolist(), features[30:, m].tolist()) for m in range(3)]
    (pair,) = found.pairs
    assert pair.auc == pytest.approx(aucs[0]) == 1.0
    assert aucs[1] < found.threshold < aucs[0]
    assert (pair.concept_id, pair.finders, found.found, found.planted) == ("neuron/a/0", 1, 1, 1)
    missed = found_cues(bank.select([1, 2]), pool, truth)
    assert (missed.found, missed.pairs[0].finders) == (0, 0)
    assert missed.pairs[0].auc == pytest.approx(max(aucs[1:]))
    with pytest.raises(DataError, match="no concepts of a, in which 'stripes' is planted"):
        found_cues(bank_of_kind(pool, "neuron", np.eye(DIM)[:2], [1, 1]), pool, truth)


def command(made: tuple[FeatureStore, ConceptBank, ConceptBank], root: Path, out: Path, *more: object) -> Ran:
    for bank, name in zip(made[1:], ("npca", "neurons"), strict=True):
        if not (root / name).exists():
            bank.save(root / name)
    banks = ["--npca", root / "npca", "--neurons", root / "neurons", "--features", made[0].path]
    return run_spurious("contrast", *banks, "--out", out, "--top", TOP, "--top-images", IMAGES, *more)


def test_the_command_writes_record_page_and_figure(
    made: tuple[FeatureStore, ConceptBank, ConceptBank], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = command(made, tmp_path, tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "left out: c: the top 5 of 4 images" in ran.err
    record = ContrastRecord.model_validate(json.loads((tmp_path / "out" / "contrast.json").read_text()))
    assert record == contrast(made[1], made[2], made[0], CONFIG)
    page = (tmp_path / "out" / "contrast.md").read_text()
    assert f"{record.mean.neurons.overlap:.3f}" in page
    assert (tmp_path / "out" / "contrast.png").read_bytes().startswith(b"\x89PNG")
    assert "already exists" in command(made, tmp_path, tmp_path / "out").the_error()
    assert "belong together" in command(made, tmp_path, tmp_path / "new", "--world", tmp_path).the_error()
    monkeypatch.setattr(report_module, "find_spec", lambda name: None)
    assert write_contrast(record, tmp_path / "plain") == ("contrast.json", "contrast.md")
    assert "contrast.png" not in (tmp_path / "plain" / "contrast.md").read_text()
