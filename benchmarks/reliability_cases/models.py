"""Models that say little of themselves, or something else than is expected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from reliability_inputs import model_file, shard

from reliability_cases import Seen, Workbench, case
from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.tensors import save_torch


def _folder(path: Path, classes: int = 1000, config: dict[str, object] | None = None, **more: object) -> str:
    """Write a folder as timm exports its models; return its spec, relative to its folder."""
    path.mkdir()
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=classes)
    save_torch(path / "model.safetensors", model.state_dict())
    cfg = {"input_size": [3, 64, 64], "num_classes": classes, "classifier": "head.fc", "first_conv": "conv1"}
    whole = {"architecture": "test_resnet", "num_classes": classes, "pretrained_cfg": cfg | (config or {})} | more
    (path / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    return f"timm:local-dir:{path.name}"


def _run(bench: Workbench, spec: str, about: str) -> Seen:
    shard(bench.folder / "pictures.tar", 4)
    said = bench.said(
        "features",
        "--model",
        spec,
        "--shards",
        "pictures.tar",
        "--out",
        "features",
        "--max-label-problems",
        1,
        about=about,
    )
    if not (bench.folder / "features/store.json").is_file():
        return Seen(said, "nothing")
    config = FeatureStore.open(bench.folder / "features").config
    return Seen(said, f"features; output 0 is {config.class_ids[0]!r} of {config.label_space!r}")


@case("Models", "a timm model of 1,000 outputs whose configuration names them as birds")
def own_labels(bench: Workbench) -> Seen:
    names = [f"bird {i}" for i in range(1000)]
    return _run(bench, _folder(bench.folder / "birds", label_names=names), "scored")


@case("Models", "a timm model of 1,000 outputs that does not say what they are")
def no_labels(bench: Workbench) -> Seen:
    return _run(bench, _folder(bench.folder / "model"), "warning: ")


@case("Models", "a timm model with 12 labels for 1,000 outputs")
def few_labels(bench: Workbench) -> Seen:
    return _run(bench, _folder(bench.folder / "model", label_names=[f"bird {i}" for i in range(12)]), "error: ")


@case("Models", "a timm model whose configuration has a crop mode that is not known")
def crop_mode(bench: Workbench) -> Seen:
    return _run(bench, _folder(bench.folder / "model", config={"crop_mode": "spiral"}), "error: ")


@case("Models", "an OpenCLIP model and a file of labels where two classes have the same text")
def equal_texts(bench: Workbench) -> Seen:
    (bench.folder / "labels.txt").write_text("n1\tcrane\nn2\tdog\nn3\tcrane\n", encoding="utf-8")
    spec = "open_clip:RN50?pretrained=false&templates=simple&image_size=64&labels=labels.txt"
    return _run(bench, spec, "warning: ")


@case("Models", "an OpenCLIP folder whose weights are missing")
def no_weights(bench: Workbench) -> Seen:
    (bench.folder / "clip").mkdir()
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1},
            "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
        },
        "preprocess_cfg": {},
    }
    (bench.folder / "clip/open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return _run(bench, "open_clip:local-dir:clip", "error: ")


@case("Models", "a concept bank whose offsets are every second number of a longer array")
def strided(bench: Workbench) -> Seen:
    shard(bench.folder / "pictures.tar", 4)
    model = model_file(bench.folder / "model.safetensors")
    bench.spurious(
        "features", "--model", model, "--shards", "pictures.tar", "--out", "features", "--max-label-problems", 1
    )
    config = FeatureStore.open(bench.folder / "features").config
    info = BankInfo(
        model=model,
        weights_sha256=config.weights_sha256,
        feature_dim=config.feature_dim,
        feature_config_sha256=config.sha256,
    )
    row = {"concept_id": "a", "kind": "own", "class_index": 0, "class_id": "apple", "class_name": "apple"}
    table = pd.DataFrame([row | {"concept_id": str(i), "component": i, "name": ""} for i in range(4)])
    offsets = np.arange(8, dtype=np.float32)[::2]
    ConceptBank(np.ones((4, config.feature_dim), np.float32), offsets, table, info).save(bench.folder / "bank")
    found = ConceptBank.load(bench.folder / "bank").offsets
    mode = oct((bench.folder / "bank/directions.safetensors").stat().st_mode & 0o777)
    return Seen(f"given {offsets.tolist()}, read back {found.tolist()}", f"a file of mode {mode}")
