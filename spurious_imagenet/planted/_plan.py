"""What every image of a planted world shows, decided before anything is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from spurious_imagenet.planted._shapes import SHAPES
from spurious_imagenet.planted.config import WorldConfig, class_id_of

_SPLITS = ("train", "val", "pool")
Content = tuple[str | None, str | None]


@dataclass(frozen=True)
class ImagePlan:
    """What one image shows.

    Attributes:
        split: ``train``, ``val`` or ``pool``.
        number: Place in the split.
        stem: Its file's path in the world, without extension.
        name: The object, or None.
        cue: The cue, or None.
        label: The class that a labelled image is filed under where that is not its object.
    """

    split: str
    number: int
    stem: str
    name: str | None
    cue: str | None
    label: str | None = None

    def rng(self, seed: int) -> Generator:
        """Return the source of everything random in the image, which no other image shares."""
        return np.random.default_rng([seed, _SPLITS.index(self.split), self.number])


def _labelled(config: WorldConfig, split: str, per_class: int) -> Iterator[ImagePlan]:
    # One more number than an image's seed has, so that no image repeats these draws.
    rng = np.random.default_rng([config.seed, _SPLITS.index(split), 0, 1])
    for order, name in enumerate(SHAPES):
        pair = config.pair_of(name)
        with_cue = np.arange(per_class) < (round(pair.share * per_class) if pair else 0)
        shown = rng.permutation(with_cue)
        wrong = _mislabelled(config, split, name, shown)
        for i in range(per_class):
            stem = f"{split}/{class_id_of(name)}/{i:05d}"
            cue = pair.cue if pair and shown[i] else None
            thing, label = (wrong[i], name) if i in wrong else (name, None)
            yield ImagePlan(split, order * per_class + i, stem, thing, cue, label)


def _mislabelled(config: WorldConfig, split: str, name: str, with_cue: NDArray[np.bool_]) -> dict[int, str]:
    """Return which of a class's images show another object, and which; all of them show the class's cue."""
    wrong = config.mislabelled_of(name)
    if wrong is None:
        return {}
    # A source of its own, so that the other images are those of the same world without wrong labels.
    rng = np.random.default_rng([config.seed, _SPLITS.index(split), list(SHAPES).index(name), 2])
    count = min(round(wrong.share * len(with_cue)), int(with_cue.sum()))
    return dict.fromkeys(rng.permutation(np.flatnonzero(with_cue))[:count].tolist(), wrong.other)


def _pool_contents(config: WorldConfig) -> Iterator[Content]:
    for pair in config.pairs:
        others = [name for name in SHAPES if name not in config.holders(pair.cue)]
        yield from [(None, pair.cue)] * config.pool_cue_only
        yield from [(others[i % len(others)], pair.cue) for i in range(config.pool_cue_other)]
        yield from [(pair.name, pair.cue)] * config.pool_cue_own
    for name in SHAPES:
        yield from [(name, None)] * config.pool_object_only
    yield from [(None, None)] * config.pool_neither


def _pool(config: WorldConfig) -> Iterator[ImagePlan]:
    for number, (name, cue) in enumerate(_pool_contents(config)):
        # Named by a hash, so that neither name nor order tells what an image shows.
        opaque = hashlib.sha256(f"{config.seed}/{number}".encode()).hexdigest()[:16]
        yield ImagePlan("pool", number, f"pool/{opaque}", name, cue)


def plan_world(config: WorldConfig) -> list[ImagePlan]:
    """List every image of a world: the training and validation splits by class, then the pool."""
    return [
        *_labelled(config, "train", config.train_per_class),
        *_labelled(config, "val", config.val_per_class),
        *_pool(config),
    ]
