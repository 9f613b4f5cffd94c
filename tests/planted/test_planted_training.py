"""Networks of a planted world: reproducible, saved so that a spec loads them, attacked within bounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from spurious_imagenet.errors import DataError
from spurious_imagenet.models import load_classifier
from spurious_imagenet.planted import WorldConfig, write_world
from spurious_imagenet.planted._attack import l2_attack
from spurious_imagenet.planted._data import Split, load_split, planted_label_space
from spurious_imagenet.planted.training import RECIPES, Recipe, train_model, train_models

ROBUST = Recipe(name="robust", arch="test_byobnet", epochs=1, learning_rate=4e-3, epsilon=0.5, batch_size=32)
CLEAN = Recipe(name="clean", arch="test_resnet", epochs=1, learning_rate=4e-3, batch_size=32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("planted") / "world"
    write_world(
        out, WorldConfig.tiny().model_copy(update={"train_per_class": 10, "val_per_class": 4, "pool_neither": 1})
    )
    return out


@pytest.fixture(scope="module")
def splits(world: Path) -> tuple[Split, Split]:
    return load_split(world, "train"), load_split(world, "val")


def test_splits_are_read_in_the_order_of_the_classes(splits: tuple[Split, Split]) -> None:
    train, val = splits
    assert train.images.shape == (120, 3, 64, 64)
    assert torch.equal(torch.bincount(train.labels), torch.full((12,), 10))
    assert torch.equal(val.labels, torch.arange(12).repeat_interleave(4))
    pixels, _ = train.batch(torch.tensor([0, 5]))
    assert 0 <= float(pixels.min()) < float(pixels.max()) <= 1


def test_a_missing_class_is_named(world: Path, tmp_path: Path) -> None:
    (tmp_path / "train" / "planted-00-star").mkdir(parents=True)
    with pytest.raises(DataError, match="planted-00-star holds no images"):
        load_split(tmp_path, "train")


def test_training_is_the_same_to_the_bit_and_leaves_torch_as_it_was(splits: tuple[Split, Split]) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    first, record = train_model(*splits, ROBUST)
    torch.rand(3)
    second, again = train_model(*splits, ROBUST)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert record.model_copy(update={"seconds": 0}) == again.model_copy(update={"seconds": 0})
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    torch.rand(3)
    torch.set_rng_state(state)
    other, _ = train_model(*splits, ROBUST.model_copy(update={"seed": 1}))
    assert not torch.equal(first.get_classifier().weight, other.get_classifier().weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_training_learns(splits: tuple[Split, Split]) -> None:
    train, _ = splits
    longer = CLEAN.model_copy(update={"epochs": 10})
    _, record = train_model(train, train, longer)
    assert record.val_accuracy > 0.5  # chance is 1/12
    assert record.robust_accuracy is None


def test_saved_weights_load_by_spec_and_give_the_same_logits(
    world: Path, splits: tuple[Split, Split], tmp_path: Path
) -> None:
    records = train_models(world, tmp_path / "models", (ROBUST, CLEAN), workers=2)
    assert [r.recipe for r in records] == [ROBUST, CLEAN]
    for recipe, record in zip((ROBUST, CLEAN), records, strict=True):
        written = json.loads((tmp_path / "models" / f"{recipe.name}.json").read_text())
        assert written["val_accuracy"] == record.val_accuracy
        network, _ = train_model(*splits, recipe)
        classifier = load_classifier(f"file:{tmp_path / 'models' / recipe.name}.safetensors")
        assert classifier.labels == planted_label_space()
        assert classifier.head is not None
        pixels = splits[1].images[::8]
        with torch.inference_mode():
            expected = network((pixels.float() / 255 - 0.5) / 0.25)
            features, logits = classifier.network(pixels.permute(0, 2, 3, 1))
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_allclose(classifier.head.logits(features.numpy()), expected, atol=1e-4)


def test_the_scoring_model_is_robust_and_three_other_architectures_vote() -> None:
    assert [r.epsilon > 0 for r in RECIPES] == [True, False, False, False]
    assert len({r.arch for r in RECIPES}) == 4
    assert len({r.name for r in RECIPES}) == 4


@pytest.mark.parametrize("steps", [1, 5])
def test_attacks_raise_the_loss_within_the_ball(steps: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    pixels, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 4
    moved = l2_attack(network, pixels, labels, epsilon=0.5, steps=steps)
    assert float((moved - pixels).flatten(1).norm(dim=1).max()) <= 0.5 + 1e-5
    assert float((moved - pixels).flatten(1).norm(dim=1).min()) > 0.3
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    before = cross_entropy(network(pixels), labels, reduction="none")
    assert (cross_entropy(network(moved), labels, reduction="none") > before).all()
    assert all(p.grad is None for p in network.parameters())
