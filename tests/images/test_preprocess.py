from __future__ import annotations

import numpy as np
import pytest
from helpers import picture
from torchvision import transforms

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.images import CustomTransform, Preprocess, Protocol

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


SIZES = [(500, 375), (333, 500), (256, 256), (1000, 90), (64, 64), (300, 1201), (223, 224), (12, 9)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0, 1.2])
def test_equals_the_torchvision_pipeline(size: tuple[int, int], interpolation: str, crop_pct: float) -> None:
    image = picture(1, size)
    transform = Preprocess.evaluation(224, crop_pct, interpolation, MEAN, STD)
    ours = transform.apply(np.asarray(image))
    mode = getattr(transforms.InterpolationMode, interpolation.upper())
    reference = transforms.Compose([transforms.Resize(transform.resize, mode), transforms.CenterCrop(224)])(image)
    assert ours.shape == (224, 224, 3)
    difference = np.abs(ours.astype(int) - np.asarray(reference))
    assert difference.max() <= 2
    assert (difference > 0).mean() < 0.01, "Pillow rounds the ends of a box to float32, which moves near-ties"


def test_squash_keeps_everything() -> None:
    image = np.zeros((40, 400, 3), np.uint8)
    image[:, :20] = 255
    squashed = Preprocess.evaluation(64, 1.0, "bicubic", MEAN, STD, "squash").apply(image)
    assert squashed[:, 0].min() > 200
    assert Preprocess.evaluation(64, 1.0, "bicubic", MEAN, STD).apply(image).max() == 0


def test_paper_protocol_is_as_published() -> None:
    own = Preprocess.evaluation(224, 0.95, "bilinear", MEAN, STD, "squash")
    validation = own.for_protocol(Protocol.PAPER, "validation")
    assert (validation.resize, validation.size, validation.interpolation) == (256, 224, "bicubic")
    assert validation.resize_mode == "shortest"
    assert own.for_protocol(Protocol.PAPER, "spurious").resize == 224
    larger = Preprocess.evaluation(288, 1.0, "bicubic", MEAN, STD)
    assert larger.for_protocol(Protocol.PAPER, "validation").resize == int(256 / 224 * 288)
    assert own.for_protocol(Protocol.STANDARD, "spurious") == own


def test_custom_transform_is_checked_and_standard_only() -> None:
    compose = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32), transforms.ToTensor()])
    custom = CustomTransform(compose)
    assert custom.size == 32
    assert custom.for_protocol(Protocol.STANDARD, "validation") is custom
    with pytest.raises(ConfigError, match="standard"):
        custom.for_protocol(Protocol.PAPER, "validation")
    with pytest.raises(ModelError, match="expected a torch"):
        CustomTransform(np.asarray)
