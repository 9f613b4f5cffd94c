"""How far a review is, how fast its labelers are, and how they do on items whose answers are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from spurious_imagenet.builders.review._verdict import Verdict
from spurious_imagenet.builders.review.consensus import Consensus, State
from spurious_imagenet.builders.review.forms import ReviewForm
from spurious_imagenet.builders.review.items import ReviewItem

__all__ = ["GoldReport", "LabelerStatus", "ReviewStatus", "gold_report", "pace", "review_status"]

#: A pause of more seconds than this is not time spent on judging.
_PAUSE = 120.0
#: A script's verdicts come at once and have no pace.
_LEAST = 1.0


@dataclass(frozen=True)
class GoldReport:
    """How a labeler did on the gold items.

    Attributes:
        labeler: Who.
        judged: Gold items judged.
        failed: Ids of those whose outcome is not the known one.
        warning: One sentence where too many failed, else None.
    """

    labeler: str
    judged: int
    failed: tuple[str, ...]
    warning: str | None


@dataclass(frozen=True)
class LabelerStatus:
    """How far a labeler is.

    Attributes:
        labeler: Who.
        items: Items to judge.
        done: Of these, completely judged.
        partial: Of these, judged in part.
        per_minute: Items judged per minute, pauses of over two minutes left out; None while that is less than a second.
        gold: How they did on gold items.
    """

    labeler: str
    items: int
    done: int
    partial: int
    per_minute: float | None
    gold: GoldReport


@dataclass(frozen=True)
class ReviewStatus:
    """How far a review is.

    Attributes:
        name: The review.
        items: Its items.
        states: How many items are in each state.
        accepted: Items that all their labelers, or a third person, accepted.
        labelers: One status per labeler.
    """

    name: str
    items: int
    states: Mapping[State, int]
    accepted: int
    labelers: tuple[LabelerStatus, ...]

    @property
    def finished(self) -> bool:
        """Whether every item is judged by all its labelers and none is disputed."""
        return not self.states.get(State.OPEN) and not self.states.get(State.DISAGREED)


def pace(verdicts: Iterable[Verdict]) -> float | None:
    """Return complete verdicts per minute of work; None where they took less than a second."""
    times = sorted(datetime.fromisoformat(v.time) for v in verdicts if v.complete)
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    worked = [gap for gap in gaps if gap <= _PAUSE]
    return 60 * len(worked) / sum(worked) if sum(worked) >= _LEAST else None


def gold_report(
    labeler: str, verdicts: Mapping[str, Verdict], gold: Sequence[ReviewItem], form: ReviewForm, tolerance: float
) -> GoldReport:
    """Compare a labeler's verdicts with known answers.

    Args:
        labeler: Who.
        verdicts: Item id → the labeler's verdict.
        gold: Items with known answers.
        form: The review's form.
        tolerance: Share of the judged gold items, in [0, 1], that may fail without a warning.
    """
    judged = [item for item in gold if item.item_id in verdicts and verdicts[item.item_id].complete]
    failed = tuple(i.item_id for i in judged if verdicts[i.item_id].outcome != form.outcome(i.gold or {}))
    warning = None
    if judged and len(failed) / len(judged) > tolerance:
        warning = f"{labeler} failed {len(failed)} of {len(judged)} gold items, such as {failed[0]}."
    return GoldReport(labeler, len(judged), failed, warning)


def review_status(name: str, consensus: Mapping[str, Consensus], labelers: Iterable[LabelerStatus]) -> ReviewStatus:
    """Summarise what is said of all items."""
    states = Counter(c.state for c in consensus.values())
    accepted = sum(c.accepted for c in consensus.values())
    return ReviewStatus(name, len(consensus), dict(states), accepted, tuple(labelers))
