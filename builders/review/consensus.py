"""What the labelers of an item say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from spurious_imagenet.builders.review._verdict import Verdict

__all__ = ["Consensus", "State", "consensus_of"]


class State(StrEnum):
    """How far an item is."""

    OPEN = "open"
    """A labeler of the item has not answered all questions."""
    AGREED = "agreed"
    """All labelers reached the same outcome."""
    DISAGREED = "disagreed"
    """They did not, and nobody has decided."""
    ADJUDICATED = "adjudicated"
    """They did not, and a third person has decided."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """What is said of one item.

    Attributes:
        item_id: The item.
        state: How far it is.
        outcome: The outcome that all reached, or that a third person decided; None while there is none.
        accepted: Whether that is the form's accepting outcome.
        verdicts: The labelers' complete verdicts, in the order of the review's labelers.
        adjudication: The third person's verdict, where it decided.
    """

    item_id: str
    state: State
    outcome: str | None
    accepted: bool
    verdicts: tuple[Verdict, ...]
    adjudication: Verdict | None = None


def consensus_of(
    item_id: str, verdicts: Sequence[Verdict | None], adjudication: Verdict | None, accepting: str
) -> Consensus:
    """Combine the verdicts on one item: what all say holds; where they differ, a third person decides.

    A third person's verdict counts only while the labelers differ: they may come to agree by changing theirs.

    Args:
        item_id: The item.
        verdicts: One a labeler of the item; None or partial where they have not answered.
        adjudication: The third person's verdict, if any.
        accepting: The form's accepting outcome.
    """
    complete = tuple(v for v in verdicts if v is not None and v.complete)
    outcomes = {v.outcome for v in complete}
    if len(complete) < len(verdicts):
        return Consensus(item_id, State.OPEN, None, False, complete)
    if len(outcomes) == 1:
        outcome = complete[0].outcome
        return Consensus(item_id, State.AGREED, outcome, outcome == accepting, complete)
    if adjudication is None:
        return Consensus(item_id, State.DISAGREED, None, False, complete)
    decided = adjudication.outcome
    return Consensus(item_id, State.ADJUDICATED, decided, decided == accepting, complete, adjudication)
