"""One verdict: what is held to be true of a concept, and the votes that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from spurious_imagenet.records import Record

__all__ = ["ConceptVerdict", "VerdictValue", "Vote", "VoteRole", "role_of"]

VerdictValue = Literal["spurious", "core", "unclear"]
VoteRole = Literal["labeler", "adjudicator"]

_Name = Annotated[str, Field(min_length=1, max_length=500)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]
_Text = Annotated[str, Field(max_length=10_000)]


class Vote(Record, allow_inf_nan=False):
    """What one person answered."""

    labeler: _Name
    answer: _Name
    """In the words of whoever asked: ``main_object``, ``spurious``, …"""
    confidence: float | None = None
    """On the scale of whoever asked; higher is surer. Salient ImageNet's goes from 1 to 5."""
    reason: _Text | None = None
    time: _Name | None = None
    """ISO 8601."""
    role: VoteRole = "labeler"
    """An adjudicator settled a disagreement, having seen what the labelers answered."""


def role_of(vote: Mapping[str, Any]) -> Any:
    """Return the role of a vote as it was kept; before votes had one, an adjudicator's reason began in a set way."""
    return vote.get("role") or (
        "adjudicator" if str(vote.get("reason") or "").startswith("adjudication; ") else "labeler"
    )


class ConceptVerdict(Record):
    """What is held to be true of one concept, and the votes that it rests on."""

    concept_id: _Name | None = None
    """The bank row that was judged; None where it was judged elsewhere and is known by kind, class and component."""
    kind: _Name
    class_index: _Number
    """Index in the label space of the model that was judged; rows are joined by ``class_id``."""
    class_id: _Name
    component: _Number
    """0-based NPCA component, or feature index of a neuron."""
    verdict: VerdictValue
    source: _Name
    """Who asked: ``salient-imagenet``, ``sfe``, ``review:<name>``."""
    votes: tuple[Vote, ...] = ()
    """Empty where single votes were not published."""
    name: _Name | None = None
    """What a person calls the concept."""
    weights_sha256: _Name | None = None
    """Hash of the weights of the model that was judged; None where it is not known."""

    @field_validator("votes", mode="before")
    @classmethod
    def _with_roles(cls, votes: Any) -> Any:
        if not isinstance(votes, list | tuple):
            return votes
        return tuple({**v, "role": role_of(v)} if isinstance(v, Mapping) else v for v in votes)

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells concepts of one model apart: kind, class id, component."""
        return self.kind, self.class_id, self.component
