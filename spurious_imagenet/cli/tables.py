"""Tables for a terminal of any width: a number or a heading is never cut, long names fold."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Sheet", "note", "plain", "results"]

#: Names may be folded down to this many columns.
_NAME = 12


def results() -> Console:
    """Return the console for results, on standard output; what goes into a file or a pipe has no width."""
    console = Console(highlight=False)
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        console.width = 10_000
    return console


def note(text: str) -> None:
    """Print a paragraph, broken between words."""
    results().print(plain(" ".join(text.split())))


def plain(text: str) -> Text:
    """Make text that strangers wrote inert: no markup, no control characters, none that turn the direction."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text))


@dataclass
class Sheet:
    """Rows under headings.

    A cell of several lines says the same thing at several depths, such as a value and its interval. A sheet that is
    wider than the terminal breaks its headings between words, then folds its names, and where that is not enough
    becomes a list of rows.

    Attributes:
        columns: Headings.
        words: Those of them that hold words; all others hold numbers and stand to the right.
        title: Printed above.
    """

    columns: tuple[str, ...]
    words: Container[str]
    title: str = ""
    _rows: list[tuple[Text, ...] | Text] = field(default_factory=list)

    def row(self, *cells: str | Text) -> None:
        """Add a row, a cell for each column."""
        assert len(cells) == len(self.columns), cells
        self._rows.append(tuple(c if isinstance(c, Text) else plain(c) for c in cells))

    def section(self, title: str = "") -> None:
        """Begin a group of rows."""
        self._rows.append(Text(title, "bold"))

    def print(self) -> None:
        """Print to standard output."""
        console = results()
        if self.title:
            console.print(plain(self.title), style="italic")
        for gap, headings in ((2, self.columns), (2, self._broken()), (1, self._broken())):
            if (widths := self._widths(headings, gap, console.width)) is not None:
                console.print(self._table(headings, widths, gap))
                return
        for line in self._list(console.width):
            console.print(line)

    def _cells(self, column: int) -> Iterator[Text]:
        return (row[column] for row in self._rows if isinstance(row, tuple))

    def _broken(self) -> tuple[str, ...]:
        """Break headings of numbers where that makes their columns narrower."""
        return tuple(
            h if h in self.words else _break(h, max(map(_width, self._cells(i)), default=0))
            for i, h in enumerate(self.columns)
        )

    def _widths(self, headings: tuple[str, ...], gap: int, width: int) -> list[int] | None:
        """Return how wide each column is, names folded as little as possible; None where it does not fit."""
        wanted = [max(_width(Text(h)), *map(_width, self._cells(i)), 0) for i, h in enumerate(headings)]
        titles = max((_width(row) for row in self._rows if isinstance(row, Text)), default=0)
        wanted[0] = max(wanted[0], titles)
        room = width - gap * (len(headings) - 1)
        names = [i for i, h in enumerate(self.columns) if h in self.words]
        least = {i: min(wanted[i], max(_NAME, _width(Text(headings[i])), 0 if i else titles)) for i in names}
        while sum(wanted) > room:
            loose = [i for i in names if wanted[i] > least[i]]
            if not loose:
                return None
            wanted[max(loose, key=lambda i: wanted[i])] -= 1
        return wanted

    def _table(self, headings: tuple[str, ...], widths: list[int], gap: int) -> Table:
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, gap - 1, 0, 0), pad_edge=False)
        for heading, width in zip(headings, widths, strict=True):
            name = heading in self.words
            table.add_column(
                Text(heading), justify="left" if name else "right", width=width, overflow="fold", no_wrap=not name
            )
        for row in self._rows:
            if isinstance(row, tuple):
                table.add_row(*row)
            else:
                table.add_section()
                if row:
                    table.add_row(row)
        return table

    def _list(self, width: int) -> Iterator[Text]:
        for row in self._rows:
            if isinstance(row, Text):
                yield row
                continue
            yield Text.assemble((row[0].plain.replace("\n", " "), "bold"))
            line = Text("  ")
            for heading, cell in zip(self.columns[1:], row[1:], strict=True):
                if not cell:
                    continue
                pair = Text.assemble((f"{heading} ".lstrip(), "dim"), _on_one_line(cell))
                if len(line) > 2 and line.cell_len + 2 + pair.cell_len > width:
                    yield line
                    line = Text("  ")
                line = line + pair if len(line) == 2 else Text.assemble(line, "  ", pair)
            yield line


def _on_one_line(cell: Text) -> Text:
    value, *more = cell.split("\n")
    return value if not more else Text.assemble(value, " (", Text(" ").join(more), ")")


def _width(text: Text) -> int:
    return max((cell_len(line) for line in text.plain.split("\n")), default=0)


def _break(heading: str, width: int) -> str:
    """Break a heading between words, as narrow as its longest word or, if wider, its cells."""
    words = re.split(r" (?![↑↓])", heading)
    lines, least = [""], max(width, *map(cell_len, words))
    for word in words:
        joined = f"{lines[-1]} {word}".strip()
        if cell_len(joined) <= least:
            lines[-1] = joined
        else:
            lines.append(word)
    return "\n".join(lines)
