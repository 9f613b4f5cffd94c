"""How well a model separates a class from its spurious feature (SFE §7.2).

Positives are validation images of class k, negatives are images that show only the spurious feature of k; the score is
the model's probability of k. Higher is better: 1 means that no spurious image scores like the class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

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
    """
    labels, scores = _labelled(validation, spurious)
    return float(average_precision_score(labels, scores))


def spurious_auc(validation: ArrayLike, spurious: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a class image outscores a spurious one, ties counting half.

    Args:
        validation: (n,) probabilities of class k on validation images of k.
        spurious: (m,) probabilities of class k on images with only its spurious feature.

    Returns:
        In [0, 1], higher is better; 0.5 for a model that cannot tell them apart.

    Raises:
        UndefinedMetricError: Either side is empty or not finite.
    """
    labels, scores = _labelled(validation, spurious)
    return float(roc_auc_score(labels, scores))


def _labelled(validation: ArrayLike, spurious: ArrayLike) -> tuple[NDArray[np.int8], NDArray[Any]]:
    positive, negative = np.asarray(validation), np.asarray(spurious)
    for name, scores in (("validation", positive), ("spurious", negative)):
        if scores.ndim != 1 or not scores.size:
            raise UndefinedMetricError(
                f"the {name} scores have shape {scores.shape}: expected at least one score, in one dimension."
            )
        if not np.isfinite(scores).all():
            raise UndefinedMetricError(f"the {name} scores hold NaN or infinite values: expected finite numbers.")
    labels = np.concatenate([np.ones(len(positive), np.int8), np.zeros(len(negative), np.int8)])
    return labels, np.concatenate([positive, negative])
