"""Evaluating a model on a dataset of spurious images (SFE §7.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import nn

from spurious_imagenet.benchmark.images import CustomTransform, Preprocess, Protocol
from spurious_imagenet.benchmark.inference import ImageRunner, softmax
from spurious_imagenet.benchmark.metrics import spurious_ap, spurious_auc
from spurious_imagenet.benchmark.models import Classifier, LabelSpace, imagenet_label_space, load_classifier
from spurious_imagenet.benchmark.record import ClassRecord, EvalRecord, Means
from spurious_imagenet.benchmark.spurious_dataset import SpuriousDataset
from spurious_imagenet.benchmark.validation import validation_images
from spurious_imagenet.errors import ConfigError, DataError, ModelError

__all__ = ["evaluate"]

Transform = Preprocess | Callable[[Any], torch.Tensor]


def evaluate(
    model: str | Classifier | nn.Module,
    dataset: str | Path | Any,
    val: str | Path,
    *,
    protocol: Protocol | Literal["paper", "standard"] = Protocol.PAPER,
    transform: Transform | None = None,
    labels: LabelSpace | None = None,
    image_size: int | None = None,
    device: str = "auto",
    backend: str = "auto",
    workers: int | None = None,
) -> EvalRecord:
    """Measure how much a model relies on the spurious features of a dataset.

    Args:
        model: A model spec, a Classifier, or any ``torch.nn.Module`` from normalised images to logits.
        dataset: A published dataset: folder, Hub id or ``datasets.Dataset``.
        val: Validation images of the same classes: shards, or a folder with one sub-folder a class.
        protocol: How images are prepared; see :class:`~spurious_imagenet.benchmark.images.Protocol`.
        transform: For a bare module: its transform. A callable can only be used with ``protocol="standard"``.
        labels: For a bare module: its label space; ImageNet-1k where left out.
        image_size: For a spec: input side that overrides the model's own, px.
        device: Where to run.
        backend: How to run; see :data:`~spurious_imagenet.benchmark.models.BACKENDS`.
        workers: Decoding threads.

    Returns:
        Per-class and per-concept values and their means; higher ``spurious_ap`` and ``spurious_auc`` are better.

    Raises:
        ConfigError: The protocol or the transform cannot be used.
        DataError: A class of the dataset has no validation images, or a spurious image cannot be read.
        ModelError: The model cannot be loaded or lacks a class of the dataset.
    """
    chosen = Protocol(protocol)
    classifier = _as_classifier(model, transform, labels, image_size)
    data = SpuriousDataset(dataset)
    missing = [c for c in data.class_names if c not in classifier.labels]
    if missing:
        raise ModelError(
            f"{classifier.spec} has no output for {len(missing)} classes of the dataset, such as {missing[0]!r}: its "
            f"label space is {classifier.labels.name!r}."
        )
    transforms = [classifier.preprocess.for_protocol(chosen, side) for side in ("validation", "spurious")]
    runner = ImageRunner(
        classifier.backend(backend, device=device, workers=workers), classifier.preprocess, workers=workers
    )
    validation, rejects = _score_validation(runner, transforms[0], str(val), data, classifier)
    spurious = _score_spurious(runner, transforms[1], data, classifier)
    classes, concepts = _records(data, validation, spurious)
    return EvalRecord(
        code_version=version("spurious-imagenet"),
        model=classifier.spec,
        weights_sha256=classifier.weights_sha256,
        label_space=classifier.labels.name,
        protocol=chosen,
        validation_transform=_describe(transforms[0]),
        spurious_transform=_describe(transforms[1]),
        backend=runner.backend.name,
        dataset=data.name,
        dataset_sha256=data.sha256(),
        validation=str(val),
        classes=tuple(classes),
        concepts=tuple(concepts),
        mean=_means(classes),
        validation_rejects=tuple(rejects),
    )


def _as_classifier(
    model: str | Classifier | nn.Module, transform: Transform | None, labels: LabelSpace | None, image_size: int | None
) -> Classifier:
    if isinstance(model, str):
        return load_classifier(model, image_size=image_size)
    if isinstance(model, Classifier):
        return model
    if transform is None:
        raise ConfigError("a bare torch.nn.Module needs its transform: pass transform=, a Preprocess or a callable.")
    return Classifier.from_module(model, transform, labels or imagenet_label_space())


def _describe(transform: Preprocess | CustomTransform) -> dict[str, Any]:
    if isinstance(transform, BaseModel):
        return transform.model_dump(mode="json")
    return {"custom": " ".join(str(transform.transform).split())[:500], "size": transform.size}


@dataclass(frozen=True)
class _Scores:
    """Per image: its group, the probability of its class, and whether it was classified as it."""

    groups: list[tuple[str, str]]
    probability: NDArray[np.float64]
    predicted: NDArray[np.bool_]

    def of(self, class_id: str, concept: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        mask = np.array([g[0] == class_id and concept in {None, g[1]} for g in self.groups], bool)
        return self.probability[mask], self.predicted[mask]


def _score(
    runner: ImageRunner,
    transform: Preprocess | CustomTransform,
    images: Iterable[tuple[str, str, Callable[[], bytes]]],
    labels: LabelSpace,
) -> tuple[_Scores, list[tuple[str, str]]]:
    """Score (class id, second name, reader) triples; return the scores and (second name, reason) of rejects."""
    seen: list[tuple[str, str]] = []

    def readers() -> Iterable[Callable[[], bytes]]:
        for class_id, name, read in images:
            seen.append((class_id, name))
            yield read

    groups, probabilities, predictions, rejects = [], [], [], []
    for output in runner.run(readers(), transform):
        rejects += [(seen[i][1], reason) for i, reason in output.rejects]
        if not len(output.index):
            continue
        if not np.isfinite(output.logits).all():
            raise ModelError("the model gave NaN or infinite logits: expected finite numbers.")
        probability = softmax(output.logits)
        target = np.array([labels.index(seen[i][0]) for i in output.index])
        probabilities.append(probability[np.arange(len(target)), target])
        predictions.append(output.logits.argmax(axis=1) == target)
        groups += [seen[i] for i in output.index]
    if not groups:
        return _Scores([], np.zeros(0), np.zeros(0, bool)), rejects
    return _Scores(groups, np.concatenate(probabilities), np.concatenate(predictions)), rejects


def _score_validation(
    runner: ImageRunner, transform: Any, val: str, data: SpuriousDataset, classifier: Classifier
) -> tuple[_Scores, list[tuple[str, str]]]:
    unusable: list[tuple[str, str]] = []
    found = validation_images(val, data.class_names, classifier.labels, unusable)
    scores, rejects = _score(runner, transform, ((i.class_id, i.name, i.read) for i in found), classifier.labels)
    have = {class_id for class_id, _ in scores.groups}
    missing = [c for c in data.class_names if c not in have]
    if missing:
        raise DataError(f"{val} has no readable validation image of {len(missing)} classes, such as {missing[0]!r}.")
    return scores, unusable + rejects


def _score_spurious(runner: ImageRunner, transform: Any, data: SpuriousDataset, classifier: Classifier) -> _Scores:
    images = ((i.class_id, i.concept_id, partial(bytes, i.data)) for i in data)
    scores, rejects = _score(runner, transform, images, classifier.labels)
    if rejects:
        concept, reason = rejects[0]
        raise DataError(
            f"{len(rejects)} images of dataset {data.name} cannot be read, the first of concept {concept!r}: {reason}."
        )
    return scores


def _records(
    data: SpuriousDataset, validation: _Scores, spurious: _Scores
) -> tuple[list[ClassRecord], list[ClassRecord]]:
    classes = [
        _record(data, class_id, None, validation.of(class_id), spurious.of(class_id)) for class_id in data.class_names
    ]
    concepts = [
        _record(data, class_id, concept, validation.of(class_id), spurious.of(class_id, concept))
        for class_id, concept in sorted(set(data.concepts))
    ]
    return classes, concepts


def _record(
    data: SpuriousDataset,
    class_id: str,
    concept_id: str | None,
    validation: tuple[NDArray[np.float64], NDArray[np.bool_]],
    spurious: tuple[NDArray[np.float64], NDArray[np.bool_]],
) -> ClassRecord:
    positives, negatives = len(validation[0]), len(spurious[0])
    return ClassRecord(
        class_id=class_id,
        class_name=data.class_names[class_id],
        concept_id=concept_id,
        validation_images=positives,
        spurious_images=negatives,
        spurious_ap=spurious_ap(validation[0], spurious[0]),
        chance_ap=positives / (positives + negatives),
        spurious_auc=spurious_auc(validation[0], spurious[0]),
        validation_probability=float(validation[0].mean()),
        spurious_probability=float(spurious[0].mean()),
        validation_predicted=float(validation[1].mean()),
        spurious_predicted=float(spurious[1].mean()),
    )


def _means(classes: list[ClassRecord]) -> Means:
    return Means(**{name: float(np.mean([getattr(c, name) for c in classes])) for name in Means.model_fields})
