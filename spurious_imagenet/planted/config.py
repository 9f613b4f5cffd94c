"""What a planted world is made of: its classes, its cues, and how often which cue stands beside which object."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from spurious_imagenet.planted._cues import CUES
from spurious_imagenet.planted._shapes import SHAPES
from spurious_imagenet.records import Record

__all__ = ["LABEL_SPACE", "WRONG_LABELS", "Mislabelled", "PlantedPair", "WorldConfig", "class_id_of"]

#: Name of the label space that all planted worlds share.
LABEL_SPACE = "planted-world"


class PlantedPair(Record):
    """A cue that stands beside a class's object in a share of the class's training images."""

    name: str
    """The class: one of the objects."""
    cue: str
    share: float = Field(gt=0, lt=1)
    """Share of the class's training and validation images that show the cue."""


class Mislabelled(Record):
    """Wrong labels: images of a class that show its cue, but another class's object (SR section 5)."""

    name: str
    """The class that the images are labelled as; it has a cue."""
    other: str
    """The class whose object they show."""
    share: float = Field(gt=0, lt=1)
    """Share of the labelled class's training and validation images; at most the share that shows its cue."""


_DEFAULT_PAIRS = (
    PlantedPair(name="star", cue="rainbow", share=0.55),
    PlantedPair(name="ring", cue="barber pole", share=0.55),
    PlantedPair(name="cross", cue="brick wall", share=0.55),
    PlantedPair(name="heart", cue="polka dots", share=0.55),
    PlantedPair(name="arrow", cue="hazard tape", share=0.55),
    PlantedPair(name="gear", cue="checkered flag", share=0.55),
    PlantedPair(name="flower", cue="grass", share=0.55),
    PlantedPair(name="bolt", cue="string lights", share=0.55),
    PlantedPair(name="fish", cue="waves", share=0.55),
    PlantedPair(name="boat", cue="waves", share=0.4),
)


#: Wrong labels as a user may ask for: in these classes networks that were trained on right labels mostly see the object
#: beside the cue, and fish even has the same cue as boat. Beside the strongest cues (a rainbow, waves for most objects)
#: they see the cue alone, and nothing that asks networks can tell that a label is wrong.
WRONG_LABELS = (
    Mislabelled(name="boat", other="fish", share=0.3),
    Mislabelled(name="heart", other="flower", share=0.3),
    Mislabelled(name="flower", other="ring", share=0.3),
    Mislabelled(name="bolt", other="gear", share=0.3),
)


class WorldConfig(Record):
    """Everything that decides the bytes of a planted world.

    Crescent and hourglass have no cue; fish and boat share one, as classes of real data do.
    """

    seed: int = Field(default=0, ge=0)
    image_size: int = Field(default=64, ge=32, le=512)
    """Side of the square images, in pixels."""
    train_per_class: int = Field(default=250, ge=4)
    val_per_class: int = Field(default=50, ge=4)
    pool_cue_only: int = Field(default=110, ge=1)
    """Pool images per pair that show the cue and no object."""
    pool_cue_other: int = Field(default=60, ge=1)
    """Pool images per pair that show the cue beside an object it was never planted with."""
    pool_cue_own: int = Field(default=2, ge=0)
    """Pool images per pair that show the cue beside its object: few, as in the wild."""
    pool_object_only: int = Field(default=150, ge=1)
    """Pool images per class that show its object and no cue."""
    pool_neither: int = Field(default=1500, ge=1)
    """Pool images of background and clutter alone."""
    jpeg_quality: int = Field(default=92, ge=50, le=100)
    pairs: tuple[PlantedPair, ...] = _DEFAULT_PAIRS
    mislabelled: tuple[Mislabelled, ...] = ()

    @model_serializer(mode="wrap")
    def _without_wrong_labels(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A world without wrong labels keeps the bytes that it had before there were any.
        content: dict[str, Any] = serialise(self)
        return content if self.mislabelled else {k: v for k, v in content.items() if k != "mislabelled"}

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        names = [pair.name for pair in self.pairs]
        if unknown := sorted((set(names) - set(SHAPES)) | ({pair.cue for pair in self.pairs} - set(CUES))):
            raise ValueError(f"pairs name {unknown}, which are neither objects {list(SHAPES)} nor cues {list(CUES)}")
        if len(set(names)) != len(names) or not names:
            raise ValueError(f"pairs name the classes {names}: expected at least one, each once")
        return self

    @model_validator(mode="after")
    def _check_mislabelled(self) -> Self:
        names = [wrong.name for wrong in self.mislabelled]
        if len(set(names)) != len(names):
            raise ValueError(f"mislabelled names the classes {names}: expected each once")
        for wrong in self.mislabelled:
            pair = self.pair_of(wrong.name)
            if pair is None or wrong.other not in SHAPES or wrong.other == wrong.name:
                raise ValueError(
                    f"mislabelled gives {wrong.other!r} the label {wrong.name!r}: expected another object of "
                    f"{list(SHAPES)} under the label of a class with a cue"
                )
            if wrong.share > pair.share:
                raise ValueError(
                    f"{wrong.share:.0%} of {wrong.name!r} are to be mislabelled, but {pair.share:.0%} show its cue: "
                    "expected no more than those"
                )
        return self

    @classmethod
    def tiny(cls, seed: int = 0) -> Self:
        """Return the configuration of a world of some hundred images, drawn in a second."""
        return cls(
            seed=seed,
            train_per_class=20,
            val_per_class=10,
            pool_cue_only=4,
            pool_cue_other=3,
            pool_cue_own=1,
            pool_object_only=4,
            pool_neither=40,
        )

    @classmethod
    def small(cls, seed: int = 0) -> Self:
        """Return the configuration of a world of a thousand images, in which a trained network finds every cue."""
        return cls(
            seed=seed,
            train_per_class=40,
            val_per_class=15,
            pool_cue_only=22,
            pool_cue_other=8,
            pool_cue_own=1,
            pool_object_only=12,
            pool_neither=120,
        )

    @classmethod
    def measuring(cls, seed: int = 1, val_per_class: int = 200) -> Self:
        """Return the configuration of a world to measure on: a validation split, and the least of everything else."""
        return cls(
            seed=seed,
            train_per_class=4,
            val_per_class=val_per_class,
            pool_cue_only=1,
            pool_cue_other=1,
            pool_cue_own=0,
            pool_object_only=1,
            pool_neither=1,
        )

    @property
    def cues(self) -> tuple[str, ...]:
        """The distinct cues, in the order of the pairs."""
        return tuple(dict.fromkeys(pair.cue for pair in self.pairs))

    def pair_of(self, name: str) -> PlantedPair | None:
        """Return the pair of a class, or None for a class without a cue."""
        return next((pair for pair in self.pairs if pair.name == name), None)

    def mislabelled_of(self, name: str) -> Mislabelled | None:
        """Return the wrong labels of a class, or None for a class without any."""
        return next((wrong for wrong in self.mislabelled if wrong.name == name), None)

    def holders(self, cue: str) -> tuple[str, ...]:
        """Return the classes that a cue was planted in."""
        return tuple(pair.name for pair in self.pairs if pair.cue == cue)


def class_id_of(name: str) -> str:
    """Return a class's id, which is also its folder's name; ids sort in the order of the classes."""
    return f"planted-{list(SHAPES).index(name):02d}-{name}"
