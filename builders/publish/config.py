"""Configuration of the publishing stage."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

__all__ = ["PublishConfig"]


class PublishConfig(BaseModel):
    """What to publish."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: str
    """Candidates directory written by ``spurious mine``."""
    reviewed: str | None = None
    """What ``spurious review collect`` wrote of these candidates: only images that two labelers accepted are taken."""
    unreviewed: bool = False
    """Publish candidates that nobody has looked at; the card then says so."""
    concepts: tuple[str, ...] = ()
    """Publish these concept ids only."""
    min_images: PositiveInt = 1
    """Leave out concepts with fewer kept images."""
    per_concept: PositiveInt | None = None
    """Publish the so many kept images of highest α of each concept; None: all of them."""
    name: str = "Spurious ImageNet"
    """Title of the dataset's card."""
    allow_pipe: bool = False

    @model_validator(mode="after")
    def _reviewed_or_not(self) -> Self:
        if (self.reviewed is None) != self.unreviewed:
            raise ValueError("give either --reviewed FILE, which `spurious review collect` wrote, or --unreviewed")
        return self
