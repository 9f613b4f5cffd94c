"""EvalRecord: what was evaluated, how, and what came out; the file that every later comparison reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from spurious_imagenet.benchmark.images import Protocol
from spurious_imagenet.errors import DataError
from spurious_imagenet.io import write_json

__all__ = ["ClassRecord", "EvalRecord", "Means"]


class Means(BaseModel):
    """What is measured of a class; or its means over classes, each class counting the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class EvalRecord(BaseModel):
    """One model on one dataset under one protocol."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
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
    classes: tuple[ClassRecord, ...]
    concepts: tuple[ClassRecord, ...]
    mean: Means
    validation_rejects: tuple[tuple[str, str], ...] = ()
    """Validation images that could not be read, with reasons."""

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: str | Path) -> EvalRecord:
        """Read a record.

        Raises:
            DataError: The file is no record of this schema.
        """
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not an evaluation record: {' '.join(str(error).split())[:200]}") from error
