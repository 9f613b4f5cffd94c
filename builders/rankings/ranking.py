"""Ranking the images of one class, and cutting its ranks into ranked splits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.spuriosity import spuriosity, storage_noise, varying_concepts
from spurious_imagenet.builders.rankings.images import ClassImages
from spurious_imagenet.concepts import ConceptBank

__all__ = ["RankedClass", "control_concepts", "rank_class", "ranked_splits"]

_BLOCK = 4096
_CONTROL_CONCEPTS = 20


class RankedClass(NamedTuple):
    """The ranks of a class's images.

    Attributes:
        table: One row per image by ascending rank, columns of ``RANKINGS_SCHEMA`` that depend on the images.
        varying: (M,) bool, whether each concept varies over the class; the others contribute 0.
    """

    table: pd.DataFrame
    varying: NDArray[np.bool_]


def rank_class(images: ClassImages, bank: ConceptBank) -> RankedClass:
    """Rank images by their spuriosity (SR section 4.1); equal ones by hash.

    Args:
        images: The images, ordered by hash.
        bank: The concepts whose mean z-score is the spuriosity.

    Returns:
        The ranks; they mean nothing where no concept varies.
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
    return RankedClass(table, varying_concepts(scores, noise=noise))


def control_concepts(class_ids: NDArray[np.str_], varying: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Choose the concepts by each of which a class without one is ranked too.

    One of each class, since those of one class resemble each other: its first that varies; of more than 20 classes 20,
    at even distances in the order of their ids.

    Args:
        class_ids: (M,) class of each concept.
        varying: (M,) whether each varies over the class that is ranked.

    Returns:
        Places of the chosen concepts, ascending.
    """
    rows = np.flatnonzero(varying)
    _, first = np.unique(class_ids[rows], return_index=True)
    places = np.linspace(0, len(first) - 1, min(len(first), _CONTROL_CONCEPTS)).round().astype(np.int64)
    return np.sort(rows[first[places]])


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
