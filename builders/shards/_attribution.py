"""Rows of a metadata CSV, found by image; the CSV may be larger than memory."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import NamedTuple

from spurious_imagenet.errors import DataError
from spurious_imagenet.tables import Columns, Table, open_table

#: Columns that name the image, first match wins; the value is its path, its name or its stem.
KEY_COLUMNS = ("ImageID", "image_id", "file_name", "filename")

_SHOWN = 3
#: Ways to say which image a row is of, the surest first, as SQL on an image `f` and a row `r`.
_BY_PATH = ("r.id = f.path", "r.alike = f.path", "r.alike = f.bare")
_BY_NAME = ("f.name", "f.stem")


class Coverage(NamedTuple):
    """How the rows of a table and the images of a folder fit together.

    Attributes:
        images: Images in the folder.
        without_row: Images of which the table says nothing.
        images_shown: Some of them.
        rows: Rows of the table.
        unused: Rows of which the folder has no image.
        rows_shown: What some of these call their image.
    """

    images: int
    without_row: int
    images_shown: tuple[str, ...]
    rows: int
    unused: int
    rows_shown: tuple[str, ...]


class AttributionTable(AbstractContextManager["AttributionTable"]):
    """The rows of a CSV by image, in a temporary database on disk.

    Cells are text and stay text. Row numbers count the header as row 1, as spreadsheets do.

    Args:
        path: A table as :func:`open_table` reads it, with a header and one of the columns :data:`KEY_COLUMNS`.
        scratch: Directory for the temporary database; the system's by default.

    Raises:
        DataError: No such column, a row of another width, no or a repeated image id, or no table at all.
    """

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        self.path = path
        self._directory = tempfile.TemporaryDirectory(dir=scratch, prefix=".tmp-attribution-")
        self._rows = sqlite3.connect(Path(self._directory.name) / "rows.sqlite")
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary database."""
        self._rows.close()
        self._directory.cleanup()

    def match(self, files: Iterable[str]) -> Coverage:
        """Find the row of each image: by its path, or by its bare name where only one image and one row have it.

        Args:
            files: Paths of all images, relative to the packed folder.

        Raises:
            DataError: A row could be of two images or an image could have two rows, or no row is of any image.
        """
        self._rows.execute("DELETE FROM files")
        self._rows.executemany("INSERT INTO files VALUES (?, ?, ?, ?, NULL)", (_names(file) for file in files))
        self._rows.executescript(
            "CREATE INDEX IF NOT EXISTS by_name ON files (name);CREATE INDEX IF NOT EXISTS by_stem ON files (stem);"
        )
        for same in _BY_PATH:
            self._rows.execute(
                f"UPDATE files AS f SET row = (SELECT number FROM rows AS r WHERE {same}) WHERE row IS NULL"  # noqa: S608 - own words
            )
        for name in _BY_NAME:
            self._refuse_ambiguous(name)
            self._rows.execute(
                f"UPDATE files AS f SET row = (SELECT number FROM rows AS r WHERE r.id = {name}) WHERE row IS NULL"  # noqa: S608
            )
        self._refuse_shared()
        return self._coverage()

    def find(self, file: str) -> dict[str, str] | None:
        """Return the row of an image among those that were matched, None where the table has none."""
        query = "SELECT cells FROM rows WHERE number = (SELECT row FROM files WHERE path = ?)"
        with closing(self._rows.execute(query, (_text(file),))) as found:
            row = found.fetchone()
        return None if row is None else dict(zip(self.columns, json.loads(row[0]), strict=True))

    def _load(self) -> None:
        self._rows.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;"
            "CREATE TABLE rows (number INTEGER PRIMARY KEY, id TEXT, alike TEXT, name TEXT, cells TEXT);"
            "CREATE TABLE files (path TEXT PRIMARY KEY, bare TEXT, name TEXT, stem TEXT, row INTEGER) WITHOUT ROWID;"
        )
        columns = Columns(known=KEY_COLUMNS, one_of=KEY_COLUMNS, others="keep")
        with open_table(self.path, "metadata", columns) as table:
            self.columns = table.columns
            self._rows.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", self._parse(table))
        for column in ("id", "alike", "name"):
            self._rows.execute(f"CREATE INDEX by_{column}_of_row ON rows ({column})")
        self._refuse_duplicates()

    def _parse(self, table: Table) -> Iterator[tuple[int, str, str, str, str]]:
        key = next(column for column in KEY_COLUMNS if column in self.columns)
        for row in table:
            identifier = row.cells[key].strip()
            if not identifier:
                raise DataError(f"{row.where}: {key} is empty, expected the image that the row is of.")
            alike = identifier.replace("\\", "/").removeprefix("./")
            yield row.number, identifier, alike, alike.rpartition("/")[2], json.dumps([*row.cells.values()])

    def _refuse_duplicates(self) -> None:
        query = "SELECT alike, COUNT(*), GROUP_CONCAT(number) FROM rows GROUP BY alike HAVING COUNT(*) > 1 LIMIT 1"
        twice = self._rows.execute(query).fetchone()
        if twice is not None:
            identifier, count, numbers = twice
            listed = ", ".join(sorted(numbers.split(","), key=int)[:10])
            raise DataError(
                f"metadata {self.path} names image {identifier!r} {count} times (rows {listed}): expected once."
            )

    def _refuse_ambiguous(self, name: str) -> None:
        """Refuse a row with a bare name that several images have, or several rows; SQL's ``name`` is one of ours."""
        images = self._rows.execute(
            f"SELECT r.number, r.id, f.path, g.path FROM files f JOIN rows r ON r.id = {name} "  # noqa: S608
            f"JOIN files g ON {name.replace('f.', 'g.')} = {name} AND g.path <> f.path WHERE f.row IS NULL LIMIT 1"
        ).fetchone()
        if images is not None:
            number, identifier, one, other = images
            raise DataError(
                f"metadata {self.path}, row {number}: {identifier!r} may be {one!r} or {other!r}: expected the path "
                f"in the folder, such as {one!r}."
            )
        rows = self._rows.execute(
            f"SELECT f.path, r.number, s.number, s.id FROM files f JOIN rows r ON r.id = {name} "  # noqa: S608
            "JOIN rows s ON s.name = r.name AND s.number <> r.number WHERE f.row IS NULL LIMIT 1"
        ).fetchone()
        if rows is not None:
            image, number, other_number, other = rows
            raise DataError(
                f"metadata {self.path}: image {image!r} may be that of row {number}, which gives a name without "
                f"folder, or another beside {other!r} (row {other_number}): expected the path in each row."
            )

    def _refuse_shared(self) -> None:
        query = (
            "SELECT row, MIN(path), MAX(path) FROM files WHERE row IS NOT NULL GROUP BY row HAVING COUNT(*) > 1 LIMIT 1"
        )
        shared = self._rows.execute(query).fetchone()
        if shared is not None:
            number, one, other = shared
            raise DataError(
                f"metadata {self.path}, row {number} may be of {one!r} or {other!r}: expected the path with its ending."
            )

    def _coverage(self) -> Coverage:
        images, row_of = "FROM files WHERE row IS NULL", "(SELECT row FROM files WHERE row IS NOT NULL)"
        unused = f"FROM rows WHERE number NOT IN {row_of}"
        found = Coverage(
            self._count("FROM files"),
            self._count(images),
            self._some(f"SELECT path {images} ORDER BY path"),
            self._count("FROM rows"),
            self._count(unused),
            self._some(f"SELECT id {unused} ORDER BY number"),
        )
        if found.images == found.without_row:
            raise DataError(
                f"metadata {self.path} has {found.rows} rows, but none of the {found.images} images "
                f"(rows of {_listed(found.rows_shown)}; images such as {_listed(found.images_shown)}): expected paths "
                "relative to the packed folder, or file names."
            )
        return found

    def _count(self, what: str) -> int:
        return int(self._rows.execute(f"SELECT COUNT(*) {what}").fetchone()[0])

    def _some(self, query: str) -> tuple[str, ...]:
        return tuple(row[0] for row in self._rows.execute(f"{query} LIMIT {_SHOWN}"))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "no image"


def _names(file: str) -> tuple[str, str, str, str]:
    path = PurePosixPath(_text(file))
    return str(path), str(path.with_suffix("")), path.name, path.stem


def _text(name: str) -> str:
    """Return a file name as valid text; bytes that are not UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
