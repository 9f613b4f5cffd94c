"""Configuration of the publishing stage."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt

__all__ = ["PublishConfig"]


class PublishConfig(BaseModel):
    """What to publish."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: str
    """Candidates directory written by ``spurious mine``."""
    concepts: tuple[str, ...] = ()
    """Publish these concept ids only."""
    min_images: PositiveInt = 1
    """Leave out concepts with fewer kept images."""
    per_concept: PositiveInt | None = None
    """Publish the so many kept images of highest α of each concept; None: all of them."""
    name: str = "Spurious ImageNet"
    """Title of the dataset's card."""
    allow_pipe: bool = False
