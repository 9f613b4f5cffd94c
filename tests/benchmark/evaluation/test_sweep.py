"""``spurious evaluate --models``: one record per model, protocol and mitigation, made once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from evaluation_helpers import SPURIOUS, count_decodes, dataset_folder
from helpers import CLASSES, Ran, labelled_shard, run_spurious, spread_weights_file, tree, weights_file

from spurious_imagenet import EvalRecord, evaluate, load_classifier
from spurious_imagenet.benchmark.evaluation.sweep import SweepModel, read_models
from spurious_imagenet.errors import ConfigError
from spurious_imagenet.models.head_file import HeadFileInfo, save_head


class World(NamedTuple):
    root: Path
    specs: list[str]
    dataset: Path
    val: Path

    def sweep(self, models: list[object], out: str | Path = "out", *more: object) -> Ran:
        file = self.root / "models.yaml"
        file.write_text(yaml.safe_dump(models))
        return run_spurious(
            "evaluate", "--models", file, "--dataset", self.dataset, "--val", self.val, "--out", self.root / out,
            "--backend", "eager", "--workers", 1, "--resamples", 20, *more,
        )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    specs = [spread_weights_file(tmp_path / f"m{i}.safetensors", seed=i) for i in range(2)]
    return World(tmp_path, specs, dataset_folder(tmp_path / "data"), labelled_shard(tmp_path / "val.tar", range(24)))


def _half_head(path: Path, spec: str) -> Path:
    model = load_classifier(spec)
    head = model.linear_head()
    info = HeadFileInfo(
        encoder=spec,
        encoder_weights_sha256=model.weights_sha256,
        image_size=model.preprocess.size,
        label_space=model.labels.name,
        class_ids=model.labels.class_ids,
        class_names=model.labels.class_names,
    )
    save_head(path, type(head)(head.weight / 2, head.bias), info)
    return path


def test_a_sweep_writes_what_single_evaluations_give(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fix = _half_head(world.root / "fix.safetensors", world.specs[0])
    counted = count_decodes(monkeypatch)
    ran = world.sweep([{"model": world.specs[0], "mitigations": [str(fix)]}, {"model": world.specs[1], "name": "two"}])
    assert ran.code == 0, ran
    # Both protocols of two models: every image once a model and transform, and none again for the mitigation.
    assert sorted(counted.values()) == [4] * (24 + 12)
    out = world.root / "out"
    names = {f"m0-{p}{m}" for p in ("paper", "standard") for m in ("", "-fix")} | {"two-paper", "two-standard"}
    assert {f.stem for f in out.glob("*.json")} == names
    assert {f.name.removesuffix(".predictions.parquet") for f in out.glob("*.parquet")} == names
    assert "6 records (6 made now, 0 found)" in ran.out
    for name in ("protocol paper", "protocol standard", "m0", "m0 + tuned head", "two"):
        assert name in ran.out
    single = evaluate(world.specs[0], str(world.dataset), world.val, backend="eager", resamples=20)
    found = EvalRecord.load(out / "m0-paper.json")
    changed = {"predictions", "predictions_sha256", "config"}
    assert found.model_dump(exclude=changed) == single.model_dump(exclude=changed)
    fixed = EvalRecord.load(out / "m0-paper-fix.json")
    assert fixed.mitigation is not None
    assert (fixed.name, fixed.mitigation.kind, fixed.accuracy_images) == ("m0 + tuned head", "head", 24)
    assert fixed.mean.spurious_probability != found.mean.spurious_probability


def test_finished_records_are_found_and_others_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[object] = [world.specs[0]]
    assert world.sweep(models, "out", "--protocol", "standard").code == 0
    before = tree(world.root / "out")
    counted = count_decodes(monkeypatch)
    models.append({"model": world.specs[1]})
    ran = world.sweep(models, "out", "--protocol", "standard")
    assert "2 records (1 made now, 1 found)" in ran.out
    assert sum(counted.values()) == 36
    assert before.items() <= tree(world.root / "out").items()
    (world.root / "out" / "m1-standard.predictions.parquet").unlink()
    ran = world.sweep(models, "out", "--protocol", "standard", "--seed", 1)
    assert "m0-standard.json was made with other seed: it is made again." in ran.err
    assert "2 records (2 made now, 0 found)" in ran.out
    (world.root / "out" / "m1-standard.predictions.parquet").unlink()
    ran = world.sweep(models, "out", "--protocol", "standard", "--seed", 1)
    assert "m1-standard.json lacks its predictions: it is made again." in ran.err
    weights_file(world.root / "m1.safetensors", seed=8)
    assert sum(counted.values()) == 36
    ran = world.sweep(models, "out", "--protocol", "standard", "--seed", 1)
    assert "m1-standard.json was made with other weights_file: it is made again." in ran.err
    assert sum(counted.values()) == 72


def test_a_failing_model_does_not_stop_the_others(world: World) -> None:
    bad = world.root / "bad.safetensors"
    bad.write_bytes(b"no weights")
    few = weights_file(world.root / "few.safetensors", classes=CLASSES[1:])
    ran = world.sweep([f"file:{bad}", world.specs[0], few], "out", "--protocol", "paper")
    assert ran.the_error().startswith("2 of the models failed, the first bad: ")
    assert "few failed: file:" in ran.err
    assert "1 records (1 made now, 0 found)" in ran.out
    assert {f.name for f in (world.root / "out").glob("*.json")} == {"m0-paper.json"}


def test_a_mitigation_of_another_model_costs_its_own_record_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = _half_head(world.root / "fits.safetensors", world.specs[0])
    other = _half_head(world.root / "other.safetensors", world.specs[1])
    broken = world.root / "broken.safetensors"
    broken.write_bytes(b"no tensors")
    models = [{"model": world.specs[0], "mitigations": [str(broken), str(fits), str(other)]}]
    ran = world.sweep(models, "out", "--protocol", "paper")
    assert f"m0-broken failed: {broken} is not a readable mitigation file" in ran.err
    assert f"m0-other failed: {other} was fitted to features of {world.specs[1]}" in ran.err
    out = world.root / "out"
    assert {f.name for f in out.glob("*.json")} == {"m0-paper.json", "m0-paper-fits.json"}
    mitigation = EvalRecord.load(out / "m0-paper-fits.json").mitigation
    assert mitigation is not None
    assert mitigation.file == str(fits)
    counted = count_decodes(monkeypatch)
    again = world.sweep(models, "out", "--protocol", "paper")
    assert "2 records (0 made now, 2 found)" in again.out
    assert not counted


def test_a_mitigation_that_is_not_there_is_said_before_any_model_is_measured(world: World) -> None:
    gone = world.root / "gone.safetensors"
    ran = world.sweep([world.specs[1], {"model": world.specs[0], "mitigations": [str(gone)]}])
    assert f"model 'm0' has the mitigation {gone}, which is not there" in ran.the_error()
    assert not list((world.root / "out").glob("*.json"))


def test_another_file_is_not_overwritten(world: World) -> None:
    (world.root / "out").mkdir()
    (world.root / "out" / "m0-paper.json").write_text("{}")
    ran = world.sweep(world.specs[:1], "out", "--protocol", "paper")
    assert "m0-paper.json is not an evaluation record" in ran.the_error()
    assert "move the file away" in ran.the_error()
    assert (world.root / "out" / "m0-paper.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- modle: timm:x\n", r"model 1: unknown key 'modle' \(did you mean 'model'\?\): expected model, name"),
        ("- timm:x\n- name: y\n", r"model 2: key 'model': Field required \(got \{'name': 'y'\}\)"),
        ("- {model: timm:x, image_size: 0}\n", r"model 1: key 'image_size': .* greater than 0 \(got '0'\)"),
        ("- {model: timm:x, name: a/b}\n", "model 1: key 'name': "),
        ("- {model: timm:x, mitigations: fix}\n", r"model 1: key 'mitigations': .* \(got 'fix'\)"),
        ("- [3]\n", "model 1: "),
        ("model: timm:x\n", "holds a mapping: expected a list of models"),
        ("", "holds nothing: expected a list of models"),
        ("- [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_list_is_said_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        read_models(tmp_path / "m.yaml")


def test_names_must_be_apart(world: World) -> None:
    ran = world.sweep([world.specs[0], {"model": world.specs[1], "name": "m0"}])
    assert "two models are called 'm0': give each a name of its own" in ran.the_error()
    ran = world.sweep([{"model": world.specs[0], "mitigations": ["a/x.safetensors", "b/x.safetensors"]}])
    assert "model 'm0' has two mitigation files of one name" in ran.the_error()
    assert SweepModel.model_validate("timm:resnet50.a1_in1k").name == "resnet50.a1_in1k"


def test_model_and_models_exclude_each_other(world: World) -> None:
    common = ["--dataset", world.dataset, "--val", world.val, "--out", world.root / "r.json"]
    ran = run_spurious("evaluate", *common)
    assert ran.the_error() == "--model SPEC or --models FILE: expected exactly one of them."
    ran = run_spurious("evaluate", "--model", world.specs[0], *common)
    assert ran.the_error().startswith("--model needs one --protocol")
    ran = run_spurious(
        "evaluate", "--model", world.specs[0], *common, "--protocol", "paper", "--backend", "eager",
        "--outputs", world.root / "kept",
    )  # fmt: skip
    assert ran.code == 0, ran
    assert "protocol paper, record" in ran.out
    record = json.loads((world.root / "r.json").read_text())
    assert record["predictions"] == "r.predictions.parquet"
    assert len(list((world.root / "kept").iterdir())) == 2
    assert len(SPURIOUS) == sum(c["spurious_images"] for c in record["classes"])


def test_missing_validation_images_are_said_before_any_model_is_loaded(world: World) -> None:
    missing = world._replace(val=world.root / "nowhere")
    ran = missing.sweep(world.specs)
    assert "nowhere" in ran.the_error()
    assert "failed" not in ran.err
