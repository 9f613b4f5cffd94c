"""Signs that a model was given the wrong labels or the wrong pixels, found before its numbers are believed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import CustomTransform
from spurious_imagenet.models import Classifier, LabelSpace

Indices = NDArray[np.int64]

# Fewer validation images say too little of an accuracy near chance.
_ENOUGH = 50
# Accuracy that labels give only where they are right, or fifty times chance where that is less.
_HIGH = 0.5
# No usual normalisation maps white beyond this; raw pixels go up to 255.
_NORMALISED = 16.0


def check_classes(wanted: Iterable[str], classifier: Classifier) -> None:
    """Refuse a model that lacks classes of a dataset.

    Raises:
        ModelError: It has no output for one of the class ids.
    """
    missing = [c for c in wanted if c not in classifier.labels]
    if missing:
        raise ModelError(
            f"{classifier.spec} has no output for {len(missing)} classes of the dataset, such as {missing[0]!r}: its "
            f"label space is {classifier.labels.name!r}."
        )


def check_transform(transform: CustomTransform, spec: str) -> None:
    """Refuse a transform that returns raw pixels.

    Raises:
        ModelError: It returns integers, or values from 0 up to far above those of a normalised image.
    """
    probe = np.zeros((256, 256, 3), np.uint8)
    probe[:, 128:] = 255
    made = transform.transform(Image.fromarray(probe))
    low, high = float(made.min()), float(made.max())
    if made.is_floating_point() and not (low >= 0 and high > _NORMALISED):
        return
    raise ModelError(
        f"the transform of {spec} returns {str(made.dtype).removeprefix('torch.')} values from {low:g} to {high:g} for "
        "a picture of black and white: expected the normalised float image that the network takes (scale to 0..1, then "
        "subtract the mean and divide by the standard deviation)."
    )


def check_labels(predictions: Predictions, labels: LabelSpace, spec: str) -> None:
    """Refuse a model whose outputs are its labels moved by one.

    That is so where its accuracy is no better than twice chance, but high once every label is moved by one.

    Raises:
        ModelError: The labels are off by one; the sentence gives both accuracies.
    """
    given, predicted = _indices(predictions, labels)
    if len(given) < _ENOUGH or not _near_chance(given, predicted, len(labels)):
        return
    accuracy = float(np.mean(given == predicted))
    moved = {shift: _accuracy_moved(given, predicted, len(labels), shift) for shift in (1, -1)}
    shift = max(moved, key=moved.__getitem__)
    # Where pairs of labels are swapped, half of the classes fit either way.
    if moved[shift] >= max(min(_HIGH, 50 / len(labels)), 5 * accuracy, 2 * moved[-shift]):
        raise ModelError(
            f"the labels of {spec} are off by one: {accuracy:.1%} of the validation images of class k are classified "
            f"as k, but {moved[shift]:.1%} as k{shift:+d} of the label space {labels.name!r}: expected the labels in "
            "the order of the model's outputs."
        )


def _accuracy_moved(given: Indices, predicted: Indices, classes: int, shift: int) -> float:
    inside = (given + shift >= 0) & (given + shift < classes)
    if len(np.unique(given[inside])) < 2:  # one class that is taken for its neighbour says nothing of the labels
        return 0.0
    return float(np.mean(given[inside] + shift == predicted[inside]))


def labels_remark(predictions: Predictions, labels: LabelSpace) -> str | None:
    """Return a sentence where the accuracy on the validation images is no better than chance, else None."""
    given, predicted = _indices(predictions, labels)
    if len(given) < _ENOUGH or not _near_chance(given, predicted, len(labels)):
        return None
    return (
        f"accuracy on the {len(given)} validation images is {np.mean(given == predicted):.1%}, where guessing among "
        f"{len(labels)} classes gives {1 / len(labels):.1%}: the labels or the preprocessing do not fit the model, or "
        "it has learnt nothing."
    )


def _indices(predictions: Predictions, labels: LabelSpace) -> tuple[Indices, Indices]:
    rows = predictions.of("validation")
    return (
        np.array([labels.index(c) for c in rows["class_id"]], np.int64),
        np.array([labels.index(c) for c in rows["predicted_id"]], np.int64),
    )


def _near_chance(given: Indices, predicted: Indices, classes: int) -> bool:
    """Tell whether the accuracy is below twice chance, and within three standard errors of chance."""
    chance = 1 / classes
    error = np.sqrt(chance * (1 - chance) / len(given))
    return float(np.mean(given == predicted)) < min(2 * chance, chance + 3 * float(error))
