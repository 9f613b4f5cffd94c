"""Sheets: reviews answered in a spreadsheet or by a script, as CSV or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spurious_imagenet.builders.review.consensus import State
from spurious_imagenet.builders.review.forms import ANSWERS, KEYS, ReviewForm
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.review import Review
from spurious_imagenet.concepts.verdict_files import inert_cell, original_text
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.io import atomic_path
from spurious_imagenet.tables import Columns, open_table, row_writer
from spurious_imagenet.texts import json_rows

__all__ = [
    "Imported",
    "SheetRow",
    "export_disagreements",
    "export_sheet",
    "import_adjudications",
    "import_sheet",
    "read_sheet",
    "refuse_repeated",
]

#: Columns of a sheet before those of the questions; of a sheet that is read only ``item_id`` must be there.
_ABOUT = ("item_id", "labeler", "class_name", "class_id", "concept_id", "media", "board", "references")


@dataclass(frozen=True)
class SheetRow:
    """A row of a sheet.

    Attributes:
        where: File and row, for messages; rows are counted as a spreadsheet does, with the header as row 1.
        item_id: The item.
        labeler: Who answers; None where the sheet does not say.
        answers: Question → answer; without the questions that are left empty.
        unread: Columns of its sheet that are neither known nor a question, such as remarks.
    """

    where: str
    item_id: str
    labeler: str | None
    answers: dict[str, str]
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """What became of a sheet's rows.

    Attributes:
        recorded: Rows that were new or changed something.
        unchanged: Rows that say what the review says already.
        empty: Rows without an answer.
        unread: Columns that were passed over, such as remarks.
    """

    recorded: int
    unchanged: int
    empty: int
    unread: tuple[str, ...] = ()


def export_sheet(review: Review, labeler: str, out: str | Path) -> int:
    """Write a labeler's items, in their own order, with their own answers and nobody else's.

    Args:
        review: The review.
        labeler: Who is to answer.
        out: ``.csv`` or ``.jsonl``; in a CSV no cell is a formula.

    Returns:
        Rows written.

    Raises:
        ConfigError: There is no such labeler, or the ending is neither.
    """
    said = review.verdicts(labeler)
    queue = review.queue(labeler)
    answers = [said[i].answers if i in said else {} for i in queue]
    return _write(review, out, queue, labeler, answers)


def export_disagreements(review: Review, out: str | Path) -> int:
    """Write the items on which labelers differ, without what they said, for a third person to answer."""
    differ = [c.item_id for c in review.consensus().values() if c.state is State.DISAGREED]
    return _write(review, out, differ, "", [{} for _ in differ])


def import_sheet(review: Review, path: str | Path, labeler: str | None = None) -> Imported:
    """Record the answers of a sheet: all of its rows, or none where one is wrong.

    Rows without an answer change nothing, nor do rows that the review has already.

    Args:
        review: The review.
        path: ``.csv`` or ``.jsonl`` with ``item_id``, a column a question and, where ``labeler`` is not given,
            ``labeler``.
        labeler: Whose answers these are.

    Raises:
        DataError: The sheet is unreadable, or a row is of an unknown item, another labeler's or an unknown answer; the
            sentence names the row.
        ConfigError: The ending is neither, or there is no such labeler.
    """
    rows = list(read_sheet(path, review.form, review.items))
    by_labeler: dict[str, list[SheetRow]] = {}
    for row in rows:
        by_labeler.setdefault(_who(row, labeler, review), []).append(row)
    given = {name: [r for r in own if r.answers] for name, own in by_labeler.items()}
    changed: dict[str, list[SheetRow]] = {}
    for name, own in given.items():
        refuse_repeated(own)
        said = review.verdicts(name)
        changed[name] = [r for r in own if r.item_id not in said or said[r.item_id].answers != r.answers]
    for name, own in changed.items():
        review.record_many(name, [(row.item_id, row.answers) for row in own])
    recorded, answered = sum(map(len, changed.values())), sum(map(len, given.values()))
    return Imported(recorded, answered - recorded, len(rows) - answered, _unread(rows))


def import_adjudications(review: Review, who: str, path: str | Path) -> Imported:
    """Record a third person's sheet: all of its rows, or none where one is wrong.

    Raises:
        DataError: The sheet is unreadable, or a row does not fit; the sentence names it.
        ConfigError: The ending is neither, or the third person judged one of the items.
    """
    rows = list(read_sheet(path, review.form, review.items))
    given = [row for row in rows if row.answers]
    refuse_repeated(given)
    settled = review.adjudications()
    changed = [r for r in given if r.item_id not in settled or settled[r.item_id].answers != r.answers]
    review.adjudicate_many(who, [(row.item_id, row.answers) for row in changed])
    return Imported(len(changed), len(given) - len(changed), len(rows) - len(given), _unread(rows))


def read_sheet(path: str | Path, form: ReviewForm, items: Container[str]) -> Iterator[SheetRow]:
    """Read a sheet's rows; answers may be ``yes``, ``no``, ``unclear`` or their first letters.

    Args:
        path: ``.csv`` or ``.jsonl`` with ``item_id`` and a column a question.
        form: What is asked.
        items: Ids of the items that may be answered.

    Raises:
        DataError: The sheet is unreadable, or a row has an unknown item or answer; the sentence names the row.
        ConfigError: The ending is neither ``.csv`` nor ``.jsonl``.
    """
    file = Path(path)
    if file.suffix not in {".csv", ".jsonl"}:
        raise ConfigError(f"sheet {file}: expected a file that ends in .csv or .jsonl.")
    questions = form.question_ids
    for where, cells, unread in _csv_rows(file, questions) if file.suffix == ".csv" else _jsonl_rows(file):
        yield replace(_row(where, cells, form, items), unread=unread)


def _row(where: str, cells: Mapping[str, str], form: ReviewForm, items: Container[str]) -> SheetRow:
    questions = form.question_ids
    if unknown := [c for c in cells if c not in _ABOUT and c not in questions]:
        raise DataError(f"{where}: column {unknown[0][:60]!r} is not known, expected some of {[*_ABOUT, *questions]}.")
    item_id = cells.get("item_id", "")
    item_id = item_id if item_id in items else item_id.strip()
    if not item_id or not any(q in cells for q in questions):
        raise DataError(f"{where}: expected item_id and answers to {list(questions)}, got {sorted(cells)}.")
    if item_id not in items:
        raise DataError(f"{where}: there is no item {item_id[:100]!r}.")
    answers = {}
    for question in questions:
        if text := cells.get(question, "").strip().lower():
            answers[question] = KEYS.get(text, text)
            if answers[question] not in ANSWERS:
                raise DataError(
                    f"{where}: {text[:40]!r} is not an answer to {question!r}, expected yes, no or unclear."
                )
    return SheetRow(where, item_id, cells.get("labeler", "").strip() or None, answers)


def _who(row: SheetRow, labeler: str | None, review: Review) -> str:
    who = row.labeler or labeler
    if who is None:
        raise DataError(f"{row.where}: no labeler, expected a column `labeler` or --labeler.")
    if who not in review.labelers:
        raise DataError(f"{row.where}: the review has no labeler {who[:40]!r}.")
    if labeler not in {None, who}:
        raise DataError(f"{row.where}: the row is {who}'s, expected {labeler}'s alone.")
    if who not in review.assignment[row.item_id]:
        raise DataError(f"{row.where}: item {row.item_id!r} is not one of {who}'s.")
    return who


def _unread(rows: Sequence[SheetRow]) -> tuple[str, ...]:
    return rows[0].unread if rows else ()


def refuse_repeated(rows: Iterable[SheetRow]) -> None:
    """Refuse rows of which two are of one item.

    Raises:
        DataError: There are such; the sentence names both.
    """
    seen: dict[str, str] = {}
    for row in rows:
        if row.item_id in seen:
            raise DataError(f"{row.where}: item {row.item_id!r} is answered twice, first in {seen[row.item_id]}.")
        seen[row.item_id] = row.where


def _csv_rows(path: Path, questions: Sequence[str]) -> Iterator[tuple[str, dict[str, str], tuple[str, ...]]]:
    columns = Columns((*_ABOUT, *questions), required=("item_id",), others="pass", remarks="above")
    with open_table(path, "sheet", columns) as table:
        for row in table:
            yield row.where, {column: original_text(cell) for column, cell in row.cells.items()}, table.unread


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, str], tuple[str, ...]]]:
    for number, content in json_rows(path, "sheet"):
        where = f"sheet {path}, row {number}"
        cells = {k: v for k, v in content.items() if v is not None and k != "references"}
        if strange := [k for k, v in cells.items() if not isinstance(v, str)]:
            raise DataError(f"{where}: {strange[0][:60]!r} is not text.")
        yield where, cells, ()


def _write(
    review: Review, out: str | Path, queue: Sequence[str], labeler: str, answers: Sequence[Mapping[str, str]]
) -> int:
    path, questions = Path(out), review.form.question_ids
    if path.suffix not in {".csv", ".jsonl"}:
        raise ConfigError(f"sheet {path}: expected a file that ends in .csv or .jsonl.")
    rows = [
        _about(review, review.items[item_id], labeler) | {q: given.get(q, "") for q in questions}
        for item_id, given in zip(queue, answers, strict=True)
    ]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            write, columns = row_writer(file), [*_ABOUT, *questions]
            write(columns)
            for row in rows:
                write([inert_cell(_cell(row[column])) for column in columns])
    return len(rows)


def _about(review: Review, item: ReviewItem, labeler: str) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "labeler": labeler,
        "class_name": item.class_name,
        "class_id": item.class_id,
        "concept_id": item.concept_id or "",
        "media": str(review.media_path(item.media)),
        "board": str(review.media_path(item.board)) if item.board else "",
        "references": [str(review.media_path(r)) for r in item.references],
    }


def _cell(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ; ".join(value)
