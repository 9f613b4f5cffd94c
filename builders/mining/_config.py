"""Configuration of the mining stage."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from spurious_imagenet.concepts.verdict import VerdictValue
from spurious_imagenet.records import Record


class MineConfig(Record):
    """Which concepts to look for, where, and which models must agree."""

    bank: str
    """Concept bank of the scoring model."""
    features: str
    """Feature store of the pool, by the scoring model."""
    agree: tuple[str, ...]
    """Specs of the other models that vote; the scoring model's own vote counts as one."""
    min_agree: PositiveInt = 2
    """Votes an image needs, the scoring model's included: 2 of 4 made Spurious ImageNet (SFE §7.2), all 4 the
    examples of SFE §7.1."""
    top: PositiveInt = 625
    """Images of highest α looked at for each concept, among those the scoring model assigns to the class."""
    keep: PositiveInt = 75
    """Images kept for each concept; further ones that pass are a reserve for the review."""
    components: PositiveInt | None = 10
    """Mine the first so many concepts of every class (NPCA components by eigenvalue, neurons by importance); None: all
    of them."""
    concepts: tuple[str, ...] = ()
    """Mine these concept ids only, in place of ``components``."""
    verdict: VerdictValue | None = None
    """Mine the concepts with this verdict only, in place of ``components``; see ``spurious annotate``."""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)] = 6
    """Of two images of a concept whose 64-bit perceptual hashes differ in so many bits or fewer, only one is kept."""
    device: str = "auto"
    backend: str = "auto"
    workers: PositiveInt | None = None
    shards: tuple[str, ...] = ()
    """Where the pool's shards are now, if they are not where the store says."""
    allow_pipe: bool = False

    @model_validator(mode="after")
    def _votes_fit(self) -> Self:
        if self.min_agree > 1 + len(self.agree):
            raise ValueError(
                f"min_agree is {self.min_agree}, but only {1 + len(self.agree)} models vote (the scoring model and "
                f"{len(self.agree)} others)"
            )
        if self.concepts and self.verdict is not None:
            raise ValueError("concepts are named and a verdict is given: expected one of both")
        if self.keep > self.top:
            raise ValueError(f"keep is {self.keep}: expected at most top ({self.top})")
        return self
