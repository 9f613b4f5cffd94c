"""Addresses, models, stores and directories that do not fit: one clear sentence, and nothing is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from feature_runs import Touch, World
from helpers import CLASSES, jpeg, labelled_shard, run_spurious, spread_weights_file, weights_file, write_tar
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.features.store import FeatureStore


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, weights_file(tmp_path / "m.safetensors"))


def test_a_pipe_is_not_run_without_permission(world: World) -> None:
    marker = world.root / "ran"
    shard = labelled_shard(world.root / "s.tar", range(3))
    address = f"pipe:touch {marker}; cat {shard}"
    assert "runs a shell command" in world.features(shards=address).the_error()
    assert not marker.exists()
    assert not (world.root / "store").exists()
    assert world.features("--allow-pipe", shards=address).code == 0
    assert marker.exists()
    assert len(FeatureStore.open(world.root / "store")) == 3


def test_missing_and_doubled_shards_are_named(world: World) -> None:
    shard = labelled_shard(world.root / "s.tar", range(3))
    assert "were not found" in world.features(shards=world.root / "no" / "such.tar").the_error()
    assert "is given twice" in world.features("--shards", shard, shards=shard).the_error()
    assert not (world.root / "store").exists()


def changed_weights(world: World, name: str, change: dict[str, torch.Tensor]) -> str:
    source = Path(world.spec.removeprefix("file:"))
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    path = world.root / f"{name}.safetensors"
    save_file(load_file(source) | change, path, metadata=metadata)
    return f"file:{path}"


def test_models_that_cannot_be_used_are_refused(world: World) -> None:
    shard = labelled_shard(world.root / "s.tar", range(3))
    state = load_file(world.spec.removeprefix("file:"))
    first = next(name for name, tensor in state.items() if tensor.ndim == 4)
    poisoned = state[first].clone()
    poisoned.view(-1)[7] = float("nan")
    (world.root / "three.txt").write_text("apple\nbird\ncup\n")
    (world.root / "junk.safetensors").write_bytes(b"junk" * 100)
    torch.save({"weight": Touch(world.root / "code-was-run")}, world.root / "armed.pth")
    cases = {
        changed_weights(world, "nan", {first: poisoned}): f"the model's weights 'model.{first}' hold NaN or infinite",
        f"{world.spec}?labels={world.root}/three.txt": "another number of classes?",
        changed_weights(world, "wide", {"fc.weight": torch.zeros(5, 96), "fc.bias": torch.zeros(5)}): "shape (5,",
        f"file:{world.root}/none.safetensors": "there is no file",
        f"file:{world.root}/junk.safetensors": "is not a readable safetensors weights file",
        f"file:{world.root}/armed.pth?arch=test_resnet": "cannot be read without running code in it",
        f"{world.spec}?colour=red": "unknown option 'colour'",
        "resnet50": "is not a model spec",
        "magic:resnet50": "unknown scheme 'magic'",
    }
    for model, said in cases.items():
        assert said in world.features(shards=shard, model=model).the_error(), model
    assert not (world.root / "store").exists()
    assert not (world.root / "code-was-run").exists()


def test_a_store_takes_no_features_of_another_model_or_size(world: World) -> None:
    shards = [labelled_shard(world.root / f"{s}.tar", range(3)) for s in range(2)]
    assert world.features(shards=shards[0]).code == 0
    other = weights_file(world.root / "other.safetensors", seed=1)
    said = world.features(shards=shards[1], model=other).the_error()
    assert "was made with another configuration (weights_sha256 differ)" in said
    said = world.features("--image-size", 32, shards=shards[1]).the_error()
    assert "was made with another configuration (preprocess differ)" in said
    more = weights_file(world.root / "more.safetensors", classes=(*CLASSES, "egg"))
    assert "class_ids" in world.features(shards=shards[1], model=more).the_error()
    assert world.parts().keys() == {"0"}
    assert world.features(shards=shards[1]).code == 0


def test_classes_with_one_image_are_left_out_and_said(world: World) -> None:
    members = [(f"{i}.jpg", jpeg(i)) for i in range(7)] + [
        (f"{i}.cls", b"%d" % c) for i, c in enumerate([0, 0, 0, 1, 2, 2, 2])
    ]
    assert world.features(shards=write_tar(world.root / "train.tar", members)).code == 0
    arguments = ("components", "--model", world.spec, "--features", world.root / "store")
    ran = run_spurious(*arguments, "--out", world.root / "bank")
    assert ran.code == 0, ran.err
    assert "\n  left out: class bird (bird) has 1 training images: components need at least 2.\n" in ran.err
    assert "1 classes left out" in ran.out
    shard = write_tar(world.root / "few.tar", [("a.jpg", jpeg(1)), ("a.cls", b"1")])
    assert world.features(shards=shard, out="few").code == 0
    ran = run_spurious("components", "--model", world.spec, "--features", world.root / "few", "--out", world.root / "b")
    assert "components need at least 2" in ran.the_error()
    assert not (world.root / "b").exists()


def test_later_stages_refuse_what_does_not_fit(world: World) -> None:
    shard = labelled_shard(world.root / "s.tar", range(16))
    extract_features(FeaturesConfig(model=world.spec, shards=(str(shard),), backend="eager"), world.root / "store")
    other = weights_file(world.root / "other.safetensors", seed=1)
    world.features(shards=shard, model=other, out="other")
    world.features("--image-size", 32, shards=shard, out="small")
    said = run_spurious("components", "--model", other, "--features", world.root / "store", "--out", world.root / "b")
    assert f"holds features of {world.spec}" in said.the_error()
    bank = ("components", "--model", world.spec, "--features", world.root / "store", "--out", world.root / "bank")
    assert run_spurious(*bank).code == 0
    assert "already exists" in run_spurious(*bank).the_error()
    for store, reason in {"other": "but the concept bank reads", "small": "with other preprocessing"}.items():
        arguments = ("mine", "--bank", world.root / "bank", "--features", world.root / store, "--min-agree", 1)
        assert reason in run_spurious(*arguments, "--out", world.root / "mined", "--backend", "eager").the_error()
    arguments = ("mine", "--bank", world.root / "none", "--features", world.root / "store", "--min-agree", 1)
    assert "bank.json is missing" in run_spurious(*arguments, "--out", world.root / "mined2").the_error()
    arguments = ("publish", "--unreviewed", "--candidates", world.root / "mined", "--out", world.root / "published")
    assert "holds no finished candidates" in run_spurious(*arguments).the_error()
    assert not (world.root / "published").exists()


def test_what_looks_like_markup_is_a_name(world: World) -> None:
    odd = world.root / "[/red] {a,b}"
    spec = spread_weights_file(odd / "m.safetensors", classes=("[/bold]", "[red]x", "c|d", "e"))
    shard = labelled_shard(odd / "s.tar", range(16), ("[/bold]", "[red]x"))
    assert world.features(shards=shard, model=spec).code == 0
    bank = ("components", "--model", spec, "--features", world.root / "store", "--out", odd / "bank")
    assert run_spurious(*bank).code == 0
    mine = ("mine", "--bank", odd / "bank", "--features", world.root / "store", "--min-agree", 1, "--keep", 1)
    ran = run_spurious(*mine, "--out", odd / "mined", "--backend", "eager")
    assert ran.code == 0
    assert "[/bold]" in ran.out
    assert run_spurious("publish", "--unreviewed", "--candidates", odd / "mined", "--out", odd / "published").code == 0


def test_the_installed_command_fails_in_one_sentence(world: World) -> None:
    """The same in a process of its own, with nothing caught or redirected by the test."""
    command = [sys.executable, "-c", "from spurious_imagenet.cli import main; main()", "features"]
    arguments = ["--model", world.spec, "--shards", str(world.root / "none.tar"), "--out", str(world.root / "store")]
    ran = subprocess.run(command + arguments, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1
    *_, last = ran.stderr.strip().splitlines()
    assert last.startswith("error: shards ")
    assert "none.tar' were not found" in last
    assert last.endswith("expected a tar file, or a directory or pattern with some.")
    assert "Traceback" not in ran.stderr
