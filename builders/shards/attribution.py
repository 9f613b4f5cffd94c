"""Rows of a metadata CSV, found by image; the CSV may be larger than memory."""

from __future__ import annotations

import csv
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import TracebackType

from spurious_imagenet.errors import DataError

__all__ = ["AttributionTable"]

#: Columns that name the image, first match wins; the value is the file's stem, or for the last two its name.
KEY_COLUMNS = ("ImageID", "image_id", "file_name", "filename")

_MAX_FIELD = 1 << 20


class AttributionTable(AbstractContextManager["AttributionTable"]):
    """The rows of a CSV by image, in a temporary database on disk.

    Cells are text and stay text. Row numbers count the header as row 1, as spreadsheets do.

    Args:
        path: A UTF-8 CSV with a header and one of the columns :data:`KEY_COLUMNS`.
        scratch: Directory for the temporary database; the system's by default.

    Raises:
        DataError: No such column, a row of another width, no or a repeated image id, or no CSV at all.
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

    def find(self, file: Path) -> dict[str, str] | None:
        """Return the row of an image, None where the CSV has none.

        Args:
            file: The image, relative to the packed folder. A row matches its whole relative path, its name or its
                stem, in this order.
        """
        for key in (file.as_posix(), file.name, file.stem):
            with closing(self._rows.execute("SELECT cells FROM rows WHERE id = ?", (_text(key),))) as found:
                row = found.fetchone()
            if row is not None:
                return dict(zip(self.columns, json.loads(row[0]), strict=True))
        return None

    def _load(self) -> None:
        self._rows.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;")
        self._rows.execute("CREATE TABLE rows (id TEXT, number INTEGER, cells TEXT)")
        limit = csv.field_size_limit(_MAX_FIELD)
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                self._rows.executemany("INSERT INTO rows VALUES (?, ?, ?)", self._parse(file))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"metadata {self.path} cannot be read: {error}.") from error
        finally:
            csv.field_size_limit(limit)
        self._rows.execute("CREATE INDEX by_id ON rows (id)")
        self._refuse_duplicates()

    def _parse(self, file: Iterator[str]) -> Iterator[tuple[str, int, str]]:
        reader = csv.reader(file, strict=True)
        number = 1
        try:
            self.columns = self._header(next(reader, []))
            key = next(i for name in KEY_COLUMNS for i, column in enumerate(self.columns) if column == name)
            for number, row in enumerate(reader, start=2):
                if not row:
                    continue
                if len(row) != len(self.columns):
                    raise DataError(
                        f"metadata {self.path}, row {number}: got {len(row)} cells, expected {len(self.columns)}."
                    )
                if not row[key]:
                    raise DataError(f"metadata {self.path}, row {number}: {self.columns[key]} is empty.")
                yield row[key], number, json.dumps(row, ensure_ascii=False)
        except csv.Error as error:
            raise DataError(f"metadata {self.path}, after row {number}: {error}.") from error

    def _header(self, columns: list[str]) -> tuple[str, ...]:
        if not set(KEY_COLUMNS) & set(columns):
            raise DataError(
                f"metadata {self.path} has the columns {columns}: expected one of {', '.join(KEY_COLUMNS)}."
            )
        if len(set(columns)) != len(columns):
            raise DataError(f"metadata {self.path} has a column name twice: {columns}.")
        return tuple(columns)

    def _refuse_duplicates(self) -> None:
        query = "SELECT id, COUNT(*), GROUP_CONCAT(number) FROM rows GROUP BY id HAVING COUNT(*) > 1 LIMIT 1"
        twice = self._rows.execute(query).fetchone()
        if twice is not None:
            identifier, count, numbers = twice
            listed = ", ".join(sorted(numbers.split(","), key=int)[:10])
            raise DataError(
                f"metadata {self.path} names image {identifier!r} {count} times (rows {listed}): expected once."
            )


def _text(name: str) -> str:
    """Return a file name as valid text; bytes that are not UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
