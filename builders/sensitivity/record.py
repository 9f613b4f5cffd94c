"""What a measurement of sensitivities says, and its file."""

from __future__ import annotations

from typing import Literal

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.builders.sensitivity.corruptions import Corruption
from spurious_imagenet.records import Record

__all__ = ["MaskAgreement", "ConceptDrop", "ModelSensitivity", "RoleDrop", "SensitivityRecord"]


class ConceptDrop(Record):
    """How much one model's accuracy drops where the region of one concept is corrupted in one way."""

    concept_id: str
    class_id: str
    class_name: str
    role: str
    """The concept's verdict: ``spurious``, ``core``, ``unclear`` or ``unjudged``."""
    corruption: Corruption
    images: int
    core_removed: int
    """Of the images of a spurious concept, those whose core mask was there and was taken out of the region."""
    covered: float
    """Mean share of the model's view that was corrupted, in [0, 1]."""
    accuracy: float
    """Share of the images classified as their class, in [0, 1]."""
    corrupted_accuracy: float
    drop: float
    """``accuracy - corrupted_accuracy``, in [-1, 1]; higher is more sensitive, negative where corruption helps."""
    interval: Interval
    """Of ``drop``, images resampled."""
    probability_drop: float
    """The same of the mean probability of the class."""


class RoleDrop(Record):
    """The mean drop over the concepts of one role, each counting the same."""

    role: str
    corruption: Corruption
    concepts: int
    covered: float
    drop: float
    interval: Interval
    """Images of each concept resampled, and concepts too."""
    probability_drop: float


class ModelSensitivity(Record):
    """One model's drops."""

    model: str
    name: str
    weights_sha256: str
    means: tuple[RoleDrop, ...]
    concepts: tuple[ConceptDrop, ...]


class MaskAgreement(Record):
    """How alike two models are in what they are sensitive to (SR Fig. 11)."""

    first: str
    second: str
    corruption: Corruption | Literal["all"]
    concepts: int
    r: float | None
    """Pearson's r between the two models' drops, in [-1, 1]; None where it has no value."""
    undefined: str | None = None
    """Why it has none."""


class SensitivityRecord(Record):
    """Sensitivities of some models to the concepts of one."""

    schema_version: Literal[1] = 1
    code_version: str
    masks: str
    masks_sha256: str
    """Hash of the file that says what made the masks."""
    concept_model: str
    """The model whose concepts and masks these are."""
    images: int | None
    """Images a concept at most, those of the highest scores."""
    seed: int
    resamples: int
    models: tuple[ModelSensitivity, ...]
    agreement: tuple[MaskAgreement, ...]
