"""A small vision-language model of a planted world, learnt from captions that say what is true of its images.

It lets text cues be tried without a network connection; the published models know the real world.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import normalize

from spurious_imagenet.images import read_picture
from spurious_imagenet.io import atomic_directory
from spurious_imagenet.models.open_clip_models import create_open_clip, save_open_clip
from spurious_imagenet.planted._data import planted_label_space
from spurious_imagenet.planted.training import MEAN, STD, augment, reproducible
from spurious_imagenet.planted.truth import PlantedTruth
from spurious_imagenet.records import Record

__all__ = ["VisionLanguageRecipe", "caption", "train_vision_language"]

#: Labels file in the model's folder, for the option ``labels`` of its spec.
LABELS_FILE = "labels.txt"


class VisionLanguageRecipe(Record):
    """How the model is made and trained."""

    arch: str = "test_resnet"
    """The image tower, a timm architecture."""
    embed_dim: PositiveInt = 64
    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 4e-3
    batch_size: PositiveInt = 128
    seed: int = 0


def caption(class_name: str | None, cues: Sequence[str]) -> str:
    """Say what an image shows."""
    shown = [f"a {name}" for name in ([class_name] if class_name else [])] + [f"a {cue}" for cue in cues]
    return "a photo of " + (" and ".join(shown) if shown else "nothing")


def _config(recipe: VisionLanguageRecipe, size: int) -> dict[str, Any]:
    vision = {
        "timm_model_name": recipe.arch,
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": size,
    }
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    return {
        "model_cfg": {"embed_dim": recipe.embed_dim, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def _captioned(world: Path) -> tuple[Tensor, list[str]]:
    """Read the training and pool images, (N, 3, S, S) uint8, and their captions."""
    truth, space = PlantedTruth.load(world), planted_label_space()
    table = truth.table[truth.table["split"].isin(["train", "pool"])]
    images, captions = [], []
    for file, class_id, cues in zip(table["file"], table["class_id"], table["cues"], strict=True):
        images.append(np.asarray(read_picture(world / file).convert("RGB")))
        captions.append(caption(None if class_id is None else space.class_names[space.index(class_id)], list(cues)))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return pixels.contiguous(memory_format=torch.channels_last), captions


def _contrast(model: Any, images: Tensor, texts: Tensor, same: Tensor) -> Tensor:
    """Contrastive loss in both directions; images of one caption are all right answers to it."""
    shown = normalize(model.encode_image(images), dim=1)
    logits = model.logit_scale.exp() * shown @ normalize(model.encode_text(texts), dim=1).T
    target = same / same.sum(1, keepdim=True)
    loss: Tensor = (
        -((logits.log_softmax(1) * target).sum(1).mean() + (logits.T.log_softmax(1) * target).sum(1).mean()) / 2
    )
    return loss


def _fit(
    model: nn.Module,
    pixels: Tensor,
    tokens: Tensor,
    identity: Tensor,
    recipe: VisionLanguageRecipe,
    tell: Callable[[int], None],
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=0.05)
    steps = max(len(pixels) // recipe.batch_size, 1)
    total = max(recipe.epochs * steps, 10)  # the schedule needs some
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=total, pct_start=0.2)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    model.train()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(pixels))
        for step in range(steps):
            rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            images = (augment(pixels[rows].float() / 255) - mean) / std
            same = (identity[rows][:, None] == identity[rows][None]).float()
            loss = _contrast(model, images, tokens[rows], same)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        tell(epoch + 1)
    model.eval()


def train_vision_language(
    world: str | Path,
    out: str | Path,
    recipe: VisionLanguageRecipe | None = None,
    *,
    on_epoch: Callable[[int], None] | None = None,
) -> float:
    """Train a vision-language model on a world's captioned training and pool images.

    Args:
        world: A folder written by ``write_world``.
        out: New folder, which appears whole or not at all: an OpenCLIP model for ``open_clip:local-dir:OUT``, and
            ``labels.txt`` for its zero-shot head.
        recipe: What to train, and how.
        on_epoch: Called with how many epochs are done.

    Returns:
        Seconds of the training alone.

    Raises:
        DataError: ``world`` is not a planted world.
        StoreError: ``out`` exists and is not empty.
        ConfigError: OpenCLIP is not installed.
    """
    chosen = recipe or VisionLanguageRecipe()
    pixels, captions = _captioned(Path(world))
    space = planted_label_space()
    with atomic_directory(out) as root, reproducible(chosen.seed):
        config = json.dumps(_config(chosen, int(pixels.shape[-1])), indent=1)
        (root / "open_clip_config.json").write_text(config + "\n", encoding="utf-8")
        labels = "".join(f"{i}\t{name}\n" for i, name in zip(space.class_ids, space.class_names, strict=True))
        (root / LABELS_FILE).write_text(labels, encoding="utf-8")
        model, tokenizer = create_open_clip(f"local-dir:{root}", load_weights=False)
        distinct = {text: number for number, text in enumerate(dict.fromkeys(captions))}
        identity = torch.tensor([distinct[text] for text in captions])
        start = time.perf_counter()
        _fit(model, pixels, tokenizer(list(distinct))[identity], identity, chosen, on_epoch or (lambda _: None))
        seconds = time.perf_counter() - start
        save_open_clip(model, root)
    return seconds
