from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feature_store_helpers import WEIGHTS, add_part, empty_store
from reference.npca import alpha, eigenpairs

from spurious_imagenet.builders.components import ComponentsConfig, build_bank
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, ModelError, StoreError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace

CLASSES = ("a", "b", "c", "d", "e")
LABELS = LabelSpace("custom", CLASSES, tuple(f"the {c}" for c in CLASSES))
DIM = 24


def the_head(dim: int = DIM) -> LinearHead:
    rng = np.random.default_rng(5)
    return LinearHead(
        rng.standard_normal((5, dim)).astype(np.float32), rng.standard_normal(5).astype(np.float32), temperature=0.7
    )


def images(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((DIM, DIM)) * (0.8 ** np.arange(DIM))[:, None]
    return np.maximum(rng.standard_normal((count, DIM)) @ mixing + 0.5, 0).astype(np.float16)


# 40 images of a (more than DIM), 9 of b, 1 of c, 3 equal ones of d, none of e, 4 without a label, all mixed.
TRAIN_LABELS = np.random.default_rng(1).permutation([0] * 40 + [1] * 9 + [2] + [3] * 3 + [-1] * 4)
TRAIN = images(len(TRAIN_LABELS), seed=2)
TRAIN[TRAIN_LABELS == 3] = TRAIN[0]


def train_store(path: Path, cuts: tuple[int, ...] = (11, 11, 30)) -> FeatureStore:
    """The training images in parts of the given bounds (one is empty); parts are written last to first."""
    store = empty_store(path, DIM, CLASSES)
    bounds = [0, *cuts, len(TRAIN)]
    for i in reversed(range(len(bounds) - 1)):
        rows = range(bounds[i], bounds[i + 1])
        add_part(store, f"train-{i}.tar", [f"k{r}" for r in rows], TRAIN[rows], labels=TRAIN_LABELS[rows])
    return store


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return train_store(tmp_path / "train")


def test_saved_rows_of_a_class_add_up_to_the_undivided_logit_of_new_images(store: FeatureStore, tmp_path: Path) -> None:
    head = the_head()
    build_bank(store, head, LABELS, ComponentsConfig(top=6)).save(tmp_path / "bank")
    bank = ConceptBank.load(tmp_path / "bank")
    unseen = np.vstack([TRAIN, images(200, seed=9)])
    logits = head.logits(unseen.astype(np.float64)) * head.temperature
    for k, class_id in enumerate("ab"):
        rows = bank.table["class_id"].to_numpy() == class_id
        assert rows.sum() == 7
        constant = bank.table["mean_logit"][rows].iloc[0]
        total = bank.select(rows).score(unseen).sum(axis=1) + constant
        assert np.abs(total - logits[:, k]).max() <= 1e-4 * np.ptp(logits[:, k])
        assert constant == pytest.approx(logits[: len(TRAIN)][k == TRAIN_LABELS, k].mean())


def test_scores_are_the_contributions_of_the_paper(store: FeatureStore) -> None:
    head = the_head()
    bank = build_bank(store, head, LABELS, ComponentsConfig(top=3))
    for k in (0, 1):
        own = TRAIN[k == TRAIN_LABELS]
        values, vectors, mean = eigenpairs(own, head.weight[k].astype(np.float64))
        rows = bank.select((bank.table["class_index"] == k).to_numpy())
        np.testing.assert_allclose(rows.table["eigenvalue"][:3], values[:3])
        np.testing.assert_allclose(rows.table["explained_share"][:3], values[:3] / values.sum())
        np.testing.assert_allclose(rows.table["ones_dot_v"][:3], np.abs(vectors[:3].sum(axis=1)), atol=1e-9)
        expected = [[alpha(x, head.weight[k], v, mean) for v in vectors[:3]] for x in own]
        np.testing.assert_allclose(rows.score(own)[:, :3], expected, atol=1e-4)
        quantiles = np.quantile(np.array(expected), 0.95, axis=0)
        np.testing.assert_allclose(rows.table["alpha_q95"][:3], quantiles, atol=1e-9)
        np.testing.assert_allclose(rows.table["alpha_q100"][:3], np.max(expected, axis=0), atol=1e-9)


def test_rows_say_what_they_are(store: FeatureStore) -> None:
    bank = build_bank(store, the_head(), LABELS, ComponentsConfig(top=2))
    table = bank.table
    assert table["concept_id"].tolist() == [f"npca/{c}/{i}" for c in "ab" for i in ("0", "1", "residual")]
    assert table["component"].tolist() == [0, 1, -1] * 2
    assert table["kind"].tolist() == ["npca", "npca", "npca_residual"] * 2
    assert table["class_name"].tolist() == ["the a"] * 3 + ["the b"] * 3
    assert table["num_images"].tolist() == [40] * 3 + [9] * 3
    assert (table["name"] == "").all()
    assert table["eigenvalue"].isna().tolist() == [False, False, True] * 2


def test_top_images_are_the_training_images_of_highest_alpha(store: FeatureStore, tmp_path: Path) -> None:
    bank = build_bank(store, the_head(), LABELS, ComponentsConfig(top=4, top_images=12))
    bank.save(tmp_path / "bank")
    bank = ConceptBank.load(tmp_path / "bank")
    features, own = {}, {}
    for part in store.parts:
        keys = [f"{part.path.name}/{key}" for key in part.rows()["key"].to_pylist()]
        features.update(zip(keys, part.features(), strict=True))
        own.update(zip(keys, part.rows()["label"].to_pylist(), strict=True))
    for row in range(len(bank)):
        entry = bank.table.iloc[row]
        candidates = [key for key, label in own.items() if label == entry["class_index"]]
        scores = bank.score(np.stack([features[key] for key in candidates]))[:, row]
        best = [candidates[i] for i in np.argsort(-scores)][:12]
        assert list(entry["top_keys"]) == best
        np.testing.assert_allclose(entry["top_alphas"], np.sort(scores)[::-1][:12], atol=1e-4)


def test_what_gives_no_components_is_listed_with_its_reason(store: FeatureStore) -> None:
    bank = build_bank(store, the_head(), LABELS, ComponentsConfig(top=2))
    assert [(r["class_id"], r["images"]) for r in bank.info.rejects] == [("c", 1), ("d", 3)]
    assert "the c) has 1 training images: components need at least 2" in bank.info.rejects[0]["reason"]
    assert "all add the same" in bank.info.rejects[1]["reason"]
    assert bank.info.counts == {"images": 57, "unlabelled_images": 4}


def test_chosen_classes_only_and_in_the_order_of_the_label_space(store: FeatureStore) -> None:
    calls: list[tuple[int, int]] = []
    config = ComponentsConfig(top=2, classes=("e", "b", "a", "b"))
    bank = build_bank(store, the_head(), LABELS, config, progress=lambda *call: calls.append(call))
    assert bank.table["class_id"].unique().tolist() == ["a", "b"]
    assert [r["class_id"] for r in bank.info.rejects] == ["e"]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert bank.info.config == {"top": 2, "top_images": 20, "classes": ["e", "b", "a", "b"]}


def test_how_images_are_split_into_parts_does_not_matter(store: FeatureStore, tmp_path: Path) -> None:
    config = ComponentsConfig(top=5)
    one = build_bank(train_store(tmp_path / "one", cuts=()), the_head(), LABELS, config)
    parts = build_bank(store, the_head(), LABELS, config)
    np.testing.assert_array_equal(one.directions, parts.directions)
    np.testing.assert_array_equal(one.offsets, parts.offsets)
    bare = [[[key.split("/")[1] for key in keys] for keys in bank.table["top_keys"]] for bank in (one, parts)]
    assert bare[0] == bare[1]


def test_components_stop_at_the_rank(store: FeatureStore) -> None:
    table = build_bank(store, the_head(), LABELS, ComponentsConfig(top=128)).table
    assert table.groupby("class_id")["component"].max().to_dict() == {"a": DIM - 1, "b": 7}


def test_features_of_another_model_are_refused(store: FeatureStore) -> None:
    config = ComponentsConfig(top=2)
    build_bank(store, the_head(), LABELS, config, weights_sha256=WEIGHTS)
    with pytest.raises(StoreError, match=r"weights abababababab.*belongs to weights cdcdcdcdcdcd"):
        build_bank(store, the_head(), LABELS, config, weights_sha256="cd" * 32)
    with pytest.raises(StoreError, match="24 features, the last layer reads 25"):
        build_bank(store, the_head(25), LABELS, config)
    with pytest.raises(StoreError, match="expected the same classes"):
        build_bank(store, the_head(), LabelSpace("custom", tuple("abcdf"), tuple("abcdf")), config)
    with pytest.raises(ModelError, match="'z'"):
        build_bank(store, the_head(), LABELS, ComponentsConfig(classes=("z",)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    store = empty_store(tmp_path / "s", DIM, CLASSES)
    features = images(6, seed=3)
    features[4, 7] = value
    add_part(store, "fine.tar", list("uvwxyz"), images(6, seed=4), labels=[0, 1] * 3)
    name = add_part(store, "torn.tar", list("abcdef"), features, labels=[0, 0, 1, 1, 0, 0])
    with pytest.raises(DataError, match=f"row 4 of part {name}"):
        build_bank(store, the_head(), LABELS, ComponentsConfig())


def test_a_store_that_leaves_no_class_is_refused(tmp_path: Path) -> None:
    store = empty_store(tmp_path / "s", DIM, CLASSES)
    with pytest.raises(DataError, match="none of its images has a label"):
        build_bank(store, the_head(), LABELS, ComponentsConfig())
    add_part(store, "x.tar", ["k"], images(1, seed=3), labels=[2])
    with pytest.raises(DataError, match="no class to take components of: class c"):
        build_bank(store, the_head(), LABELS, ComponentsConfig())
    add_part(store, "y.tar", ["k"], images(1, seed=3), labels=[5])
    with pytest.raises(DataError, match="labels from 2 to 5: expected -1"):
        build_bank(store, the_head(), LABELS, ComponentsConfig())
