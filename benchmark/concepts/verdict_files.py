"""The files that verdicts are kept in: parquet, JSON lines, and a CSV for people."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from spurious_imagenet.benchmark.concepts.verdicts import ConceptVerdict, Vote
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.io import atomic_path

__all__ = ["first_problem", "inert_cell", "original_text", "read_rows", "skip_comment", "write_rows"]

_TEXT = pa.string()
_VOTE = pa.struct(
    [("labeler", _TEXT), ("answer", _TEXT), ("confidence", pa.float64()), ("reason", _TEXT), ("time", _TEXT)]
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

#: A spreadsheet reads a cell that begins so as a formula, or drops the mark; the apostrophe guards itself.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
_MAX_LINE = 4 << 20


def inert_cell(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula; :func:`original_text` takes it off."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def original_text(cell: str) -> str:
    """Undo :func:`inert_cell`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_STARTS) else cell


def skip_comment(file: TextIO) -> int:
    """Go to the first line that does not begin with ``#``: above a table may stand who judged, and how.

    Returns:
        How many lines were skipped.
    """
    skipped, start = 0, file.tell()
    while file.readline(_MAX_LINE).startswith("#"):
        skipped, start = skipped + 1, file.tell()
    file.seek(start)
    return skipped


def first_problem(error: ValidationError) -> str:
    """Say in a few words what is wrong with a row, with a short excerpt of what was got."""
    first = error.errors(include_url=False)[0]
    got = repr(first["input"])
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']} (got {got if len(got) <= 60 else got[:57] + '...'})"


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
    except (OSError, UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as verdicts: {error}") from error


def _form(path: Path, error: type[ConfigError | DataError]) -> _Form:
    if path.suffix not in _FORMS:
        raise error(f"verdicts {path}: expected a file that ends in {', '.join(_FORMS)}.")
    return _FORMS[path.suffix]


def _validated(path: Path, number: int, row: dict[str, Any]) -> ConceptVerdict:
    try:
        return ConceptVerdict.model_validate(row)
    except ValidationError as error:
        raise DataError(f"{path}, row {number}: {first_problem(error)}.") from None


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
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise DataError(f"{path}, row {number} is no JSON of at most {_MAX_LINE >> 20} MiB.") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, row {number} is no JSON object.")
            yield number, row


def _write_csv(path: Path, rows: tuple[ConceptVerdict, ...], comment: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_CONCEPT_COLUMNS + _VOTE_COLUMNS)
        for row in rows:
            concept = [_cell(getattr(row, c)) for c in _CONCEPT_COLUMNS]
            for vote in row.votes or (None,):
                writer.writerow(concept + [_cell(getattr(vote, c, None)) for c in _VOTE_COLUMNS])


def _cell(value: object) -> object:
    return inert_cell(value) if isinstance(value, str) else value


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read one vote a line; a verdict's votes stand together. Empty cells are null."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        comments = skip_comment(file)
        lines = csv.reader(file, strict=True)
        header = next(lines, [])
        if header != [*_CONCEPT_COLUMNS, *_VOTE_COLUMNS]:
            raise DataError(f"{path} has the columns {header[:20]}: expected {[*_CONCEPT_COLUMNS, *_VOTE_COLUMNS]}.")
        rows = _numbered(path, lines, len(header), first=comments + 2)
        split = len(_CONCEPT_COLUMNS)
        for concept, group in groupby(rows, key=lambda numbered: numbered[1][:split]):
            votes = list(group)
            found = [dict(zip(_VOTE_COLUMNS, cells[split:], strict=True)) for _, cells in votes if any(cells[split:])]
            yield votes[0][0], {**dict(zip(_CONCEPT_COLUMNS, concept, strict=True)), "votes": found}


def _numbered(path: Path, lines: Iterable[list[str]], width: int, first: int) -> Iterator[tuple[int, list[str | None]]]:
    for number, cells in enumerate(lines, start=first):
        if len(cells) != width:
            raise DataError(f"{path}, row {number} has {len(cells)} cells: expected {width}.")
        yield number, [original_text(c) or None for c in cells]


_Rows = tuple[ConceptVerdict, ...]
_Form = tuple[Callable[[Path, _Rows, str], None], Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]]
_CSV: _Form = (_write_csv, _read_csv)
_FORMS: dict[str, _Form] = {
    ".parquet": (_write_parquet, _read_parquet),
    ".jsonl": (_write_jsonl, _read_jsonl),
    ".csv": _CSV,
}
