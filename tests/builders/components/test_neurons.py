from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from feature_store_helpers import add_part, empty_store
from reference.neurons import highest, most_important, spread

from spurious_imagenet.builders.components import NeuronsConfig, build_neuron_bank
from spurious_imagenet.builders.components._neurons import feature_importance
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import DataError, ModelError, StoreError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.labels import LabelSpace

CLASSES = ("a", "b", "c", "d")
LABELS = LabelSpace("custom", CLASSES, tuple(f"the {c}" for c in CLASSES))
DIM = 12
RNG = np.random.default_rng(3)
HEAD = LinearHead(
    RNG.standard_normal((4, DIM)).astype(np.float32), RNG.standard_normal(4).astype(np.float32), temperature=0.5
)
# 30 images of a, 9 of b, 4 of c, none of d, 3 without a label. Those of c are all taken for b.
LABEL = RNG.permutation([0] * 30 + [1] * 9 + [2] * 4 + [-1] * 3)
PREDICTED = np.where(LABEL == 2, 1, np.where(RNG.random(len(LABEL)) < 0.4, 3, LABEL))
FEATURES = np.maximum(RNG.standard_normal((len(LABEL), DIM)) + 0.3, 0).astype(np.float16)
FEATURES[5:9] = FEATURES[4]  # ties
NAMES = [f"k{i}" for i in range(len(LABEL))]


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    made = empty_store(tmp_path / "train", DIM, CLASSES)
    bounds = [0, 13, 13, 31, len(LABEL)]
    for i in (3, 1, 0, 2):
        rows = slice(bounds[i], bounds[i + 1])
        add_part(made, f"t{i}.tar", NAMES[rows], FEATURES[rows], labels=LABEL[rows], assigned=PREDICTED[rows])
    return made


@pytest.mark.parametrize("images", ["all", "predicted"])
def test_the_saved_bank_is_what_the_definition_says(store: FeatureStore, tmp_path: Path, images: str) -> None:
    config = NeuronsConfig.model_validate({"top": 3, "images": images, "top_images": 4})
    build_neuron_bank(store, HEAD, LABELS, config).save(tmp_path / "bank")
    bank = ConceptBank.load(tmp_path / "bank")
    keys = bank.table["top_keys"].map(lambda found: [key.partition("/")[2] for key in found])
    for k in (0, 1):
        places = [i for i in range(len(LABEL)) if LABEL[i] == k and (images == "all" or PREDICTED[i] == k)]
        own = FEATURES[places].astype(float)
        rows = bank.table[bank.table["class_index"] == k]
        expected = most_important(own, HEAD.weight[k], 3)
        assert rows["component"].tolist() == [i for i, _ in expected]
        assert rows["concept_id"].tolist() == [f"neuron/{CLASSES[k]}/{i}" for i, _ in expected]
        assert rows["importance_rank"].tolist() == [1, 2, 3]
        np.testing.assert_allclose(rows["importance"], [value for _, value in expected], rtol=1e-9)
        for (at, row), (i, _) in zip(rows.iterrows(), expected, strict=True):
            activation = own[:, i].tolist()
            assert row["std_activation"] == pytest.approx(spread(activation))
            assert row["mean_activation"] == pytest.approx(sum(activation) / len(activation))
            assert (row["alpha_q00"], row["alpha_q100"]) == (min(activation), max(activation))
            assert row["alpha_q50"] == pytest.approx(float(np.median(activation)))
            assert keys[at] == [NAMES[places[j]] for j in highest(activation, 4)]
            assert list(row["top_alphas"]) == sorted(activation, reverse=True)[:4]
            assert row["num_images"] == len(own)


def test_scores_are_the_activations_themselves(store: FeatureStore) -> None:
    bank = build_neuron_bank(store, HEAD, LABELS, NeuronsConfig(top=5))
    np.testing.assert_array_equal(bank.score(FEATURES), FEATURES[:, bank.table["component"]].astype(np.float32))


def test_importances_add_up_to_the_mean_logit_less_its_bias() -> None:
    importance = feature_importance(FEATURES, HEAD.weight[2])
    logits = HEAD.logits(FEATURES.astype(np.float64))[:, 2] * HEAD.temperature
    assert importance.sum() == pytest.approx(logits.mean() - HEAD.bias[2])


def test_all_features_are_kept_where_fewer_exist_than_were_asked_for(store: FeatureStore) -> None:
    bank = build_neuron_bank(store, HEAD, LABELS, NeuronsConfig(top=99, classes=("b",)))
    assert sorted(bank.table["component"]) == list(range(DIM))
    assert bank.table["importance"].is_monotonic_decreasing


def test_a_class_whose_images_are_all_taken_for_others_is_named(store: FeatureStore) -> None:
    every = build_neuron_bank(store, HEAD, LABELS, NeuronsConfig())
    assert every.info.rejects == ()
    assert every.info.counts == {"images": len(LABEL), "unlabelled_images": 3}
    some = build_neuron_bank(store, HEAD, LABELS, NeuronsConfig(images="predicted"))
    assert [r["class_id"] for r in some.info.rejects] == ["c"]
    assert "no training images that the model assigns to it" in some.info.rejects[0]["reason"]
    assert some.info.counts["images_not_predicted_as_their_class"] == int(((LABEL >= 0) & (LABEL != PREDICTED)).sum())


def test_what_does_not_fit_is_refused_in_one_sentence(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="belongs to weights other"):
        build_neuron_bank(store, HEAD, LABELS, NeuronsConfig(), weights_sha256="other")
    with pytest.raises(ModelError, match="'zebra' is not in the label space"):
        build_neuron_bank(store, HEAD, LABELS, NeuronsConfig(classes=("zebra",)))
    with pytest.raises(DataError, match="leaves no class"):
        build_neuron_bank(store, HEAD, LABELS, NeuronsConfig(classes=("d",)))
    with pytest.raises(DataError, match="at least one image"):
        feature_importance(FEATURES[:0], HEAD.weight[0])
    damaged = empty_store(tmp_path / "damaged", DIM, CLASSES)
    bad = FEATURES[:4].copy()
    bad[2, 1] = np.nan
    name = add_part(damaged, "x.tar", NAMES[:4], bad, labels=[0] * 4)
    with pytest.raises(DataError, match=f"row 2 of part {name} has a NaN"):
        build_neuron_bank(damaged, HEAD, LABELS, NeuronsConfig())
