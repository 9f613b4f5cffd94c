"""A classifier of the planted world's cues and objects, by which it is measured what a visualisation shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from spurious_imagenet.planted._cues import CUES
from spurious_imagenet.planted._data import Split
from spurious_imagenet.planted._plan import ImagePlan
from spurious_imagenet.planted._shapes import SHAPES
from spurious_imagenet.planted._world import render
from spurious_imagenet.planted.config import WorldConfig
from spurious_imagenet.planted.training import MEAN, STD, Recipe, TrainingRecord, train_model

__all__ = ["THINGS", "Recogniser", "draw_alone", "train_recogniser"]

#: Everything that a planted world shows: its objects, then its cues.
THINGS = (*SHAPES, *CUES)

Pixels = NDArray[np.uint8]

_GREY = 128
_OTHER_SEED = 1_000_003  # no image of the world itself is drawn again
#: Another architecture than the scoring model's; adversarial, since visualisations are made of what robust models see.
_RECIPE = Recipe(name="recogniser", arch="test_resnet", epochs=6, learning_rate=4e-3, epsilon=0.5)


@dataclass(frozen=True, eq=False)
class Recogniser:
    """Tells cues and objects apart.

    Attributes:
        network: (N, 3, S, S) normalised images → (N, len(THINGS)) logits.
        record: How it was trained, and its accuracy on drawings it was not trained on.
    """

    network: nn.Module
    record: TrainingRecord

    def probabilities(self, images: Pixels) -> NDArray[np.float32]:
        """Return the (N, len(THINGS)) probabilities of what (N, S, S, 3) images show."""
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            found: NDArray[np.float32] = self.network((pixels - mean) / std).softmax(1).numpy()
        return found


def draw_alone(thing: str, number: int, config: WorldConfig) -> tuple[Image.Image, Image.Image]:
    """Draw a scene with one cue or object; the same number and configuration give the same scene.

    Returns:
        The RGB image and its mask, as :func:`~spurious_imagenet.planted._world.render` gives them.
    """
    is_object = thing in SHAPES
    return render(ImagePlan("pool", number, "", thing if is_object else None, None if is_object else thing), config)


def _cropped(rng: Generator, image: Image.Image, shown: Pixels) -> Image.Image:
    """Cut out a random square of at least half the side that has at least a third of what is shown."""
    side = image.width
    for _ in range(20):
        length = int(rng.integers(side // 2, side + 1))
        left, top = rng.integers(0, side - length + 1, 2).tolist()
        if 3 * shown[top : top + length, left : left + length].sum() >= shown.sum():
            box = (left, top, left + length, top + length)
            return image.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return image


def _drawing(rng: Generator, thing: str, number: int, config: WorldConfig) -> Pixels:
    """Draw a cue or an object by itself: in a scene or cut out along its mask on grey, cropped, paled towards grey."""
    image, labels = draw_alone(thing, number, config)
    shown = np.asarray(labels) > 0
    pixels = np.asarray(image)
    if rng.uniform() < 0.5:
        pixels = np.where(shown[..., None], pixels, np.uint8(_GREY))
    if rng.uniform() < 0.5:
        pixels = np.asarray(_cropped(rng, Image.fromarray(pixels), shown.astype(np.uint8)))
    strength = rng.uniform(0.25, 1.0)
    return np.rint(_GREY + strength * (pixels - np.float64(_GREY))).astype(np.uint8)


def _drawings(config: WorldConfig, first: int, each: int, tell: Callable[[], None]) -> Iterator[Pixels]:
    for i, thing in enumerate(THINGS):
        for number in range(first + i * each, first + (i + 1) * each):
            yield _drawing(np.random.default_rng([config.seed, number, 7]), thing, number, config)
            tell()


def _split(config: WorldConfig, first: int, each: int, tell: Callable[[], None]) -> Split:
    images = torch.from_numpy(np.stack(list(_drawings(config, first, each, tell)))).permute(0, 3, 1, 2)
    labels = torch.arange(len(THINGS)).repeat_interleave(each)
    return Split(images.contiguous(memory_format=torch.channels_last), labels)


def train_recogniser(
    world: WorldConfig, each: int = 120, *, progress: Callable[[int, int], None] | None = None
) -> Recogniser:
    """Train a recogniser on drawings of single cues and objects; it never sees a visualisation.

    Args:
        world: Its seed is replaced, so that none of the world's images is among the drawings.
        each: Drawings of each cue and object to learn from; a fifth as many measure the accuracy.
        progress: Called with (drawings done, in all).
    """
    config = world.model_copy(update={"seed": world.seed + _OTHER_SEED})
    held_out = max(each // 5, 1)
    total, done = len(THINGS) * (each + held_out), 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    train = _split(config, 0, each, tell)
    val = _split(config, len(THINGS) * each, held_out, tell)
    network, record = train_model(train, val, _RECIPE, classes=len(THINGS))
    return Recogniser(network, record)
