"""What a board shows of a concept: numbers and images, before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.features.labelled import Indices, TrainingIndex
from spurious_imagenet.images import DecodeLimits, Preprocess, decode_again
from spurious_imagenet.shards import ShardImages, StoredImage

#: Percentiles of the class's scores that a board names.
PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)

_BINS = 40
_COLUMNS = ("key", "offset", "size", "sha256")

Pixels = NDArray[np.uint8]
Heatmap = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Example:
    """One training image of the class.

    Attributes:
        key: Its key in its shard.
        pixels: (S, S, 3) uint8, as the model saw it.
        heatmap: (S, S) float32 in [0, 1], GradCAM of the concept's score.
        score: The concept's score.
        confidence: Softmax probability of the class.
        predicted: Name of the class that the model assigns instead; None where it assigns the class itself.
        attacked: (S, S, 3) uint8, the image changed so that the score rises; None where there is none.
    """

    key: str
    pixels: Pixels
    heatmap: Heatmap
    score: float
    confidence: float
    predicted: str | None
    attacked: Pixels | None = None


@dataclass(frozen=True, eq=False)
class Prototype:
    """The concept's NPFV.

    Attributes:
        pixels: (S, S, 3) uint8.
        heatmap: (S, S) float32 in [0, 1].
        score: The concept's score of it.
        confidence: Softmax probability of the class.
    """

    pixels: Pixels
    heatmap: Heatmap
    score: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Histogram:
    """How a concept's scores are spread over the class's training images.

    Attributes:
        counts: (B,) images a bin.
        edges: (B + 1,) ascending; the last bin includes its upper edge.
        percentiles: Score below which so many per cent of the images are, linearly interpolated, by
            :data:`PERCENTILES`.
    """

    counts: tuple[int, ...]
    edges: tuple[float, ...]
    percentiles: dict[int, float]


@dataclass(frozen=True, eq=False)
class Board:
    """All that one board shows.

    Attributes:
        concept: The concept's row of the bank.
        most: The class's training images of highest score, highest first.
        least: Those of lowest score, lowest first.
        scores: Spread of the scores.
        npfv: The concept's NPFV, if there is one.
        images: Training images of the class.
    """

    concept: dict[str, Any]
    most: tuple[Example, ...]
    least: tuple[Example, ...]
    scores: Histogram
    npfv: Prototype | None
    images: int


def histogram(scores: NDArray[np.floating[Any]]) -> Histogram:
    """Count scores in equal bins from the lowest to the highest.

    Args:
        scores: (n,) finite scores, n of at least 1.
    """
    counts, edges = np.histogram(scores.astype(np.float64), bins=_BINS)
    values = np.percentile(scores.astype(np.float64), PERCENTILES)
    return Histogram(
        tuple(int(c) for c in counts),
        tuple(float(e) for e in edges),
        dict(zip(PERCENTILES, (float(v) for v in values), strict=True)),
    )


def top_and_bottom_k(scores: NDArray[np.floating[Any]], count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find the highest and the lowest scores; no image is among both.

    Args:
        scores: (n,) scores.
        count: How many of either; fewer where n is less than twice as many.

    Returns:
        Places of the highest, highest first, and of the lowest, lowest first; ties by place.
    """
    highest = np.argsort(-scores, kind="stable")[: min(count, (len(scores) + 1) // 2)]
    rest = np.setdiff1d(np.arange(len(scores)), highest)
    lowest = rest[np.argsort(scores[rest], kind="stable")][:count]
    return highest, lowest


def read_pixels(
    index: TrainingIndex,
    images: Indices,
    preprocess: Preprocess,
    limits: DecodeLimits,
    *,
    shards: tuple[str, ...] = (),
    allow_pipe: bool = False,
) -> tuple[list[str], Pixels]:
    """Read images of the shards as the model saw them.

    Args:
        index: The store's images.
        images: (n,) ascending ids.
        preprocess: The transform that the store's features were made with.
        limits: The image sizes that were refused then.
        shards: Where the shards are now, if they are not where the store says.
        allow_pipe: Run the command of a ``pipe:`` address.

    Returns:
        Their keys, and (n, S, S, 3) uint8 pixels.

    Raises:
        DataError: An image is no longer the one that the features were made of.
    """
    keys: list[str] = []
    pixels = np.empty((len(images), preprocess.size, preprocess.size, 3), np.uint8)
    for part, _, rows in index.by_part(images):
        rows_of_part = part.rows(_COLUMNS).take(rows).to_pylist()
        found = [StoredImage(r["key"], r["offset"], r["size"], r["sha256"].hex()) for r in rows_of_part]
        source = ShardImages(part.path, shards, allow_pipe=allow_pipe)
        for image, data in zip(found, source.read(part.shard, found), strict=True):
            pixels[len(keys)] = preprocess.apply(decode_again(data, limits, f"image {image.key} of {part.shard}"))
            keys.append(image.key)
    return keys, pixels


def evenly(images: Indices, count: int) -> Indices:
    """Take ``count`` of ascending ids, evenly spread; all of them where there are fewer."""
    places: Sequence[int] = sorted({int(i) for i in np.linspace(0, len(images) - 1, min(count, len(images))).round()})
    return images[list(places)]
