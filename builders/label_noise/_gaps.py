"""Negative gaps: classes that models recognise worse where their spurious features are (SR section 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_counts, bootstrap_mean, class_rng
from spurious_imagenet.benchmark.metrics.gaps import top_and_bottom_k
from spurious_imagenet.benchmark.metrics.intervals import interval
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.builders.label_noise._votes import ModelVotes
from spurious_imagenet.records import Record


class Absorbed(Record):
    """A class that images of another one are taken for."""

    class_id: str
    class_name: str
    share: float
    """Share of the images, mean over models, that are classified as it."""


class MeanGap(Record):
    """The spurious gap of a class, mean over models, and where its images of high spuriosity go."""

    class_id: str
    class_name: str
    images: int
    accuracy_high: float
    """Accuracy on the k images of highest spuriosity, mean over models."""
    accuracy_low: float
    gap: float
    """``accuracy_high - accuracy_low``, in [-1, 1]; below 0 the class is recognised worse with its cues."""
    interval: Interval
    """95 %: images resampled, alike for all models."""
    models: dict[str, float]
    """Model -> its gap."""
    absorbed_top_k: tuple[Absorbed, ...]
    """Other classes that the k images of highest spuriosity are taken for, the most frequent first."""
    absorbed_top_tenth: tuple[Absorbed, ...]
    """The same of the tenth of highest spuriosity."""

    @property
    def negative(self) -> bool:
        """Whether the gap is below 0."""
        return self.gap < 0

    @property
    def absorbing(self) -> Absorbed | None:
        """The class that takes most of the tenth of highest spuriosity, if any does."""
        return self.absorbed_top_tenth[0] if self.absorbed_top_tenth else None


def mean_gaps(
    images: pd.DataFrame,
    votes: ModelVotes,
    names: Mapping[str, str],
    *,
    k: int = 10,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[tuple[MeanGap, ...], dict[str, int]]:
    """Measure each class's spurious gap, mean over models.

    Args:
        images: n rows of rankings.
        votes: What the models say of them.
        names: Class id -> name; a class without one keeps its id.
        k: Images at either end.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap; the same draws as those of one model's gaps.

    Returns:
        The classes' gaps, the most negative first; and the images of each class with fewer than 2 k.
    """
    gaps, refused = [], {}
    class_ids = images["class_id"].to_numpy(dtype=str)
    for class_id in np.unique(class_ids):
        rows = np.flatnonzero(class_ids == class_id)
        if len(rows) < 2 * k:
            refused[str(class_id)] = len(rows)
            continue
        gaps.append(_gap_of(images.iloc[rows], _of(votes, rows), names, k, resamples, seed))
    return tuple(sorted(gaps, key=lambda gap: (gap.gap, gap.class_id))), refused


def _of(votes: ModelVotes, rows: NDArray[np.intp]) -> ModelVotes:
    return ModelVotes(votes.models, votes.predicted[rows], votes.log_odds[rows])


def _gap_of(
    images: pd.DataFrame, votes: ModelVotes, names: Mapping[str, str], k: int, resamples: int, seed: int
) -> MeanGap:
    class_id = str(images["class_id"].iloc[0])
    high, low = top_and_bottom_k(
        images["rank"].to_numpy(), images["sha256"].to_numpy(dtype=str), k, f"class {class_id}"
    )
    correct = (votes.predicted == class_id).astype(np.float64)
    draws = [
        bootstrap_mean(correct[side].mean(axis=1), bootstrap_counts(k, resamples, class_rng(seed, class_id, number)))
        for side, number in ((high, 2), (low, 3))
    ]
    of_high, of_low = float(correct[high].mean()), float(correct[low].mean())
    per_model = correct[high].mean(axis=0) - correct[low].mean(axis=0)
    tenth = np.flatnonzero(images["percentile"].to_numpy(dtype=np.float64) > 0.9)
    return MeanGap(
        class_id=class_id,
        class_name=names.get(class_id, class_id),
        images=len(images),
        accuracy_high=of_high,
        accuracy_low=of_low,
        gap=of_high - of_low,
        interval=interval(draws[0] - draws[1]),
        models={model: float(gap) for model, gap in zip(votes.models, per_model, strict=True)},
        absorbed_top_k=_absorbed(votes.predicted[high], class_id, names),
        absorbed_top_tenth=_absorbed(votes.predicted[tenth], class_id, names),
    )


def _absorbed(predicted: NDArray[np.object_], class_id: str, names: Mapping[str, str]) -> tuple[Absorbed, ...]:
    said: Iterable[str] = predicted.ravel().tolist()
    counts = Counter(c for c in said if c != class_id)
    return tuple(
        Absorbed(class_id=c, class_name=names.get(c, c), share=n / predicted.size)
        for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
