"""Scores on the images that would be in the dataset had some of the models that chose them had no vote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_ap, bootstrap_auc
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.leaderboard.scoring.score import LeftOutModels

Mask = NDArray[np.bool_]


class SelectionVotes:
    """Which models took each spurious image for its class.

    An image is kept without some models if the others that took it for its class are still ``min_agree``. That undoes
    their votes, not the ranking by the scorer's α, which chose whom the others were asked about.

    Args:
        spurious: Spurious images of a version, with the column ``models``.
        min_agree: Votes that an image needs.
    """

    def __init__(self, spurious: pd.DataFrame, min_agree: int) -> None:
        self.min_agree = min_agree
        voters = [_voters(*row) for row in zip(spurious["class_id"], spurious["models"], strict=True)]
        self.models = sorted(set().union(*voters))
        self._votes: Mask = np.array([[m in found for m in self.models] for found in voters], dtype=bool)

    def kept(self, miners: Iterable[str]) -> Mask:
        """Return (N,) whether each image has the votes it needs without those of some models."""
        left_out = set(miners)
        others = [i for i, model in enumerate(self.models) if model not in left_out]
        return np.asarray(self._votes[:, others].sum(axis=1) >= self.min_agree)

    def scores(self, predictions: Predictions, without: Sequence[tuple[str, ...]]) -> tuple[LeftOutModels, ...]:
        """Score predictions without each of several sets of models; classes that keep no image drop out of the means.

        Args:
            predictions: Their spurious rows are in the order of the images of these votes.
            without: Names of the models of each set.
        """
        kept = np.array([self.kept(miners) for miners in without]).reshape(len(without), len(self._votes))
        spurious, validation = predictions.of("spurious"), predictions.of("validation")
        values = np.full((2, len(without), spurious["class_id"].nunique()), np.nan)
        shown = _by_class(validation)
        for place, (class_id, rows) in enumerate(sorted(_rows(spurious).items())):
            some = kept[:, rows].any(axis=1)
            v, s = shown[class_id], spurious["probability"].to_numpy(np.float64)[rows]
            # A set of images is a resample in which each is once or not at all.
            counts = np.ones((int(some.sum()), len(v)), np.int32), kept[:, rows][some].astype(np.int32)
            if some.any():
                values[0, some, place] = bootstrap_ap(v, s, *counts)
                values[1, some, place] = bootstrap_auc(v, s, *counts)
        return tuple(
            LeftOutModels(
                miners=miners,
                spurious_images=int(mask.sum()),
                classes=int(np.isfinite(ap).sum()),
                spurious_ap=_mean(ap),
                spurious_auc=_mean(auc),
            )
            for miners, mask, ap, auc in zip(without, kept, *values, strict=True)
        )


def _voters(class_id: str, opinions: Iterable[dict[str, object]] | None) -> set[str]:
    return {str(o["model"]) for o in (() if opinions is None else opinions) if o["class_id"] == class_id}


def _rows(images: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    ids = images["class_id"].to_numpy()
    return {str(class_id): np.asarray(rows) for class_id, rows in pd.Series(ids).groupby(ids).indices.items()}


def _by_class(images: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    probability = images["probability"].to_numpy(np.float64)
    return {class_id: probability[rows] for class_id, rows in _rows(images).items()}


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else None
