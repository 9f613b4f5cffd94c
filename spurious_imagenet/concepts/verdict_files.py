"""The files that verdicts are kept in: parquet, JSON lines, and a CSV for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from spurious_imagenet.concepts.verdict import ConceptVerdict, Vote
from spurious_imagenet.errors import ConfigError, DataError, one_line
from spurious_imagenet.io import atomic_path
from spurious_imagenet.tables import Columns, open_table, row_writer
from spurious_imagenet.texts import json_rows

__all__ = ["inert_cell", "original_text", "read_rows", "write_rows"]

_TEXT = pa.string()
_VOTE = pa.struct(
    [
        ("labeler", _TEXT),
        ("answer", _TEXT),
        ("confidence", pa.float64()),
        ("reason", _TEXT),
        ("time", _TEXT),
        ("role", _TEXT),
    ]
)
_SCHEMA = pa.schema(
    [
        ("concept_id", _TEXT),
        ("kind", _TEXT),
        ("class_index", pa.int32()),
        ("class_id", _TEXT),
        ("component", pa.int32()),
        ("verdict", _TEXT),
        ("source", _TEXT),
        ("votes", pa.list_(_VOTE)),
        ("name", _TEXT),
        ("weights_sha256", _TEXT),
    ]
)
_CONCEPT_COLUMNS = tuple(n for n in _SCHEMA.names if n != "votes")
_VOTE_COLUMNS = tuple(Vote.model_fields)
_COLUMNS = Columns(
    (*_CONCEPT_COLUMNS, *_VOTE_COLUMNS),
    required=("kind", "class_index", "class_id", "component", "verdict", "source"),
    remarks="above",
)

#: A spreadsheet reads a cell that begins so as a formula, or drops the mark; the apostrophe guards itself.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def inert_cell(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula; :func:`original_text` takes it off."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def original_text(cell: str) -> str:
    """Undo :func:`inert_cell`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_STARTS) else cell


def write_rows(path: Path, rows: tuple[ConceptVerdict, ...], comment: str) -> None:
    """Write verdicts in the form that the path's ending names."""
    form = _form(path, ConfigError)
    if comment and form is not _CSV:
        raise ConfigError(f"{path} cannot carry a comment: expected a .csv file.")
    with atomic_path(path) as temporary:
        form[0](temporary, rows, comment)


def read_rows(path: Path) -> tuple[ConceptVerdict, ...]:
    """Read verdicts of the form that the path's ending names."""
    form = _form(path, DataError)
    try:
        return tuple(_validated(path, number, row) for number, row in form[1](path))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as verdicts: {error}") from error


def _form(path: Path, error: type[ConfigError | DataError]) -> _Form:
    if path.suffix not in _FORMS:
        raise error(f"verdicts {path}: expected a file that ends in {', '.join(_FORMS)}.")
    return _FORMS[path.suffix]


def _validated(path: Path, number: int, row: dict[str, Any]) -> ConceptVerdict:
    try:
        return ConceptVerdict.model_validate(row)
    except ValidationError as error:
        raise DataError(f"{path}, row {number}: {one_line(error)}.") from None


def _write_parquet(path: Path, rows: tuple[ConceptVerdict, ...], _: str) -> None:
    table = pa.Table.from_pylist([r.model_dump() for r in rows], schema=_SCHEMA)
    pq.write_table(table, path, compression="zstd")


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise DataError(f"there is no verdicts file {path}.")
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        missing = [n for n in _SCHEMA.names if n not in names]
        if missing:
            raise DataError(f"{path} lacks the columns {missing}: expected verdicts with {_SCHEMA.names}.")
        number = 0
        for batch in file.iter_batches(1024, columns=_SCHEMA.names):
            for row in batch.to_pylist():
                number += 1
                yield number, row | {"votes": row["votes"] or ()}


def _write_jsonl(path: Path, rows: tuple[ConceptVerdict, ...], _: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row.model_dump(mode="json"), ensure_ascii=False, allow_nan=False) + "\n")


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return json_rows(path, "verdicts")


def _write_csv(path: Path, rows: tuple[ConceptVerdict, ...], comment: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
        write = row_writer(file)
        write(_CONCEPT_COLUMNS + _VOTE_COLUMNS)
        for row in rows:
            concept = [_cell(getattr(row, c)) for c in _CONCEPT_COLUMNS]
            for vote in row.votes or (None,):
                write(concept + [_cell(getattr(vote, c, None)) for c in _VOTE_COLUMNS])


def _cell(value: object) -> object:
    return inert_cell(value) if isinstance(value, str) else value


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read one vote per line; a verdict's votes stand together. Empty cells are null."""
    with open_table(path, "verdicts", _COLUMNS) as table:
        rows = ((row.number, {c: original_text(t) or None for c, t in row.cells.items()}) for row in table)
        for concept, group in groupby(rows, key=lambda row: [row[1].get(c) for c in _CONCEPT_COLUMNS]):
            votes = [(number, {c: cells.get(c) for c in _VOTE_COLUMNS}) for number, cells in group]
            given = [vote for _, vote in votes if any(vote.values())]
            yield votes[0][0], {**dict(zip(_CONCEPT_COLUMNS, concept, strict=True)), "votes": given}


_Rows = tuple[ConceptVerdict, ...]
_Form = tuple[Callable[[Path, _Rows, str], None], Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]]
_CSV: _Form = (_write_csv, _read_csv)
_FORMS: dict[str, _Form] = {
    ".parquet": (_write_parquet, _read_parquet),
    ".jsonl": (_write_jsonl, _read_jsonl),
    ".csv": _CSV,
}
