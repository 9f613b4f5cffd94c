"""What a model's outputs are called: what comes with its weights, and a remark where their number alone decides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from helpers import labelled_shard, run_spurious

from spurious_imagenet.benchmark.evaluation.evaluate import _as_classifier
from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import imagenet_label_space, load_classifier
from spurious_imagenet.models.timm_labels import _named_for_imagenet
from spurious_imagenet.models.weights_file import WeightsFileInfo, save_weights
from spurious_imagenet.tensors import save_torch

BIRDS = [f"bird {i}" for i in range(1000)]
GUESS = "does not say what its 1000 outputs are: taken for the classes of imagenet-1k, because of their number"


def _folder(path: Path, classes: int = 1000, **config: object) -> str:
    """Write a folder as timm exports its models; return its spec."""
    path.mkdir()
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=classes)
    save_torch(path / "model.safetensors", model.state_dict())
    cfg = {"input_size": [3, 64, 64], "num_classes": classes, "classifier": "head.fc", "first_conv": "conv1"}
    whole = {"architecture": "test_resnet", "num_classes": classes, "pretrained_cfg": cfg} | config
    (path / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    return f"timm:local-dir:{path}"


SAID = {
    "label_names": {"label_names": BIRDS},
    "label_names with descriptions": {"label_names": BIRDS, "label_descriptions": {"bird 0": "a robin"}},
    "descriptions alone": {"label_descriptions": BIRDS},
    "id2label": {"id2label": {str(i): name for i, name in enumerate(BIRDS)}},
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_labels_that_come_with_weights_are_taken(
    said: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = load_classifier(_folder(tmp_path / "m", **said)).labels
    assert (labels.name, list(labels.class_ids)) == ("custom", BIRDS)
    assert labels.class_names[0] == ("a robin" if "with" in str(list(said)) or len(said) == 2 else "bird 0")
    assert labels.class_names[1:] == tuple(BIRDS[1:])
    assert not caplog.records


def _imagenet(words: bool) -> list[str]:
    space = imagenet_label_space()
    if not words:
        return list(space.class_ids)
    return [f"{name}, and other words" for name in space.class_names[:-20]] + [f"odd {i}" for i in range(20)]


@pytest.mark.parametrize("words", [False, True])
def test_imagenets_own_labels_are_known(words: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_classifier(_folder(tmp_path / "m", label_names=_imagenet(words))).labels == imagenet_label_space()
    assert not caplog.records


def test_imagenets_labels_in_another_order_are_not_imagenets_order(tmp_path: Path) -> None:
    turned = _imagenet(False)[::-1]
    assert list(load_classifier(_folder(tmp_path / "m", label_names=turned)).labels.class_ids) == turned


def test_a_width_that_no_imagenet_space_has_needs_no_file_of_labels(tmp_path: Path) -> None:
    classifier = load_classifier(_folder(tmp_path / "m", 7, label_names=BIRDS[:7]))
    assert list(classifier.labels.class_ids) == BIRDS[:7]


def test_a_wrong_number_of_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="comes with 12 labels for 1000 outputs"):
        load_classifier(_folder(tmp_path / "m", label_names=BIRDS[:12]))


def test_a_gap_in_id2label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not name each output in id2label"):
        load_classifier(_folder(tmp_path / "m", 2, id2label={"0": "a", "2": "b"}))


@pytest.mark.parametrize("width", [1000, 11821, 21841, 21843])
def test_a_guess_is_said(width: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = _folder(tmp_path / "m", width)
    assert len(load_classifier(spec).labels) == width
    (record,) = caplog.records
    assert f"{spec} does not say what its {width} outputs are" in record.message
    caplog.clear()
    load_classifier(f"{spec}?label_space={load_classifier(spec).labels.name}")
    assert len(caplog.records) == 1  # of the second load, which asks; the first knows


def test_a_file_that_says_nothing_is_a_guess(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = timm.create_model("test_resnet", pretrained=False, num_classes=1000)
    save_weights(tmp_path / "m.safetensors", model, WeightsFileInfo(arch="test_resnet"))
    assert load_classifier(f"file:{tmp_path / 'm.safetensors'}").labels == imagenet_label_space()
    assert GUESS in caplog.text
    caplog.clear()
    known = WeightsFileInfo(arch="test_resnet", label_space="imagenet-1k")
    save_weights(tmp_path / "known.safetensors", model, known)
    load_classifier(f"file:{tmp_path / 'known.safetensors'}")
    assert not caplog.records


def test_a_module_without_labels_is_a_guess(caplog: pytest.LogCaptureFixture) -> None:
    module = torchvision.models.squeezenet1_1()
    made = _as_classifier(module, Preprocess(size=64, resize=64), None, None)
    assert made.labels == imagenet_label_space()
    assert "the module SqueezeNet" in caplog.text
    assert GUESS in caplog.text


def test_a_timm_module_says_its_labels(caplog: pytest.LogCaptureFixture) -> None:
    module = timm.create_model("test_resnet", pretrained=False, num_classes=3)
    module.pretrained_cfg = {**module.pretrained_cfg, "label_names": ["a", "b", "c"]}
    assert _as_classifier(module, Preprocess(size=64, resize=64), None, None).labels.class_ids == ("a", "b", "c")
    assert not caplog.records


def test_nearly_all_of_timms_own_weights_say_what_they_were_trained_on() -> None:
    trained = [
        n for n in timm.list_pretrained() if timm.get_pretrained_cfg(n).num_classes in {1000, 11821, 21841, 21843}
    ]
    unsaid = {n for n in trained if not _named_for_imagenet(timm.get_pretrained_cfg(n).to_dict(), n)}
    assert len(trained) > 1000
    assert len(unsaid) < 20, unsaid


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("hf-hub:timm/resnet50.a1_in1k", True),
        ("hf-hub:timm/convnextv2_tiny.fcmae_ft_in22k_in1k_384", True),
        ("hf-hub:timm/resnet50.a1_in1k_food", False),
        ("hf-hub:timm/vit_large_patch14_clip_336.laion2b_ft_inat21", False),
        ("hf-hub:somebody/resnet50.a1_in1k", False),
    ],
)
def test_only_timms_own_names_say_it(address: str, said: bool) -> None:
    assert _named_for_imagenet({}, address) == said


def test_the_guess_reaches_the_user_of_the_command_line(tmp_path: Path) -> None:
    spec = _folder(tmp_path / "m")
    shard = labelled_shard(tmp_path / "s.tar", range(3))
    ran = run_spurious(
        "features", "--model", spec, "--shards", shard, "--out", tmp_path / "out", "--max-label-problems", 1
    )
    assert ran.code == 0, ran.err
    assert ran.err.count(GUESS) == 1
