"""Tables that people made, as spreadsheets and scripts save them: every cell is text, and no column shifts unseen."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from spurious_imagenet.errors import DataError, SpuriousImagenetError
from spurious_imagenet.texts import meant, open_text

__all__ = ["Columns", "Table", "TableRow", "folded", "open_table", "row_writer"]

_SEPARATORS = (",", ";", "\t", "|")
_SHOWN = 20
_LONGEST = 60


@dataclass(frozen=True)
class Columns:
    """What a table's header must and may hold; case, blanks, ``-`` and ``_`` do not tell names apart.

    Attributes:
        known: Columns that have a meaning, under the names by which they are returned.
        required: Those of them that must be there.
        one_of: Of these at least one must be there.
        others: What to do about further columns: ``keep`` them; ``pass`` over them, named in :attr:`Table.unread`
            (one that looks like a slip for a missing known column is refused); or ``refuse`` them.
        remarks: Where lines that begin with ``#`` are remarks: ``above`` the header, ``anywhere``, or ``nowhere``.
    """

    known: tuple[str, ...]
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    others: Literal["keep", "pass", "refuse"] = "refuse"
    remarks: Literal["above", "anywhere", "nowhere"] = "nowhere"

    def name(self, header: str) -> str:
        """Return the known column that a header means, or the header as it is."""
        text = header.strip()
        return text if text in self.known else next((k for k in self.known if folded(k) == folded(text)), text)

    def lacks(self, names: Sequence[str]) -> str | None:
        """Say what must be there and is not among the names."""
        if missing := [c for c in self.required if c not in names]:
            lost = "" if len(missing) == len(self.required) else f", but there is no {_listed(missing)}"
            return f"expected {_listed(self.required)}{lost}"
        if self.one_of and not set(self.one_of) & set(names):
            return f"expected one of {', '.join(self.one_of)}"
        return None


class TableRow(NamedTuple):
    """One row.

    Attributes:
        where: File and row, for messages.
        number: The row as a spreadsheet counts, with the header as row 1 where nothing stands above it.
        cells: Column -> text.
    """

    where: str
    number: int
    cells: dict[str, str]


@contextmanager
def open_table(
    path: str | Path, what: str, columns: Columns, error: type[SpuriousImagenetError] = DataError
) -> Iterator[Table]:
    """Open a table whose cells are separated by commas, semicolons, tabs or bars.

    Encodings are those of :func:`open_text`. Rows of nothing but separators are counted and passed over, and so are
    empty cells beyond the header's; a row of another width is refused, as its columns may have shifted.

    Args:
        path: The file.
        what: What it is to the user, such as ``metadata``; the sentences begin with it.
        columns: What it holds.
        error: What is raised.

    Raises:
        SpuriousImagenetError: Of the type ``error``: what is wrong with the header; reading the rows says what is
            wrong with one.
    """
    with open_text(path, what, error) as file:
        yield Table(file, f"{what} {path}", columns, error)


class Table:
    """The rows of an open table, read once.

    Attributes:
        columns: Names of the columns whose cells are read.
        unread: Headers of those that are passed over.
        blank: Rows so far that hold nothing.
    """

    def __init__(self, file: TextIO, where: str, columns: Columns, error: type[SpuriousImagenetError]) -> None:
        self._where, self._error, self._wanted = where, error, columns
        self._lines = _Lines(file, columns)
        self.blank = 0
        self._number = 0
        names = self._header(self._lines.first())
        self._width = len(names)
        self._named = max((place for place, name in enumerate(names, start=1) if name), default=0)
        self._places = {name: place for place, name in enumerate(names) if name and self._is_read(name)}
        self.columns = tuple(self._places)
        self.unread = tuple(name for name in names if name and name not in self._places)
        self._nameless = [place for place, name in enumerate(names) if not name]

    def __iter__(self) -> Iterator[TableRow]:
        for cells in self._records():
            if not any(cell.strip() for cell in cells):
                self.blank += 1
                continue
            where = f"{self._where}, row {self._number}"
            self._refuse_shifted(cells, where)
            yield TableRow(where, self._number, {name: cells[place] for name, place in self._places.items()})

    def _records(self) -> Iterator[list[str]]:
        while True:
            self._lines.begins = True
            try:
                cells = next(self._reader, None)
            except csv.Error as problem:
                number = self._number + self._lines.take_remarks() + 1
                raise self._error(
                    f"{self._where}, row {number} cannot be read as CSV: {problem}; is a quotation mark open, or not "
                    "doubled within a quoted cell?"
                ) from None
            if cells is None:
                return
            self._number += self._lines.take_remarks() + 1
            yield cells

    def _header(self, line: str) -> list[str]:
        separator = self._lines.separator or _separator(line, self._wanted)
        # A row cannot be told from a longer one by its cells' blanks: `a, "b, c"` has two cells.
        self._reader = csv.reader(
            chain([line] if line else [], self._lines), delimiter=separator, skipinitialspace=True, strict=True
        )
        names = [self._wanted.name(cell) for cell in next(self._records(), [])]
        shown = f"{self._where}, row {max(self._number, 1)}: got the columns {_short([n for n in names if n])}"
        if lack := self._wanted.lacks(names):
            raise self._error(f"{shown}: {lack}.")
        if twice := [name for name, times in Counter(names).items() if name and times > 1]:
            raise self._error(f"{shown}: {twice[0]!r} is a column name twice, expected each once.")
        self._refuse_strangers(names, shown)
        return names

    def _refuse_strangers(self, names: Sequence[str], shown: str) -> None:
        strange = [name for name in names if name and name not in self._wanted.known]
        if self._wanted.others == "refuse" and strange:
            raise self._error(
                f"{shown}, but {strange[0][:_LONGEST]!r} is not known: expected {', '.join(self._wanted.known)}."
            )
        absent = [name for name in self._wanted.known if name not in names]
        for name in strange if self._wanted.others == "pass" else ():
            if close := meant(name, absent):
                raise self._error(f"{shown}: did you mean {close!r} by {name[:_LONGEST]!r}? Rename that column.")

    def _is_read(self, name: str) -> bool:
        return self._wanted.others == "keep" or name in self._wanted.known

    def _refuse_shifted(self, cells: list[str], where: str) -> None:
        beyond = [cell for cell in cells[self._width :] if cell.strip()]
        if len(cells) < self._named or beyond:
            raise self._error(
                f"{where}: got {len(cells)} cells, expected {self._width} as in the header; a cell that holds the "
                "separator needs quotation marks around it."
            )
        lost = [cells[p] for p in self._nameless if p < len(cells) and cells[p].strip()]
        if lost:
            raise self._error(
                f"{where}: {lost[0][:_LONGEST]!r} stands in a column without a name: give it one in the header; a cell "
                "that holds the separator needs quotation marks around it."
            )


def row_writer(file: TextIO) -> Callable[[Sequence[object]], object]:
    """Return what writes rows of commas that :class:`Table` reads as they were; None is an empty cell."""
    plain = csv.writer(file, lineterminator="\n")
    # Blanks before a cell are read as a person's habit, not as its text, unless it is quoted; and a lone \r ends a row.
    quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(cells: Sequence[object]) -> object:
        fragile = any(isinstance(cell, str) and (cell.startswith(" ") or "\r" in cell) for cell in cells)
        return (quoting if fragile else plain).writerow(cells)

    return write


class _Lines:
    """Lines for the CSV reader, without remarks: those stand only where a row begins, not within a quoted cell."""

    def __init__(self, file: TextIO, columns: Columns) -> None:
        self._file, self._columns = file, columns
        self._above = True
        self._remarks = 0
        self.begins = False
        self.separator = ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        while self.begins and self._is_remark(line):
            self._remarks += 1
            line = next(self._file)
        self.begins = False
        return line

    def first(self) -> str:
        """Return the header's first line; empty where there is none."""
        for line in self._file:
            text = line.strip()
            if len(text) == 5 and text[:4].casefold() == "sep=" and text[4] in _SEPARATORS:
                self.separator = text[4]  # how Excel is told; it does not show this row
            elif not text.strip(",;\t| ") or self._is_remark(line):
                self._remarks += 1
            else:
                self._above = False
                return line
        return ""

    def take_remarks(self) -> int:
        """Return how many lines were passed over since the last call."""
        passed, self._remarks = self._remarks, 0
        return passed

    def _is_remark(self, line: str) -> bool:
        where = self._columns.remarks
        return (where == "anywhere" or (where == "above" and self._above)) and line.lstrip('"').startswith("#")


def _separator(line: str, columns: Columns) -> str:
    """Choose the separator by which the header has the most known columns, then the most columns."""

    def found(separator: str) -> tuple[bool, int, int]:
        names = [columns.name(cell.strip().strip('"')) for cell in line.split(separator)]
        return columns.lacks(names) is None, len(set(names) & set(columns.known)), len(names)

    return max(_SEPARATORS, key=found)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def folded(name: str) -> str:
    """Return what is left of a column's name where case, blanks, ``-`` and ``_`` do not count."""
    return "".join(c for c in name.casefold() if c not in " _-")


def _short(names: Sequence[str]) -> str:
    text = repr([name[:_LONGEST] for name in names[:_SHOWN]])
    return text if len(names) <= _SHOWN else f"{text[:-1]}, …]"
