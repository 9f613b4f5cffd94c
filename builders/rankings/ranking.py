"""Ranking the images of one class, and cutting its ranks into ranked splits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.concepts import ConceptBank
from spurious_imagenet.benchmark.metrics.spuriosity import spuriosity, storage_noise, varying_concepts
from spurious_imagenet.builders.rankings.images import ClassImages

__all__ = ["RankedClass", "rank_class", "ranked_splits"]

_BLOCK = 4096


class RankedClass(NamedTuple):
    """The ranks of a class's images.

    Attributes:
        table: One row an image by ascending rank, columns of ``RANKINGS_SCHEMA`` that depend on the images.
        constant: Concepts that do not vary over the class and contribute 0.
    """

    table: pd.DataFrame
    constant: int


def rank_class(images: ClassImages, bank: ConceptBank) -> RankedClass:
    """Rank images by their spuriosity (SR section 4.1); equal ones by hash.

    Args:
        images: The images, ordered by hash.
        bank: The concepts whose mean z-score is the spuriosity.

    Returns:
        The ranks; ``constant == len(bank)`` says that they mean nothing.
    """
    scores = _scores(images.features, bank)
    noise = storage_noise(images.features, bank.directions)
    values = spuriosity(scores, noise=noise)
    order = np.argsort(values, kind="stable")
    count = len(order)
    table = pd.DataFrame(
        {
            "name": [images.names[i] for i in order],
            "sha256": [images.sha256[i] for i in order],
            "spuriosity": values[order],
            "rank": np.arange(1, count + 1, dtype=np.int32),
            "of": np.int32(count),
            "percentile": (np.arange(count) + 0.5) / count,
            "concept_scores": list(scores[order].astype(np.float64)),
        }
    )
    return RankedClass(table, int((~varying_concepts(scores, noise=noise)).sum()))


def ranked_splits(count: int, ends: int) -> list[str | None]:
    """Name the ranked split of each rank of a class.

    ``low`` are the lowest ``ends`` ranks and ``high`` the highest. ``middle`` are the ``ends`` ranks around the median
    (the lower ones where two choices are equally near); without room for all of them between the ends there is none.

    Args:
        count: Images of the class, at least ``2 * ends``.
        ends: Images of each ranked split.

    Returns:
        ``count`` names by ascending rank, None outside of the splits.
    """
    names: list[str | None] = [None] * count
    if count >= 3 * ends:
        start = (count - ends) // 2
        names[start : start + ends] = ["middle"] * ends
    names[:ends] = ["low"] * ends
    names[count - ends :] = ["high"] * ends
    return names


def _scores(features: NDArray[np.float16], bank: ConceptBank) -> NDArray[np.float32]:
    blocks = [bank.score(features[start : start + _BLOCK]) for start in range(0, len(features), _BLOCK)]
    return np.concatenate(blocks)
