"""Reviews: items, who judges them, and journals of what they said."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from spurious_imagenet.builders.review._assignment import assign, order
from spurious_imagenet.builders.review._journal import Journal
from spurious_imagenet.builders.review._layout import (
    ReviewConfig,
    check_items,
    check_labelers,
    check_pseudonym,
    read_assignment,
    read_config,
    write_review,
)
from spurious_imagenet.builders.review._verdict import Verdict, now, verdict_of
from spurious_imagenet.builders.review.agreement import Agreement, agreement
from spurious_imagenet.builders.review.consensus import Consensus, State, consensus_of
from spurious_imagenet.builders.review.forms import ReviewForm
from spurious_imagenet.builders.review.items import ReviewItem, read_items
from spurious_imagenet.builders.review.progress import (
    GoldReport,
    LabelerStatus,
    ReviewStatus,
    gold_report,
    pace,
    review_status,
)
from spurious_imagenet.errors import ConfigError, DataError

__all__ = ["Review"]


class Review:
    """A review on disk; any number of processes may have it open and write to it.

    Args:
        path: A review's folder.

    Raises:
        StoreError: There is no readable review.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = read_config(self.path)
        self.items: dict[str, ReviewItem] = {item.item_id: item for item in read_items(self.path / "items.jsonl")}
        self.assignment = read_assignment(self.path / "assignment.jsonl", self.items, self.config.labelers)
        self._journals = {
            name: Journal(self.path / "journal" / f"{name}.jsonl", partial(self._read_entry, name))
            for name in self.labelers
        }
        self._adjudication = Journal(self.path / "adjudication.jsonl", self._read_adjudication)
        self._verdicts: dict[str, dict[str, Verdict]] = {name: {} for name in self.labelers}
        self._adjudicated: dict[str, Verdict] = {}
        self._queues: dict[str, list[str]] = {}
        self._mutex = threading.RLock()

    @classmethod
    def create(
        cls,
        path: str | Path,
        name: str,
        form: ReviewForm,
        items: Sequence[ReviewItem],
        labelers: Sequence[str],
        per_item: int = 2,
        seed: int = 0,
        *,
        media: Iterable[tuple[str, bytes]] = (),
        gold_tolerance: float = 0.1,
    ) -> Review:
        """Make a review, whole or not at all.

        Args:
            path: New folder.
            name: What the review is called; verdicts carry it as their source.
            form: What is asked.
            items: What is judged; those with ``gold`` have known answers.
            labelers: Pseudonyms of those who judge: lower-case letters, digits, ``-`` and ``_``.
            per_item: Labelers an item.
            seed: Decides assignment and orders.
            media: (relative path, bytes) of images to keep in the review.
            gold_tolerance: Share of the gold items, in [0, 1], that a labeler may fail without a warning.

        Raises:
            StoreError: ``path`` holds something.
            ConfigError: Labelers or ``per_item`` cannot be used.
            DataError: There are no items, two have one id, or known answers do not fit the form.
        """
        check_labelers(labelers)
        check_items(items, form)
        assignment = assign(items, labelers, per_item, seed)
        config = ReviewConfig(
            name=name,
            form=form,
            labelers=tuple(labelers),
            per_item=per_item,
            seed=seed,
            gold_tolerance=gold_tolerance,
            created=now(),
        )
        write_review(path, config, items, assignment, media)
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Review:
        """Open the review at ``path``."""
        return cls(path)

    @property
    def form(self) -> ReviewForm:
        """What is asked."""
        return self.config.form

    @property
    def labelers(self) -> tuple[str, ...]:
        """Those who judge."""
        return self.config.labelers

    def media_path(self, media: str) -> Path:
        """Return the absolute path of an item's ``media``, ``board`` or reference."""
        return (self.path / media).resolve()

    def queue(self, labeler: str) -> list[str]:
        """Return the ids of the items that a labeler judges, in their own order."""
        self._check_labeler(labeler)
        if labeler not in self._queues:
            own = [item for i, item in self.items.items() if labeler in self.assignment[i]]
            self._queues[labeler] = order(own, labeler, self.config.seed)
        return list(self._queues[labeler])

    def record(self, labeler: str, item_id: str, answers: Mapping[str, str] | None, time: str | None = None) -> Verdict:
        """Record what a labeler now says of an item, in place of what they said before.

        When this returns the verdict is on the disk. Safe against other threads and processes, of the same labeler
        too: the last one recorded counts.

        Args:
            labeler: Who.
            item_id: One of their items.
            answers: All their current answers, of some or all questions; None retracts the verdict.
            time: When, ISO 8601; now where left out.

        Returns:
            The verdict; without answers where it was retracted.

        Raises:
            DataError: The item is not the labeler's, or an answer does not fit the form.
            ConfigError: There is no such labeler.
            OSError: The disk failed; the verdict is then not recorded.
        """
        return self.record_many(labeler, [(item_id, answers)], time)[0]

    def record_many(
        self, labeler: str, verdicts: Sequence[tuple[str, Mapping[str, str] | None]], time: str | None = None
    ) -> list[Verdict]:
        """Record several verdicts with one wait for the disk; see :meth:`record`."""
        self._check_labeler(labeler)
        for item_id, answers in verdicts:
            if labeler not in self._item_labelers(item_id):
                raise DataError(f"item {item_id!r} is not one of {labeler}'s: only its own labelers judge an item.")
            self.form.check(answers or {}, item_id)
        entries = [_entry(item_id, answers, time or now()) for item_id, answers in verdicts]
        with self._mutex:
            _put(self._verdicts[labeler], self._journals[labeler].append(entries))
        return [verdict_of(entry, labeler, self.form) for entry in entries]

    def verdicts(self, labeler: str) -> dict[str, Verdict]:
        """Return a labeler's current verdicts, complete or partial, by item; what was retracted is not among them."""
        self._check_labeler(labeler)
        with self._mutex:
            return dict(self._current(labeler))

    def adjudications(self) -> dict[str, Verdict]:
        """Return third persons' current verdicts, by item."""
        with self._mutex:
            return dict(self._settled())

    def adjudicate(self, item_id: str, who: str, answers: Mapping[str, str] | None, time: str | None = None) -> Verdict:
        """Record a third person's verdict on an item on which its labelers differ.

        Args:
            item_id: The item.
            who: Pseudonym of the third person.
            answers: Answers to all questions; None retracts the verdict.
            time: When, ISO 8601; now where left out.

        Raises:
            DataError: The labelers do not differ, or the answers are incomplete or do not fit the form.
            ConfigError: ``who`` judged the item.
        """
        return self.adjudicate_many(who, [(item_id, answers)], time)[0]

    def adjudicate_many(
        self, who: str, verdicts: Sequence[tuple[str, Mapping[str, str] | None]], time: str | None = None
    ) -> list[Verdict]:
        """Record several verdicts of a third person, all or none; see :meth:`adjudicate`."""
        check_pseudonym(who)
        for item_id, answers in verdicts:
            if who in self._item_labelers(item_id):
                raise ConfigError(f"{who} judged item {item_id!r}: expected a third person to adjudicate it.")
            state = self.item_consensus(item_id).state
            if state not in {State.DISAGREED, State.ADJUDICATED}:
                raise DataError(
                    f"item {item_id!r} is {state.value}: only items on which labelers differ are adjudicated."
                )
            self.form.check(answers or {}, item_id)
            if answers is not None and not self.form.is_complete(answers):
                raise DataError(f"item {item_id!r}: a third person answers all of {list(self.form.question_ids)}.")
        entries = [_entry(item_id, answers, time or now()) | {"who": who} for item_id, answers in verdicts]
        with self._mutex:
            _put(self._adjudicated, self._adjudication.append(entries))
        return [verdict_of(entry, who, self.form) for entry in entries]

    def item_consensus(self, item_id: str) -> Consensus:
        """Return what is said of one item."""
        with self._mutex:
            verdicts = [self._current(name).get(item_id) for name in self._item_labelers(item_id)]
            return consensus_of(item_id, verdicts, self._settled().get(item_id), self.form.accepting)

    def consensus(self) -> dict[str, Consensus]:
        """Return what is said of every item, in the order of the items."""
        said = {name: self.verdicts(name) for name in self.labelers}
        settled = self.adjudications()
        return {
            item_id: consensus_of(
                item_id, [said[name].get(item_id) for name in who], settled.get(item_id), self.form.accepting
            )
            for item_id, who in self.assignment.items()
        }

    def kappa(self) -> list[Agreement]:
        """Return how far labelers agree: overall, in each batch, and of each pair where there are more than two."""
        batches = {item_id: item.batch or item.class_id for item_id, item in self.items.items()}
        return agreement(self.consensus().values(), batches, self.labelers)

    def gold_report(self) -> list[GoldReport]:
        """Return how each labeler did on the gold items."""
        gold, allowed = [i for i in self.items.values() if i.gold is not None], self.config.gold_tolerance
        return [gold_report(name, self.verdicts(name), gold, self.form, allowed) for name in self.labelers]

    def status(self) -> ReviewStatus:
        """Return how far the review is."""
        gold = {report.labeler: report for report in self.gold_report()}
        return review_status(
            self.config.name, self.consensus(), [self._labeler_status(n, gold[n]) for n in self.labelers]
        )

    def _labeler_status(self, labeler: str, gold: GoldReport) -> LabelerStatus:
        verdicts = self.verdicts(labeler).values()
        done = sum(v.complete for v in verdicts)
        items = sum(labeler in who for who in self.assignment.values())
        return LabelerStatus(labeler, items, done, len(verdicts) - done, pace(verdicts), gold)

    def _check_labeler(self, labeler: str) -> None:
        if labeler not in self.labelers:
            raise ConfigError(f"no labeler {labeler!r} in {self.path}: expected one of {', '.join(self.labelers)}.")

    def _item_labelers(self, item_id: str) -> tuple[str, ...]:
        if item_id not in self.assignment:
            raise DataError(f"no item {item_id!r} in {self.path}.")
        return self.assignment[item_id]

    def _current(self, labeler: str) -> dict[str, Verdict]:
        _put(self._verdicts[labeler], self._journals[labeler].read_new())
        return self._verdicts[labeler]

    def _settled(self) -> dict[str, Verdict]:
        _put(self._adjudicated, self._adjudication.read_new())
        return self._adjudicated

    def _read_entry(self, labeler: str, entry: Mapping[str, Any]) -> Verdict:
        verdict = verdict_of(entry, labeler, self.form)
        self._item_labelers(verdict.item_id)
        return verdict

    def _read_adjudication(self, entry: Mapping[str, Any]) -> Verdict:
        return self._read_entry(str(entry.get("who")), entry)


def _entry(item_id: str, answers: Mapping[str, str] | None, time: str) -> dict[str, Any]:
    return {"item": item_id, "answers": dict(answers) if answers else None, "time": time}


def _put(current: dict[str, Verdict], verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        current.pop(verdict.item_id, None)  # the latest comes last
        if verdict.answers:
            current[verdict.item_id] = verdict
