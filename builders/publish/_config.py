"""Configuration of the publishing stage."""

from __future__ import annotations

from typing import Self

from pydantic import PositiveInt, model_validator

from spurious_imagenet.data_cards.options import CardOptions
from spurious_imagenet.datasets.manifest import VersionName
from spurious_imagenet.records import Record


class VersionConfig(Record):
    """What every published dataset says of its version."""

    version: VersionName = "1.0.0"
    change: str | None = None
    """What this version changes, for the changelog; counted if left out."""
    previous: str | None = None
    """Folder of the published version before this one: its changelog and its retired images are carried on."""
    card: CardOptions = CardOptions()
    """What only the publisher can say."""


class PublishConfig(VersionConfig):
    """Which spurious images to publish."""

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
    retire: str | None = None
    """CSV of images to retract: ``class_id``, ``sha256``, ``reason``."""
    boards: str | None = None
    """Folder written by ``spurious boards``: each concept's board is published."""
    verdicts: str | None = None
    """What people said of the concepts: names, verdicts and votes are published."""
    bank: str | None = None
    """The concept bank: its eigenvalues and names are published, and its verdicts where ``verdicts`` is left out."""
    shards: tuple[str, ...] = ()
    """Where the candidates' shards are now, if they are not where the candidates say."""
    allow_pipe: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.reviewed is None) != self.unreviewed:
            raise ValueError("give either --reviewed FILE, which `spurious review collect` wrote, or --unreviewed")
        if self.retire is not None and self.previous is None:
            raise ValueError("only images of an earlier version can be retired: give --previous FOLDER with --retire")
        return self


class RankingsConfig(VersionConfig):
    """Which rankings to publish."""

    rankings: str
    """Folder written by ``spurious rank``."""


class AnnotationsConfig(VersionConfig):
    """Which verdicts on concepts to publish."""

    annotations: str
    """File written by ``spurious review collect`` or ``spurious import``."""
    name: str = "Concept annotations"
    """Title of the dataset's card."""
