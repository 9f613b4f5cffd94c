"""Verdicts: what one labeler says of one item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from spurious_imagenet.builders.review.forms import ReviewForm
from spurious_imagenet.errors import DataError


@dataclass(frozen=True, slots=True)
class Verdict:
    """A labeler's current answers on an item.

    Attributes:
        item_id: The item.
        labeler: Who answered.
        answers: Question id → ``yes``, ``no`` or ``unclear``; partial while not all questions are answered, empty
            where the labeler took all answers back.
        time: When, ISO 8601 in UTC.
        outcome: What the answers mean by the form; None while partial.
    """

    item_id: str
    labeler: str
    answers: Mapping[str, str]
    time: str
    outcome: str | None

    @property
    def complete(self) -> bool:
        """Whether every question is answered."""
        return self.outcome is not None


def now() -> str:
    """Return the time in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def verdict_of(entry: Mapping[str, Any], labeler: str, form: ReviewForm) -> Verdict:
    """Read a journal's entry.

    Raises:
        DataError: It is of another form.
    """
    item_id, answers, time = entry.get("item"), entry.get("answers"), entry.get("time")
    if not isinstance(item_id, str) or not isinstance(answers, dict | None) or not isinstance(time, str):
        raise DataError(f"got {dict(entry)!r}, expected item, answers and time.")
    answers = answers or {}
    form.check(answers, item_id)
    outcome = form.outcome(answers) if form.is_complete(answers) else None
    return Verdict(item_id, labeler, answers, time, outcome)
