"""Reviews made of what other stages have written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from pydantic import PositiveInt, model_validator

from spurious_imagenet.builders.review._candidates import candidate_media, items_from_candidates
from spurious_imagenet.builders.review.forms import BUNDLED, ReviewForm, load_form
from spurious_imagenet.builders.review.items import ReviewItem, items_from_boards, items_from_file
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.builders.review.sheets import read_sheet, refuse_repeated
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.records import Record

__all__ = ["ReviewSource", "make_review"]


class ReviewSource(Record):
    """What is to be judged: boards, candidates (with boards beside them, if there are any), or items from a file."""

    boards: Path | None = None
    candidates: Path | None = None
    items: Path | None = None
    form: str | None = None
    """A bundled form's name, or a file; None: the bundled form of the items' kind."""
    gold: Path | None = None
    """Sheet with the known answers of some of the items."""
    concepts: tuple[str, ...] = ()
    """Judge these concept ids only."""
    per_concept: PositiveInt | None = None
    """At most so many candidates per concept."""
    shards: tuple[str, ...] = ()
    """Where the candidates' shards are now, if they are not where the candidates say."""
    allow_pipe: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        others = self.boards or self.candidates or self.concepts
        if not (self.boards or self.candidates or self.items) or (self.items and others):
            raise ValueError("expected --boards, --candidates (with or without --boards), or --items alone")
        if self.per_concept is not None and self.candidates is None:
            raise ValueError("--per-concept counts candidates: expected --candidates with it")
        return self


def make_review(
    source: ReviewSource,
    out: str | Path,
    *,
    name: str,
    labelers: Sequence[str],
    per_item: int = 2,
    seed: int = 0,
    gold_tolerance: float = 0.1,
) -> Review:
    """Make a review of what other stages have written; see :meth:`Review.create` for the other arguments.

    Args:
        source: What is to be judged, and by which form.
        out: New folder.
        name: What the review is called.
        labelers: Who judges.
        per_item: Labelers an item.
        seed: Decides assignment and orders.
        gold_tolerance: Share of the gold items that a labeler may fail without a warning.

    Raises:
        ConfigError: An option cannot be used, or no bundled form fits the items.
        DataError: What is to be judged is not what it must be.
        StoreError: It cannot be read, or ``out`` holds something.
    """
    media: Iterable[tuple[str, bytes]] = ()
    if source.candidates is not None:
        found = items_from_candidates(
            source.candidates, source.boards, concepts=source.concepts, per_concept=source.per_concept
        )
        media = candidate_media(source.candidates, found, shards=source.shards, allow_pipe=source.allow_pipe)
    elif source.boards is not None:
        found = items_from_boards(source.boards, source.concepts)
    else:
        found = items_from_file(source.items or "")
    form = _form(source.form, found)
    if source.gold is not None:
        found = _with_gold(found, form, source.gold)
    return Review.create(out, name, form, found, labelers, per_item, seed, media=media, gold_tolerance=gold_tolerance)


def _form(name: str | None, items: Sequence[ReviewItem]) -> ReviewForm:
    if name is not None:
        return load_form(name)
    kinds = sorted({item.kind for item in items})
    if len(kinds) == 1 and kinds[0] in BUNDLED:
        return load_form(kinds[0])
    raise ConfigError(f"--form is missing: no bundled form fits items of the kinds {kinds}.")


def _with_gold(items: Sequence[ReviewItem], form: ReviewForm, path: Path) -> list[ReviewItem]:
    known = {}
    rows = list(read_sheet(path, form, {item.item_id for item in items}))
    refuse_repeated(rows)
    for row in rows:
        if not form.is_complete(row.answers):
            raise DataError(f"{row.where}: known answers must answer all of {list(form.question_ids)}.")
        known[row.item_id] = row.answers
    return [replace(item, gold=known.get(item.item_id, item.gold)) for item in items]
