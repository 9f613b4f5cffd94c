"""What a comparison of two kinds of concepts says."""

from __future__ import annotations

from typing import Literal

from spurious_imagenet.records import Record


class Diversity(Record):
    """How different the images are that a class's concepts of one kind show."""

    overlap: float
    """Mean over pairs of concepts of the share of top images they have in common, in [0, 1]; lower is more diverse."""
    distinct: float
    """Different images among the top images of all, by how many they could be, in (0, 1]; higher is more diverse."""


class ContrastMeans(Record):
    """The two kinds side by side, of one class or as means over classes."""

    npca: Diversity
    neurons: Diversity
    between: float
    """Mean over pairs of a component and a neuron of the share of top images they have in common, in [0, 1]."""
    chance: float
    """Share that two concepts without relation have in common: top images by images of the class."""
    shared_subspace: float
    """Mean squared cosine of the principal angles: which share of one span lies in the other, in [0, 1]."""
    chance_subspace: float
    """Its expectation for a random span: concepts by features."""


class ClassContrast(ContrastMeans):
    """One class."""

    class_id: str
    class_name: str
    images: int
    npca_ids: tuple[str, ...]
    neuron_ids: tuple[str, ...]
    shared: tuple[tuple[float, ...], ...]
    """One row a component, one column a neuron: the share of top images they have in common."""
    angles: tuple[float, ...]
    """Principal angles between the spans of the two kinds' directions, degrees, ascending."""


class CueFound(Record):
    """How well one kind's concepts of a class find the cue that was planted in it."""

    class_id: str
    cue: str
    concept_id: str
    """The concept of the highest AUC."""
    auc: float
    """ROC AUC in [0, 1] of cue-only pool images against pool images without the cue; higher is better."""
    finders: int
    """Concepts of the class that find the cue: more than one says the same thing again."""


class FoundCues(Record):
    """Which planted cues one kind of concepts finds."""

    threshold: float
    """A cue is found where a concept of its class reaches this AUC."""
    found: int
    planted: int
    pairs: tuple[CueFound, ...]


class ContrastRecord(Record):
    """Neural PCA components against the top neural features of one model."""

    schema_version: Literal[1] = 1
    code_version: str
    model: str
    weights_sha256: str
    features: str
    top: int
    """Concepts a class of each kind, the first of the bank."""
    top_images: int
    """Images a concept, those of the highest scores among the class's."""
    classes: tuple[ClassContrast, ...]
    refused: dict[str, str] = {}
    """Class id -> why it was left out."""
    mean: ContrastMeans
    npca_less_overlap: int
    """Classes where components overlap less than neurons."""
    npca_cues: FoundCues | None = None
    neuron_cues: FoundCues | None = None
