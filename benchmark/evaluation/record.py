"""EvalRecord: what was evaluated, how, and what came out; the file that every later comparison reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import PrivateAttr

from spurious_imagenet.benchmark.metrics.values import CurvePoint, Interval
from spurious_imagenet.benchmark.mitigation.record import Mitigation
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import DataError
from spurious_imagenet.images import Protocol
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models.labels import of_classes
from spurious_imagenet.records import Record

__all__ = ["ClassGap", "ClassRecord", "EvalRecord", "GapRecord", "Means"]


class Means(Record):
    """What is measured of a class; or its means over classes, each class counting the same."""

    spurious_ap: float
    """Average precision, in [0, 1], higher is better."""
    chance_ap: float
    """Average precision of a model that cannot tell the two sides apart."""
    spurious_auc: float
    """ROC AUC, in [0, 1], higher is better; chance is 0.5."""
    validation_probability: float
    """Mean probability of the class on its validation images."""
    spurious_probability: float
    """Mean probability of the class on its spurious images; lower is better."""
    validation_predicted: float
    """Fraction of the validation images classified as the class (its accuracy)."""
    spurious_predicted: float
    """Fraction of the spurious images classified as the class; lower is better."""


class ClassRecord(Means):
    """One class, or one concept of it."""

    class_id: str
    class_name: str
    concept_id: str | None = None
    """Set in the per-concept list: the spurious images of this concept only."""
    validation_images: int
    spurious_images: int
    intervals: dict[str, Interval] = {}
    """Field of :class:`Means` -> interval, images resampled within each side."""


class ClassGap(Record):
    """The spurious gap of one class (SR section 4.2)."""

    class_id: str
    class_name: str
    control: bool
    """The class has no spurious concept and was ranked by single ones of other classes: what gap these give where there
    is no cue. Accuracies and gap are means over these rankings."""
    images: int
    accuracy_high: float
    """Accuracy on the k images of highest spuriosity."""
    accuracy_low: float
    gap: float
    """``accuracy_high - accuracy_low``, in [-1, 1]; 0 is best."""
    interval: Interval
    """Images resampled within the k highest and the k lowest; for a control, the concepts too."""


class GapRecord(Record):
    """The spurious gaps of one model; means are over the classes that are no controls, each counting the same."""

    rankings: str
    rankings_sha256: str
    """Hash over class, image hash and rank of every ranked image that was used."""
    split: str
    k: int
    gap: float
    gap_interval: Interval
    """Images resampled within each class's k highest and k lowest, and classes too."""
    pooled_gap: float
    """All images alike; equal to ``gap``, since every class gives exactly k on either side."""
    accuracy_high: float
    accuracy_low: float
    classes: tuple[ClassGap, ...]
    refused: dict[str, int] = {}
    """Class id -> its images, where there are fewer than 2 k."""
    curve: tuple[CurvePoint, ...]


class EvalRecord(Record):
    """One model on one dataset under one protocol."""

    schema_version: Literal[2] = 2
    code_version: str
    model: str
    weights_sha256: str
    label_space: str
    protocol: Protocol
    validation_transform: dict[str, Any]
    spurious_transform: dict[str, Any]
    backend: str
    dataset: str
    dataset_sha256: str
    """Hash over the class, concept and bytes of every spurious image, whatever their order."""
    validation: str
    validation_sha256: str
    """Hash over the class and bytes of every validation image, whatever their order."""
    name: str
    """A short name for tables and figures."""
    parameters: int | None = None
    """How many numbers the model's weights are."""
    mitigation: Mitigation | None = None
    classes: tuple[ClassRecord, ...]
    concepts: tuple[ClassRecord, ...]
    mean: Means
    mean_intervals: dict[str, Interval]
    """Field of :class:`Means` -> interval; images resampled within each class and side, and classes too."""
    accuracy: float
    """Top-1 accuracy on all validation images, those of classes without spurious images included."""
    accuracy_interval: Interval
    accuracy_images: int
    accuracy_classes: int | None = None
    """How many of the model's classes these images are of; None in records of older versions."""
    model_classes: int | None = None
    """How many classes the model has; guessing among few of them is easier than it looks."""
    gaps: GapRecord | None = None
    predictions: str = ""
    """File of the per-image predictions, beside the record; empty until the record is saved."""
    predictions_sha256: str = ""
    validation_rejects: tuple[tuple[str, str], ...] = ()
    """Validation images that could not be read, with reasons."""
    remarks: tuple[str, ...] = ()
    """What a reader of the numbers must know, such as an accuracy no better than chance; one sentence each."""
    config: dict[str, Any] = {}
    """What a sweep was asked for, by which it knows its finished records again."""

    _carried: Predictions | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)
    _mitigated: tuple[EvalRecord, ...] = PrivateAttr(default=())

    @property
    def mitigated(self) -> tuple[EvalRecord, ...]:
        """One further record for each mitigation that :func:`~spurious_imagenet.evaluate` was given."""
        return self._mitigated

    @property
    def accuracy_on(self) -> str:
        """On what the accuracy rests, to stand beside it."""
        if self.accuracy_classes is None or self.model_classes is None:
            return f"{self.accuracy_images} images"
        return f"{self.accuracy_images} images of {of_classes(self.accuracy_classes, self.model_classes)}"

    def carrying(self, predictions: Predictions, mitigated: tuple[EvalRecord, ...] = ()) -> EvalRecord:
        """Return the same record with its per-image predictions, which :meth:`save` writes beside it."""
        record = self.model_copy()
        record._carried, record._mitigated = predictions, mitigated
        return record

    def read_predictions(self) -> Predictions:
        """Return the per-image predictions: those just made, or the file beside the record.

        Raises:
            DataError: The file is missing, or not the one that belongs to the record.
        """
        if self._carried is not None:
            return self._carried
        file = (self._folder or Path()) / self.predictions
        if not self.predictions or not file.is_file() or sha256_file(file) != self.predictions_sha256:
            raise DataError(f"{file} is missing or not the predictions of the record of {self.name}.")
        return Predictions.load(file)

    def save(self, path: str | Path) -> EvalRecord:
        """Write the record as JSON and its predictions beside it, each whole or not at all.

        Returns:
            The record as it was written, with the name and hash of the predictions file.
        """
        target, changes = Path(path), {}
        if self._carried is not None:
            file = target.with_name(f"{target.stem}.predictions.parquet")
            self._carried.save(file)
            changes = {"predictions": file.name, "predictions_sha256": sha256_file(file)}
        saved = self.model_copy(update=changes)
        saved._carried, saved._folder, saved._mitigated = None, target.parent, ()
        saved.write(target)
        return saved

    @classmethod
    def load(cls, path: str | Path) -> EvalRecord:
        """Read a record.

        Raises:
            DataError: The file is not a record of this schema.
        """
        record = cls.read(path, "an evaluation record")
        record._folder = Path(path).parent
        return record
