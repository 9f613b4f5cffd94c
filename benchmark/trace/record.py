"""A trace: what is behind one published image, link by link."""

from __future__ import annotations

from typing import Literal, Self

from spurious_imagenet.records import Record

__all__ = ["Link", "Trace", "PublishedVerdict", "ModelVote"]

LinkName = Literal["file", "image", "verdicts", "votes", "candidates", "shard", "alpha", "vote", "weights"]


class Link(Record, extra="ignore"):
    """One step on the way back."""

    link: LinkName
    claim: str
    """What the dataset says."""
    state: Literal["verified", "not checked", "wrong"]
    note: str | None = None
    """How it was checked, what it would need, or what was found instead."""

    @classmethod
    def compared(cls, link: LinkName, claim: str, holds: bool, otherwise: str, how: str | None = None) -> Self:
        """Return a link that was checked; ``otherwise`` is what was found where it does not hold."""
        state: Literal["verified", "wrong"] = "verified" if holds else "wrong"
        return cls(link=link, claim=claim, state=state, note=how if holds else otherwise)

    @classmethod
    def unchecked(cls, link: LinkName, claim: str, why: str) -> Self:
        """Return a link that was not checked, and what it would need."""
        return cls(link=link, claim=claim, state="not checked", note=why)


class PublishedVerdict(Record, extra="ignore"):
    """What one labeler, under a pseudonym, said of the image."""

    labeler: str
    outcome: str
    date: str


class ModelVote(Record, extra="ignore"):
    """What one model took the image for."""

    model: str
    class_id: str
    class_name: str
    probability: float
    """Of the class whose spurious feature the image shows."""
    role: Literal["scorer", "voter"] | None = None
    weights_sha256: str | None = None
    architecture: str | None = None


class Trace(Record, extra="ignore"):
    """Everything that is behind one published image, and which of it has been checked."""

    dataset: str
    version: str | None
    """None where the dataset does not say."""
    sha256: str
    class_id: str
    class_name: str
    concept_id: str
    component: int | None
    alpha: float
    """Contribution of the component to the logit of the class (SFE eq. 5); higher is more of it."""
    rank: int | None
    """1 is the highest α of the concept."""
    votes: tuple[ModelVote, ...]
    """The scoring model's first."""
    verdicts: tuple[PublishedVerdict, ...]
    key: str | None
    shard: str
    shard_offset: int
    """Of the image's first byte in the shard."""
    shard_size: int
    """Bytes."""
    attribution: dict[str, str | None]
    links: tuple[Link, ...]

    @property
    def wrong(self) -> tuple[Link, ...]:
        """The links that do not hold."""
        return tuple(link for link in self.links if link.state == "wrong")
