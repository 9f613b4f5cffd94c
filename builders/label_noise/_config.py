"""Configuration of the search for wrong labels."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from spurious_imagenet.records import Record

_Share = Annotated[float, Field(gt=0, le=1)]


class FlagRule(Record):
    """Which images are flagged."""

    top_share: _Share = 0.5
    """Images above this share of their class's spuriosity ranking, counted from the top."""
    agree: PositiveInt | None = None
    """Models that must name the same other class; None: at least half of them."""

    def votes_needed(self, models: int) -> int:
        """Return how many of so many models must name the same other class."""
        return (models + 1) // 2 if self.agree is None else self.agree


class LabelNoiseConfig(Record):
    """Where to look for wrong labels, and for classes that collide (SR section 5)."""

    rankings: str
    """Folder of ``spurious rank``."""
    split: str = "val"
    records: tuple[str, ...] = ()
    """Evaluation records; their predictions lie beside them."""
    features: tuple[str, ...] = ()
    """Feature stores of the ranked images: they hold each image's five likeliest classes."""
    bank: str | None = None
    """Concept bank with verdicts, or a file of verdicts: what is spurious for one class and core for another."""
    min_cosine: Annotated[float, Field(gt=0, le=1)] = 0.5
    """NPCA components of two classes are one concept from this cosine of their directions on; neural features are by
    their index. In the planted world the only cue that two classes share has 0.53, no other pair more than 0.46."""
    real: str | None = None
    """ReaL labels: every class that an image shows."""
    rule: FlagRule = FlagRule()
    k: PositiveInt = 10
    """Images at either end of a class's ranking, for its gap (SR section 4.2)."""
    resamples: PositiveInt = 1000
    seed: NonNegativeInt = 0
    images: str | None = None
    """Image folder or shards of the ranked images; None: the shards of the first feature store."""
    review: NonNegativeInt = 200
    """Write so many of the most suspicious images for review; 0: none."""
    crops: NonNegativeInt = 0
    """Draw core crops of so many flagged images per class; the bank must have core concepts of it."""
    model: str | None = None
    """The bank's model, where it is no longer where the bank says."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.records and not self.features:
            raise ValueError("no predictions are given: expected `--records` or `--features`")
        if self.crops and not self.bank:
            raise ValueError("core crops need core concepts: expected `--bank` with `--crops`")
        return self
