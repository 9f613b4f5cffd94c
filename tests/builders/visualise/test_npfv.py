from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import timm
import torch
from helpers import CLASSES, Ran, run_spurious, tree
from PIL import Image

from spurious_imagenet.builders.features import FeaturesConfig
from spurious_imagenet.builders.features.extract import store_config
from spurious_imagenet.builders.visualise.npfv import NpfvConfig, NpfvStore, eps_at, make_npfvs
from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.errors import ConfigError, ModelError, StoreError
from spurious_imagenet.images import CustomTransform
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.models.weights_file import WeightsFileInfo, save_weights

PER_CLASS = 5
QUICK = NpfvConfig(top=4, choose=2, steps=4, first_step=2.0, device="cpu", batch_size=3)


def model_file(path: Path, seed: int = 0) -> str:
    """Write a random classifier whose normalisations shift, as trained ones do: others give grey no gradient."""
    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=len(CLASSES))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, std=0.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    torch.nn.init.normal_(model.get_classifier().weight, std=0.5)
    save_weights(path, model, WeightsFileInfo(arch="test_resnet", class_ids=CLASSES, image_size=32, crop_pct=1.0))
    return f"file:{path}"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load_classifier(model_file(tmp_path_factory.mktemp("model") / "m.safetensors"))


def make_bank(classifier: Classifier, per_class: int = PER_CLASS, kind: str = "npca") -> ConceptBank:
    """Random concepts, the later components of larger eigenvalue, and a residual row a class."""
    rows = [
        {"concept_id": f"{kind}/{c}/{i}", "kind": kind if i >= 0 else "npca_residual", "class_index": k}
        | {"class_id": c, "class_name": c, "component": i, "name": ""}
        | {"eigenvalue": float(i) if i >= 0 else np.nan}
        for k, c in enumerate(CLASSES)
        for i in (*range(per_class), -1)
    ]
    config = store_config(classifier, FeaturesConfig(model=classifier.spec, shards=("x",)))
    info = BankInfo(
        model=classifier.spec,
        weights_sha256=classifier.weights_sha256,
        feature_dim=classifier.feature_dim,
        feature_config_sha256=config.sha256,
    )
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((len(rows), classifier.feature_dim)).astype(np.float32)
    return ConceptBank(directions, rng.standard_normal(len(rows)).astype(np.float32), pd.DataFrame(rows), info)


@pytest.fixture(scope="module")
def made(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> NpfvStore:
    return make_npfvs(classifier, make_bank(classifier), tmp_path_factory.mktemp("npfv") / "out", QUICK)


def run_on_files(classifier: Classifier, store: NpfvStore) -> tuple[np.ndarray, np.ndarray]:
    """Run the model on the stored images; return features and probabilities."""
    pixels = np.stack([np.asarray(Image.open(store.path / file)) for file in store.table()["file"]])
    features, logits = classifier.predict(pixels)
    return features, torch.from_numpy(logits).softmax(1).numpy()


def test_every_class_has_its_concepts_of_largest_eigenvalue(made: NpfvStore) -> None:
    table = made.table()
    for class_index, rows in table.groupby("class_index"):
        assert list(rows["component"]) == [4, 3, 2, 1]
        assert all(rows["file"] == [f"{class_index:05d}/{c:04d}.png" for c in (4, 3, 2, 1)])
    assert sorted(table["class_index"].unique()) == [0, 1, 2, 3]


def test_the_table_says_what_the_model_says_of_the_stored_images(classifier: Classifier, made: NpfvStore) -> None:
    table, bank = made.table(), make_bank(classifier)
    features, probabilities = run_on_files(classifier, made)
    row_of = {concept_id: row for row, concept_id in enumerate(bank.table["concept_id"])}
    rows = [row_of[i] for i in table["concept_id"]]
    scores = bank.score(features)[np.arange(len(rows)), rows]
    # The images are stored with 8 bits.
    np.testing.assert_allclose(table["objective"], scores, rtol=0.05, atol=0.05 * np.ptp(scores))
    confidence = probabilities[np.arange(len(rows)), table["class_index"]]
    np.testing.assert_allclose(table["confidence"], confidence, atol=0.05)
    grey = torch.full((1, 3, 32, 32), 0.5)
    with torch.inference_mode():
        start = bank.score(classifier.network.from_unit(grey)[0].numpy())[0]
    np.testing.assert_allclose(table["start_objective"], start[rows], rtol=1e-4, atol=1e-4)
    assert (table["objective"] > table["start_objective"]).all()


def test_images_stay_within_the_scaled_budget(made: NpfvStore) -> None:
    assert eps_at(30.0, 224) == 30.0
    budget = eps_at(30.0, 32)
    changes = [np.asarray(Image.open(made.path / file)) / 255 - 0.5 for file in made.table()["file"]]
    rounding = 0.5 / 255 * np.sqrt(changes[0].size)
    lengths = [np.linalg.norm(change) for change in changes]
    assert 0.9 * budget < max(lengths) <= budget + rounding


def test_the_most_confident_are_chosen(made: NpfvStore) -> None:
    for class_index, rows in made.table().groupby("class_index"):
        best = rows.sort_values("confidence", ascending=False)
        assert made.chosen(int(class_index)) == list(best["concept_id"][:2])
        assert list(best["chosen"]) == [True, True, False, False]
        assert list(best["chosen_rank"][:2]) == [1, 2]
        assert best["chosen_rank"][2:].isna().all()
    assert made.image_path("npca/bird/4") == made.path / "00001/0004.png"
    assert made.image_path("npca/bird/0") is None


def test_a_rerun_makes_only_what_is_missing_and_the_same(
    classifier: Classifier, made: NpfvStore, tmp_path: Path
) -> None:
    bank = make_bank(classifier)
    first = make_npfvs(classifier, bank, tmp_path / "o", QUICK.model_copy(update={"classes": ("bird",)}))
    assert list(first.table()["class_index"].unique()) == [1]
    stamp = (tmp_path / "o/00001/npfv.parquet").stat().st_mtime_ns
    (tmp_path / "o/.tmp-00002-abc").mkdir()  # what a killed run leaves
    seen: list[tuple[int, int]] = []
    make_npfvs(classifier, bank, tmp_path / "o", QUICK, progress=lambda done, n: seen.append((done, n)))
    assert (tmp_path / "o/00001/npfv.parquet").stat().st_mtime_ns == stamp
    total = seen[0][1]
    assert total in {QUICK.steps * 12, QUICK.steps * 16}  # three classes of four; the fourth where it shares a batch
    assert (seen[0], seen[-1]) == ((0, total), (total, total))
    assert len(seen) > QUICK.steps
    assert tree(tmp_path / "o") == tree(made.path)


@pytest.mark.parametrize(
    "change", [{"steps": 5}, {"eps": 20.0}, {"top": 3}, {"choose": 1}, {"precision": "bfloat16"}], ids=str
)
def test_other_settings_are_refused(classifier: Classifier, made: NpfvStore, change: dict[str, object]) -> None:
    before = tree(made.path)
    with pytest.raises(StoreError, match="other settings"):
        make_npfvs(classifier, make_bank(classifier), made.path, QUICK.model_copy(update=change))
    assert tree(made.path) == before


def test_another_bank_is_refused_but_not_its_annotation(classifier: Classifier, made: NpfvStore) -> None:
    bank = make_bank(classifier)
    make_npfvs(classifier, replace(bank, table=bank.table.assign(name="seen", verdict="core")), made.path, QUICK)
    with pytest.raises(StoreError, match="another bank"):
        make_npfvs(classifier, replace(bank, offsets=bank.offsets + 1), made.path, QUICK)


def test_another_model_or_image_size_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    other = load_classifier(model_file(tmp_path / "n.safetensors", seed=1))
    with pytest.raises(StoreError, match="reads features of"):
        make_npfvs(other, make_bank(classifier), tmp_path / "a", QUICK)
    larger = load_classifier(classifier.spec, image_size=64)
    with pytest.raises(StoreError, match="at 64 px was made by the bank's model with other preprocessing"):
        make_npfvs(larger, make_bank(classifier), tmp_path / "b", QUICK)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_model_with_a_custom_transform_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    custom = replace(classifier, preprocess=CustomTransform(lambda image: torch.zeros(3, 32, 32)))
    with pytest.raises(ModelError, match="custom transform"):
        make_npfvs(custom, make_bank(classifier), tmp_path / "o", QUICK)


def test_unknown_classes_and_mixed_kinds_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    bank = make_bank(classifier)
    with pytest.raises(ConfigError, match="no class 'zebra'"):
        make_npfvs(classifier, bank, tmp_path / "o", QUICK.model_copy(update={"classes": ("zebra",)}))
    twice = bank.select([*range(len(bank)), 0])
    with pytest.raises(ConfigError, match="two concepts"):
        make_npfvs(classifier, twice, tmp_path / "o", QUICK)


def test_neural_features_are_taken_by_importance(classifier: Classifier, tmp_path: Path) -> None:
    bank = make_bank(classifier, kind="neuron")
    table = bank.table.drop(columns="eigenvalue").assign(importance_rank=bank.table["component"] * 7 % 5 + 1)
    rows = np.flatnonzero(table["component"] >= 0)
    config = QUICK.model_copy(update={"top": 2, "batch_size": 16})  # several classes share a batch
    store = make_npfvs(classifier, replace(bank, table=table).select(rows), tmp_path / "o", config)
    assert list(store.table()["component"]) == [0, 3] * 4
    assert len(store.table()) == 8


def test_half_precision_finds_about_the_same(classifier: Classifier, made: NpfvStore, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"precision": "bfloat16"})
    half = make_npfvs(classifier, make_bank(classifier), tmp_path / "o", config).table()
    rise = half["objective"] - half["start_objective"]
    full = made.table()["objective"] - made.table()["start_objective"]
    assert (rise > 0.8 * full).all()


def test_a_torn_or_foreign_folder_is_refused(made: NpfvStore, classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no feature visualisations"):
        NpfvStore.open(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty"):
        make_npfvs(classifier, make_bank(classifier), tmp_path, QUICK)


def command(bank: Path, out: Path, *more: object) -> Ran:
    quick = ("--top", 2, "--choose", 1, "--steps", 2, "--device", "cpu")
    return run_spurious("npfv", "--bank", bank, "--out", out, *quick, *more)


def test_the_command_says_what_it_made(classifier: Classifier, tmp_path: Path) -> None:
    make_bank(classifier).save(tmp_path / "bank")
    ran = command(tmp_path / "bank", tmp_path / "out", "--classes", "cup", "--classes", "dog")
    assert ran.code == 0, ran.err
    assert "4 images of 2 classes at 32 px, eps 4.286 (30 at 224 px), 2 steps; 2 chosen" in ran.out
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["eps_at_image_size"] == pytest.approx(30 * 32 / 224)
    assert pq.read_table(tmp_path / "out/00003/npfv.parquet").num_rows == 2
    assert "other settings" in command(tmp_path / "bank", tmp_path / "out", "--eps", 3).the_error()
    assert "no class 'x'" in command(tmp_path / "bank", tmp_path / "new", "--classes", "x").the_error()
    assert "precision" in command(tmp_path / "bank", tmp_path / "new", "--precision", "int8").the_error()
