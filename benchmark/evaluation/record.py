"""EvalRecord: what was evaluated, how, and what came out; the file that every later comparison reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import PrivateAttr

from spurious_imagenet.benchmark.evaluation.values import ClassRecord, GapRecord, Means
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.benchmark.mitigation.record import Mitigation
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import DataError
from spurious_imagenet.images import Protocol
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models.labels import of_classes
from spurious_imagenet.records import Record

__all__ = ["EvalRecord"]


class EvalRecord(Record):
    """One model on one dataset under one protocol.

    Examples:
        A record is what ``evaluate`` returns and ``spurious evaluate`` writes:

        >>> print(*sorted(EvalRecord.model_fields)[:4])
        accuracy accuracy_classes accuracy_images accuracy_interval
        >>> EvalRecord.load("no-such.json")
        Traceback (most recent call last):
        spurious_imagenet.errors.DataError: no-such.json is not an evaluation record: ...
    """

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
