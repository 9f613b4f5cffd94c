"""What one labeler does, key by key: see an item, answer a question, undo, go on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spurious_imagenet.builders.review._verdict import Verdict
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.progress import pace
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.errors import DataError

#: The pace shown is that of so many latest verdicts.
_RECENT = 20


class Labeling:
    """One labeler's way through their queue.

    Every answer is in the labeler's journal before the method returns. What is returned is all that a labeler's screen
    may show: it is made of the labeler's own verdicts, and neither known answers nor scores are in it.

    Args:
        review: The review.
        labeler: Who answers.

    Raises:
        ConfigError: The labeler is not one of the review's.
    """

    def __init__(self, review: Review, labeler: str) -> None:
        self.review, self.labeler = review, labeler
        self.queue = review.queue(labeler)
        self._place = {item_id: i for i, item_id in enumerate(self.queue)}
        self._undo: list[tuple[str, Mapping[str, str]]] = [(item_id, {}) for item_id in review.verdicts(labeler)]
        self._recent: deque[Verdict] = deque(maxlen=_RECENT)
        self._lock = threading.RLock()

    def state(self, item_id: str | None = None) -> dict[str, Any]:
        """Describe an item and how far the labeler is.

        Args:
            item_id: The item; the first that is not answered whole if None, the last of all where none is left.

        Returns:
            JSON values: ``item`` (None for an empty queue), ``questions`` with the labeler's answers, ``current`` (the
            question that the next key answers), ``outcome``, ``position``, ``done``, ``total``, ``per_minute``,
            ``can_undo`` and ``preload`` (images of the next item).

        Raises:
            DataError: The item is not in the queue.
        """
        if not self.queue:
            return {"title": self.review.form.title, "item": None, "done": 0, "total": 0}
        with self._lock:
            verdicts = self.verdicts()
            return self._describe(item_id or self._next(-1, verdicts) or self.queue[-1], verdicts)

    def answer(self, item_id: str, question: str, answer: str) -> dict[str, Any]:
        """Answer one question; a first answer on an item that was judged before begins it anew.

        Returns:
            The state of the same item, or of the next unanswered one where this was the last question.

        Raises:
            DataError: The item is not in the queue, or the question or the answer is not of the form.
            OSError: The disk failed; the answer is then not recorded.
        """
        with self._lock:
            before = self._answers(item_id)
            kept = {} if self.review.form.is_complete(before) else dict(before)
            return self._record(item_id, kept | {question: answer}, before)

    def judge(self, item_id: str, answers: dict[str, str]) -> dict[str, Any]:
        """Give all answers on an item at once, as scripts do; returns and raises as :meth:`answer`."""
        with self._lock:
            return self._record(item_id, answers, self._answers(item_id))

    def undo(self) -> dict[str, Any]:
        """Take the latest answer back and return to its item."""
        with self._lock:
            if not self._undo:
                return self.state()
            item_id, before = self._undo[-1]
            self.review.record(self.labeler, item_id, before or None)
            self._undo.pop()
            return self.state(item_id)

    def go(self, item_id: str, step: int) -> dict[str, Any]:
        """Look at the item ``step`` places further in the queue, or at its end.

        Raises:
            DataError: The item is not in the queue.
        """
        place = min(max(self._at(item_id) + step, 0), len(self.queue) - 1)
        return self.state(self.queue[place])

    def verdicts(self) -> dict[str, Verdict]:
        """Return the labeler's current verdicts, item id → verdict."""
        return self.review.verdicts(self.labeler)

    def files(self) -> frozenset[Path]:
        """Return every file that the labeler's screen shows."""
        items = (self.review.items[item_id] for item_id in self.queue)
        return frozenset(Path(file) for item in items for file in self._images(item))

    def _answers(self, item_id: str) -> Mapping[str, str]:
        self._at(item_id)
        verdict = self.verdicts().get(item_id)
        return verdict.answers if verdict else {}

    def _at(self, item_id: str) -> int:
        if item_id not in self._place:
            raise DataError(f"item {item_id!r} is not in the queue of {self.labeler}.")
        return self._place[item_id]

    def _record(self, item_id: str, answers: dict[str, str], before: Mapping[str, str]) -> dict[str, Any]:
        verdict = self.review.record(self.labeler, item_id, answers)
        self._undo.append((item_id, before))
        verdicts = self.verdicts()
        if not verdict.complete:
            return self._describe(item_id, verdicts)
        self._recent.append(verdict)
        return self._describe(self._next(self._place[item_id], verdicts) or item_id, verdicts)

    def _next(self, place: int, verdicts: Mapping[str, Verdict]) -> str | None:
        following = [*self.queue[place + 1 :], *self.queue[: place + 1]]
        return next((i for i in following if i not in verdicts or not verdicts[i].complete), None)

    def _describe(self, item_id: str, verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
        place, verdict, form = self._at(item_id), verdicts.get(item_id), self.review.form
        answers = verdict.answers if verdict else {}
        following = self._next(place, verdicts)
        return {
            "title": form.title,
            "item": self._screen(self.review.items[item_id]),
            "questions": [q.model_dump() | {"answer": answers.get(q.id)} for q in form.questions],
            "current": next((q for q in form.question_ids if q not in answers), form.question_ids[0]),
            "outcome": verdict.outcome if verdict else None,
            "position": place + 1,
            "total": len(self.queue),
            "done": sum(v.complete for v in verdicts.values()),
            "per_minute": pace(self._recent),
            "can_undo": bool(self._undo),
            "preload": self._images(self.review.items[following]) if following else [],
        }

    def _screen(self, item: ReviewItem) -> dict[str, Any]:
        return {
            "item_id": item.item_id,
            "class_name": item.class_name,
            "class_id": item.class_id,
            "component": item.component,
            "media": self._file(item.media),
            "references": [self._file(reference) for reference in item.references],
            "board": self._file(item.board) if item.board and item.board != item.media else None,
        }

    def _images(self, item: ReviewItem) -> list[str]:
        return [self._file(media) for media in (item.media, *item.references, item.board) if media]

    def _file(self, media: str) -> str:
        return str(self.review.media_path(media))
