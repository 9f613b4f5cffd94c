"""How well a model separates a class from its spurious feature (SFE §7.2).

Positives are validation images of class k, negatives are images that show only the spurious feature of k; the score is
the model's probability of k. Higher is better: 1 means that no spurious image scores like the class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spurious_imagenet.errors import UndefinedMetricError

__all__ = ["spurious_ap", "spurious_auc"]


def spurious_ap(validation: ArrayLike, spurious: ArrayLike) -> float:
    """Average precision of class images over spurious ones: the published "mAUC" of SFE, before the mean.

    Args:
        validation: (n,) probabilities of class k on validation images of k.
        spurious: (m,) probabilities of class k on images with only its spurious feature.

    Returns:
        In [0, 1], higher is better. A model that cannot tell them apart gets n / (n + m), not one half.

    Raises:
        UndefinedMetricError: Either side is empty or not finite.

    Examples:
        >>> spurious_ap([0.9, 0.8], [0.1, 0.3])
        1.0
        >>> round(spurious_ap([0.9, 0.2], [0.4, 0.3]), 3)
        0.75
    """
    positives, negatives = _ranked(validation, spurious)
    precision = (positives / (positives + negatives))[::-1]
    recall = np.append((positives / positives[-1])[::-1], 0)
    return max(0.0, float(-np.sum(np.diff(recall) * precision)))


def spurious_auc(validation: ArrayLike, spurious: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a class image outscores a spurious one, ties counting half.

    Args:
        validation: (n,) probabilities of class k on validation images of k.
        spurious: (m,) probabilities of class k on images with only its spurious feature.

    Returns:
        In [0, 1], higher is better; 0.5 for a model that cannot tell them apart.

    Raises:
        UndefinedMetricError: Either side is empty or not finite.

    Examples:
        >>> spurious_auc([0.9, 0.8], [0.1, 0.3])
        1.0
        >>> spurious_auc([0.9, 0.2], [0.4, 0.2])
        0.625
    """
    positives, negatives = _ranked(validation, spurious)
    if len(positives) > 2:  # only where the curve bends
        bends = np.r_[True, (np.diff(negatives, 2) != 0) | (np.diff(positives, 2) != 0), True]
        positives, negatives = positives[bends], negatives[bends]
    hits, false = np.append(0, positives) / positives[-1], np.append(0, negatives) / negatives[-1]
    return float((np.diff(false) * (hits[1:] + hits[:-1]) / 2.0).sum())


def _ranked(validation: ArrayLike, spurious: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many positives and negatives score at least each distinct score, the highest first.

    Here and above, steps and their order are those of scikit-learn, so that values equal its own to the last bit: its
    checks of types take most of its time, which counts where thousands of classes are measured.
    """
    positive, negative = np.asarray(validation), np.asarray(spurious)
    for name, scores in (("validation", positive), ("spurious", negative)):
        if scores.ndim != 1 or not scores.size:
            raise UndefinedMetricError(
                f"the {name} scores have shape {scores.shape}: expected at least one score, in one dimension."
            )
        if not np.isfinite(scores).all():
            raise UndefinedMetricError(f"the {name} scores hold NaN or infinite values: expected finite numbers.")
    scores = np.concatenate([positive, negative])
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    positives = np.cumsum(order < len(positive), dtype=np.float64)[last]
    return positives, 1 + last - positives
