"""Each of timm's and OpenCLIP's ways to make a square is reproduced; one that is unknown is refused."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import timm
import torch
from helpers import picture
from PIL import Image
from timm.data import create_transform

from spurious_imagenet.builders.label_noise._crop import Box, in_original
from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models.open_clip_models import _preprocess
from spurious_imagenet.models.timm_models import create_timm_model, preprocess_of_timm

DATA = os.environ.get("SPURIOUS_DATA", "")
MEAN, STD = (0.48, 0.3, 0.7), (0.2, 0.25, 0.3)
SIZES = [(500, 375), (333, 500), (64, 64), (1000, 90), (80, 900), (223, 97), (300, 299), (12, 9)]


def _close(ours: np.ndarray, reference: np.ndarray) -> None:
    assert ours.shape == reference.shape
    difference = np.abs(ours.astype(int) - reference)
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.02


def _of_timm(image: Image.Image, preprocess: Preprocess, crop_mode: str, crop_pct: float) -> np.ndarray:
    transform = create_transform(
        (3, preprocess.size, preprocess.size),
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        crop_pct=crop_pct,
        crop_mode=crop_mode,
        normalize=False,
    )
    return transform(image).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_a_crop_mode_of_timm_gives_timms_pixels(
    size: tuple[int, int], interpolation: str, crop_pct: float, crop_mode: str
) -> None:
    model = create_timm_model("test_resnet", pretrained=False)
    changes = {"crop_mode": crop_mode, "crop_pct": crop_pct, "test_crop_pct": None, "interpolation": interpolation}
    model.pretrained_cfg = {**model.pretrained_cfg, **changes, "mean": MEAN, "std": STD}
    preprocess = preprocess_of_timm(model, 96)
    image = picture(1, size)
    _close(preprocess.apply(np.asarray(image)), _of_timm(image, preprocess, crop_mode, crop_pct))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_a_resize_mode_of_open_clip_gives_its_pixels(size: tuple[int, int], resize_mode: str) -> None:
    config = {"interpolation": "bicubic", "resize_mode": resize_mode, "mean": MEAN, "std": STD, "fill_color": 0}
    visual = SimpleNamespace(image_size=96, preprocess_cfg=config)
    image = picture(2, size)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=96, **config), is_train=False
    )
    scaled = transform(image) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    reference = (scaled * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    _close(_preprocess(SimpleNamespace(visual=visual), "it").apply(np.asarray(image)), reference)


@pytest.mark.skipif(not DATA, reason="SPURIOUS_DATA names no folder of real images")
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_photographs_become_timms_pixels(crop_mode: str) -> None:
    mode = {"center": "shortest"}.get(crop_mode, crop_mode)
    preprocess = Preprocess.evaluation(224, 0.9, "bicubic", MEAN, STD, mode)
    shapes = set()
    for shard in sorted(Path(DATA).glob("imagenet-sample/**/*.tar"))[:1]:
        with tarfile.open(shard) as tar:
            members = [m for m in tar.getmembers() if m.name.lower().endswith((".jpg", ".jpeg"))]
            for member in members[:24]:
                image = Image.open(tar.extractfile(member)).convert("RGB")
                shapes.add(image.size)
                _close(preprocess.apply(np.asarray(image)), _of_timm(image, preprocess, crop_mode, 0.9))
    assert len(shapes) > 3


def test_a_bordered_image_is_seen_whole() -> None:
    preprocess = Preprocess.evaluation(64, 1.0, "bicubic", MEAN, STD, "border")
    view = preprocess.view(200, 100)
    assert (view.left, view.right) == (0, 1)
    assert (view.top, view.bottom) == (-0.5, 1.5)
    assert in_original(Box(0, 16, 64, 48), preprocess, 100, 200) == Box(0, 0, 200, 100)


def test_every_published_transform_is_known_or_refused_in_a_sentence() -> None:
    found: Counter[str] = Counter()
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name).to_dict()
        model = SimpleNamespace(pretrained_cfg=config)
        if config["input_size"][1] == config["input_size"][2]:
            found[preprocess_of_timm(model).resize_mode] += 1
        else:
            with pytest.raises(ModelError, match="asks for inputs of 3 x 1024 x 768"):
                preprocess_of_timm(model)
            found["refused"] += 1
    assert found["shortest"] > 1000
    assert found["squash"] > 50
    assert found["refused"] < 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crop_mode": "spiral"}, "crop mode 'spiral': expected one of center, squash, border"),
        ({"interpolation": "random"}, "interpolation is 'random'"),
        ({"input_size": (3, 64, 32)}, "inputs of 3 x 64 x 32: expected 3 channels and a square"),
        ({"input_size": (1, 64, 64)}, "inputs of 1 x 64 x 64"),
        ({"crop_pct": -1.0}, "got crop_pct -1.0"),
    ],
)
def test_an_unknown_transform_is_refused(changes: dict[str, object], said: str) -> None:
    config = {"input_size": (3, 64, 64), "crop_pct": 1.0, "interpolation": "bicubic", **changes}
    with pytest.raises(ModelError, match=said):
        preprocess_of_timm(SimpleNamespace(pretrained_cfg=config))


@pytest.mark.parametrize("changes", [{"resize_mode": "fold"}, {"resize_mode": "longest", "fill_color": 7}])
def test_an_unknown_transform_of_open_clip_is_refused(changes: dict[str, object]) -> None:
    config = {"interpolation": "bicubic", "mean": MEAN, "std": STD, **changes}
    with pytest.raises(ModelError, match="expected one of shortest, squash, longest, and the colour 0"):
        _preprocess(SimpleNamespace(visual=SimpleNamespace(image_size=64, preprocess_cfg=config)), "it")
