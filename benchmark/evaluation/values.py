"""What a model's measures come to, class by class and in the mean, as records and scores keep them."""

from __future__ import annotations

from spurious_imagenet.benchmark.metrics.values import CurvePoint, Interval
from spurious_imagenet.records import Record

__all__ = ["ClassGap", "ClassRecord", "GapRecord", "Means"]


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
    """The spurious gaps of one model; means are over the classes that are not controls, each counting the same."""

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
