"""From per-image predictions to what a record says of classes, concepts and the whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics import spurious_ap, spurious_auc
from spurious_imagenet.benchmark.metrics.bootstrap import (
    bootstrap_ap,
    bootstrap_auc,
    bootstrap_counts,
    bootstrap_mean,
    class_rng,
    interval,
    mean_over_classes,
)
from spurious_imagenet.benchmark.predictions import Predictions
from spurious_imagenet.benchmark.record import ClassRecord, Interval, Means

__all__ = ["Summary", "summarise"]

Floats = NDArray[np.float64]

_VALIDATION, _SPURIOUS, _CLASSES = 0, 1, 4  # sides of `class_rng`; a comparison of models draws the same


@dataclass(frozen=True)
class Summary:
    """What a record says in numbers; see :class:`~spurious_imagenet.benchmark.record.EvalRecord`."""

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
    table = predictions.table.assign(correct=predictions.correct)
    validation, spurious = (
        {str(class_id): rows for class_id, rows in table[table["side"] == side].groupby("class_id")}
        for side in ("validation", "spurious")
    )
    none = table.iloc[:0]
    draw = partial(_Sample.draw, resamples=resamples, seed=seed)
    classes, concepts, resampled = [], [], []
    for class_id, name in sorted(class_names.items()):
        shown = draw(validation.get(class_id, none), class_id, _VALIDATION)
        cues = spurious.get(class_id, none)
        record, values = _measure(shown, draw(cues, class_id, _SPURIOUS), class_id, name, None)
        classes.append(record)
        resampled.append(values)
        for concept_id, rows in cues.groupby("concept_id"):
            concept = str(concept_id)
            record, _ = _measure(shown, draw(rows, concept, _SPURIOUS), class_id, name, concept)
            concepts.append(record)
    accuracy, accuracy_interval, images = _accuracy(validation, resamples, seed)
    return Summary(
        tuple(classes),
        tuple(concepts),
        Means(**{field: float(np.mean([getattr(c, field) for c in classes])) for field in Means.model_fields}),
        _mean_intervals(resampled, seed),
        accuracy,
        accuracy_interval,
        images,
    )


@dataclass(frozen=True)
class _Sample:
    """The images of one side of a class or concept, and how often each is in each resample."""

    probability: Floats
    correct: Floats
    counts: NDArray[np.int32]

    @classmethod
    def draw(cls, rows: pd.DataFrame, group: str, side: int, *, resamples: int, seed: int) -> _Sample:
        counts = bootstrap_counts(len(rows), resamples, class_rng(seed, group, side))
        return cls(rows["probability"].to_numpy(np.float64), rows["correct"].to_numpy(np.float64), counts)


def _measure(
    validation: _Sample, spurious: _Sample, class_id: str, class_name: str, concept_id: str | None
) -> tuple[ClassRecord, dict[str, Floats]]:
    v, s = validation.probability, spurious.probability
    resampled = {
        "spurious_ap": bootstrap_ap(v, s, validation.counts, spurious.counts),
        "spurious_auc": bootstrap_auc(v, s, validation.counts, spurious.counts),
        "validation_probability": bootstrap_mean(v, validation.counts),
        "spurious_probability": bootstrap_mean(s, spurious.counts),
        "validation_predicted": bootstrap_mean(validation.correct, validation.counts),
        "spurious_predicted": bootstrap_mean(spurious.correct, spurious.counts),
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
        intervals={field: interval(values) for field, values in resampled.items()},
    )
    return record, resampled


def _mean_intervals(classes: list[dict[str, Floats]], seed: int) -> dict[str, Interval]:
    """Resample classes, too, the same ones for every field and every model."""
    return {
        field: interval(
            mean_over_classes(np.stack([values[field] for values in classes]), class_rng(seed, "", _CLASSES))
        )
        for field in classes[0]
    }


def _accuracy(validation: dict[str, pd.DataFrame], resamples: int, seed: int) -> tuple[float, Interval, int]:
    """Return top-1 accuracy over all images, its interval (images resampled within their classes), and their number."""
    right, images = np.zeros(resamples), 0
    total = 0
    for class_id, rows in validation.items():
        correct = rows["correct"].to_numpy(np.float64)
        images += len(correct)
        total += int(correct.sum())
        if correct.all() or not correct.any():  # every resample gives the same
            right += correct.sum()
        else:
            counts = bootstrap_counts(len(correct), resamples, class_rng(seed, class_id, _VALIDATION))
            right += bootstrap_mean(correct, counts) * len(correct)
    return total / images, interval(right / images), images
