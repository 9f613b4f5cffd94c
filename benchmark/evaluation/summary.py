"""From per-image predictions to what a record says of classes, concepts and the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.evaluation.values import ClassRecord, Means
from spurious_imagenet.benchmark.metrics import spurious_ap, spurious_auc
from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_ap, bootstrap_auc, bootstrap_mean
from spurious_imagenet.benchmark.metrics.intervals import interval, intervals
from spurious_imagenet.benchmark.metrics.resamples import SPURIOUS, VALIDATION, BootstrapResamples
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.datasets.predictions import Predictions, Side

__all__ = ["Summary", "summarise", "summarise_resampled"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """What a record says in numbers; see :class:`~spurious_imagenet.benchmark.evaluation.record.EvalRecord`."""

    classes: tuple[ClassRecord, ...]
    concepts: tuple[ClassRecord, ...]
    mean: Means
    mean_intervals: dict[str, Interval]
    accuracy: float
    accuracy_interval: Interval
    accuracy_images: int


def summarise(predictions: Predictions, class_names: dict[str, str], resamples: int, seed: int) -> Summary:
    """Measure every class, every concept and the whole.

    Args:
        predictions: Rows of a class in the same order for every model that is to be compared.
        class_names: Classes that have spurious images, and what to call them.
        resamples: Bootstrap resamples of the intervals.
        seed: Of the resamples.

    Raises:
        UndefinedMetricError: A class lacks the images of one side.
    """
    return summarise_resampled(predictions, class_names, BootstrapResamples(resamples, seed))[0]


def summarise_resampled(
    predictions: Predictions, class_names: dict[str, str], draws: BootstrapResamples
) -> tuple[Summary, dict[str, Floats]]:
    """Measure as :func:`summarise` does, and return what its intervals are of.

    Returns:
        The summary, and field of :class:`~spurious_imagenet.benchmark.evaluation.values.Means` -> (resamples,) means
        over resampled images and classes; ``accuracy`` too.
    """
    images = _Images(predictions, draws)
    classes, concepts, per_class = [], [], []
    for class_id, name in sorted(class_names.items()):
        shown, cues = images.sample(VALIDATION, class_id), images.sample(SPURIOUS, class_id)
        shown_means = _means("validation", shown)
        record, values = _measure(shown, shown_means, cues, class_id, name, None)
        classes.append(record)
        per_class.append(values)
        for concept in images.concepts.get(class_id, ()):
            cues = images.sample(SPURIOUS, class_id, concept)
            record, _ = _measure(shown, shown_means, cues, class_id, name, concept)
            concepts.append(record)
    # Classes are resampled, too, the same ones for every field and every model.
    resampled = {f: draws.mean_over_classes(np.stack([values[f] for values in per_class])) for f in per_class[0]}
    mean_intervals = _intervals(resampled)
    accuracy, resampled["accuracy"], number = _accuracy(images, draws)
    mean = Means(**{field: float(np.mean([getattr(c, field) for c in classes])) for field in Means.model_fields})
    summary = Summary(
        tuple(classes),
        tuple(concepts),
        mean,
        mean_intervals,
        accuracy,
        interval(resampled["accuracy"]),
        number,
    )
    return summary, resampled


@dataclass(frozen=True)
class _Sample:
    """The images of one side of a class or concept, and how often each is in each resample."""

    probability: Floats
    correct: Floats
    counts: NDArray[Any]


class _Images:
    """The images of each class and concept."""

    def __init__(self, predictions: Predictions, draws: BootstrapResamples) -> None:
        table = predictions.table
        self._draws = draws
        self._probability = table["probability"].to_numpy(np.float64)
        self._correct = predictions.correct.astype(np.float64)
        sides, ids = table["side"].to_numpy(), table["class_id"].to_numpy()
        self._rows: dict[tuple[int, str, str | None], NDArray[np.int64]] = {}
        for side, name in ((VALIDATION, "validation"), (SPURIOUS, "spurious")):
            rows = np.flatnonzero(sides == name)
            for class_id, found in pd.Series(ids[rows]).groupby(ids[rows]).indices.items():
                self._rows[side, str(class_id), None] = rows[found]
        self.concepts: dict[str, list[str]] = {}
        spurious = table[sides == "spurious"]
        rows = np.flatnonzero(sides == "spurious")
        for (class_id, concept), found in sorted(spurious.groupby(["class_id", "concept_id"]).indices.items()):
            self.concepts.setdefault(str(class_id), []).append(str(concept))
            self._rows[SPURIOUS, str(class_id), str(concept)] = rows[found]

    def sample(self, side: int, class_id: str, concept: str | None = None) -> _Sample:
        rows = self._rows.get((side, class_id, concept), np.empty(0, np.int64))
        counts = self._draws.counts(len(rows), concept or class_id, side)
        return _Sample(self._probability[rows], self._correct[rows], counts)

    def validation(self) -> Iterator[tuple[str, Floats]]:
        """Yield every class that has validation images, and which of them are right."""
        for (side, class_id, _), rows in self._rows.items():
            if side == VALIDATION:
                yield class_id, self._correct[rows]


def _means(side: Side, sample: _Sample) -> dict[str, Floats]:
    return {
        f"{side}_probability": bootstrap_mean(sample.probability, sample.counts),
        f"{side}_predicted": bootstrap_mean(sample.correct, sample.counts),
    }


def _measure(
    validation: _Sample,
    validation_means: dict[str, Floats],
    spurious: _Sample,
    class_id: str,
    class_name: str,
    concept_id: str | None,
) -> tuple[ClassRecord, dict[str, Floats]]:
    v, s = validation.probability, spurious.probability
    resampled = {
        "spurious_ap": bootstrap_ap(v, s, validation.counts, spurious.counts),
        "spurious_auc": bootstrap_auc(v, s, validation.counts, spurious.counts),
        **validation_means,
        **_means("spurious", spurious),
    }
    record = ClassRecord(
        class_id=class_id,
        class_name=class_name,
        concept_id=concept_id,
        validation_images=len(v),
        spurious_images=len(s),
        spurious_ap=spurious_ap(v, s),
        chance_ap=len(v) / (len(v) + len(s)),
        spurious_auc=spurious_auc(v, s),
        validation_probability=float(v.mean()),
        spurious_probability=float(s.mean()),
        validation_predicted=float(validation.correct.mean()),
        spurious_predicted=float(spurious.correct.mean()),
        intervals=_intervals(resampled),
    )
    return record, resampled


def _intervals(resampled: dict[str, Floats]) -> dict[str, Interval]:
    return dict(zip(resampled, intervals(np.stack(list(resampled.values()))), strict=True))


def _accuracy(images: _Images, draws: BootstrapResamples) -> tuple[float, Floats, int]:
    """Return top-1 accuracy over all images, its resamples (images of a class among themselves), and their number."""
    right, number, total = np.zeros(draws.resamples), 0, 0
    for class_id, correct in images.validation():
        number += len(correct)
        total += int(correct.sum())
        if correct.all() or not correct.any():  # every resample gives the same
            right += correct.sum()
        else:
            right += bootstrap_mean(correct, draws.counts(len(correct), class_id, VALIDATION)) * len(correct)
    return total / number, right / number, number
