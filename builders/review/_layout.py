"""The files of a review.

review.json               form, labelers, seed
items.jsonl               one item per line
assignment.jsonl          one item per line: who judges it
media/                    images of the items that have no file elsewhere
journal/<labeler>.jsonl   every change of a verdict, in the order of acknowledgement; with the files above all there is
adjudication.jsonl        the same of third persons
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from spurious_imagenet.builders.review.forms import ReviewForm
from spurious_imagenet.builders.review.items import ReviewItem, write_items
from spurious_imagenet.errors import ConfigError, DataError, StoreError
from spurious_imagenet.io import atomic_directory
from spurious_imagenet.records import Record

SCHEMA_VERSION = 1
#: Labelers are known by pseudonyms that are file names too.
_LABELER = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class ReviewConfig(Record):
    """What a review is, apart from its items."""

    schema_version: int = SCHEMA_VERSION
    name: str
    form: ReviewForm
    labelers: tuple[str, ...]
    per_item: int
    seed: int
    gold_tolerance: float
    """Share of the gold items that a labeler may fail without a warning."""
    created: str


def write_review(
    path: str | Path,
    config: ReviewConfig,
    items: Iterable[ReviewItem],
    assignment: Mapping[str, Sequence[str]],
    media: Iterable[tuple[str, bytes]],
) -> None:
    """Write a review in which nobody has answered anything, whole or not at all.

    Raises:
        StoreError: ``path`` holds something.
    """
    with atomic_directory(path) as folder:
        for relative, data in media:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).write_bytes(data)
        write_items(folder / "items.jsonl", items)
        lines = [json.dumps({"item": i, "labelers": who}, ensure_ascii=False) for i, who in assignment.items()]
        (folder / "assignment.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "journal").mkdir()
        for labeler in config.labelers:
            (folder / "journal" / f"{labeler}.jsonl").touch()
        (folder / "adjudication.jsonl").touch()
        (folder / "review.json").write_text(config.to_json(), encoding="utf-8")


def check_pseudonym(name: str) -> None:
    """Refuse what is not a labeler's name.

    Raises:
        ConfigError: It is invalid.
    """
    if not _LABELER.fullmatch(name):
        raise ConfigError(
            f"{name!r} is not a labeler's name: expected up to 32 lower-case letters, digits, '-' and '_', "
            "with a letter or digit first."
        )


def check_labelers(labelers: Sequence[str]) -> None:
    """Refuse names that are invalid or given twice.

    Raises:
        ConfigError: There is such a name.
    """
    for name in labelers:
        check_pseudonym(name)
        if labelers.count(name) > 1:
            raise ConfigError(f"labeler {name!r} is named twice: each judges an item once.")


def check_items(items: Sequence[ReviewItem], form: ReviewForm) -> None:
    """Refuse no items, two of one id, and known answers that do not fit the form.

    Raises:
        DataError: That is so.
    """
    if not items:
        raise DataError("there is nothing to review: expected at least one item.")
    seen = set()
    for item in items:
        if item.item_id in seen:
            raise DataError(f"item {item.item_id!r} is there twice: expected each once.")
        seen.add(item.item_id)
        if item.gold is not None:
            form.check(item.gold, item.item_id)
            form.outcome(item.gold)


def read_config(path: Path) -> ReviewConfig:
    """Read ``review.json`` of the review at ``path``.

    Raises:
        StoreError: It is missing, unreadable or of another schema.
    """
    file = path / "review.json"
    if not file.is_file():
        raise StoreError(f"{path} is not a review: review.json is missing.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise StoreError(f"{file} has schema {version}: expected {SCHEMA_VERSION}.")
        return ReviewConfig.model_validate(content)
    except (OSError, ValueError, AttributeError) as error:
        raise StoreError(f"{file} cannot be read: {error}") from error


def read_assignment(path: Path, items: Mapping[str, ReviewItem], labelers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read item → labelers.

    Raises:
        StoreError: The file is unreadable, or of other items or labelers.
    """
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n")]
        found = {row["item"]: tuple(row["labelers"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if found.keys() != items.keys() or not {n for who in found.values() for n in who} <= set(labelers):
        raise StoreError(f"{path} does not fit the review's items and labelers.")
    return {item_id: known.setdefault(who, who) for item_id, who in found.items()}
