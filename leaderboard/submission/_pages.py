"""The page headers of a parquet file: what its pages will really inflate to, which its footer may lie about.

A reader believes the header of each page and makes room for what it claims. The headers are few and small, so that
all are looked at before any page is: see the ``PageHeader`` of parquet's ``parquet.thrift``, in thrift's compact
protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow.parquet as pq

_MOST_PAGES = 20_000
_LONGEST_HEADER = 1 << 16
#: PLAIN, PLAIN_DICTIONARY, RLE, BIT_PACKED, DELTA_LENGTH_BYTE_ARRAY, RLE_DICTIONARY, BYTE_STREAM_SPLIT. In those left
#: out a few bytes may stand for any number of values, or for values of any length.
_BOUNDED = {0, 2, 3, 4, 6, 8, 9}
_DATA, _DICTIONARY, _DATA_2 = 5, 7, 8
_ENCODING = {_DATA: 2, _DICTIONARY: 2, _DATA_2: 4}


class PagesError(ValueError):
    """Pages that should not be read, with the reason."""


@dataclass(frozen=True)
class PageTotals:
    """What all pages of some columns come to.

    Attributes:
        inflated: Bytes.
        values: The most values of a column.
    """

    inflated: int
    values: int


def page_totals(file: BinaryIO, metadata: pq.FileMetaData) -> PageTotals:
    """Add up what the page headers of all columns claim.

    Raises:
        PagesError: There are too many pages, one is outside its column, or encoded in a way that has no bound.
    """
    inflated, pages = 0, 0
    values = [0] * metadata.num_columns
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            starts = [column.data_page_offset, column.dictionary_page_offset or 0]
            position = min(start for start in starts if start > 0) if any(start > 0 for start in starts) else 0
            end = position + column.total_compressed_size
            while position < end:
                header, length = _page_header(file, position)
                size, count = _claims(header)
                position += length + header.get(3, -1)
                pages += 1
                if pages > _MOST_PAGES or header.get(3, -1) < 0 or position > end:
                    raise PagesError(f"it has more than {_MOST_PAGES} pages, or one that is longer than its column")
                inflated += size
                values[place] += count
    return PageTotals(inflated, max(values, default=0))


def _claims(header: dict[int, Any]) -> tuple[int, int]:
    """Return the bytes that a page inflates to, and its values."""
    kind = next((k for k in _ENCODING if isinstance(header.get(k), dict)), None)
    size = header.get(2, -1)
    if kind is None or size < 0:
        raise PagesError("it has a page without a sound header")
    count, encoding = header[kind].get(1, -1), header[kind].get(_ENCODING[kind], 0)
    if count < 0 or encoding not in _BOUNDED:
        raise PagesError(f"it has a page of encoding number {encoding}, where plain or dictionary encoding is expected")
    return size, count


def _page_header(file: BinaryIO, position: int) -> tuple[dict[int, Any], int]:
    file.seek(position)
    reader = _Compact(file.read(_LONGEST_HEADER))
    try:
        return reader.struct(), reader.at
    except (IndexError, KeyError, RecursionError):
        raise PagesError("it has a page header that cannot be read") from None


class _Compact:
    """Reads one struct of thrift's compact protocol."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise IndexError

    def signed(self) -> int:
        value = self.unsigned()
        return (value >> 1) ^ -(value & 1)

    def skip(self, length: int) -> None:
        if length > len(self.data) - self.at:
            raise IndexError
        self.at += length

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > 4:
            raise IndexError
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.signed()
            fields[number] = self.value(head & 0x0F, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (3, 4, 5, 6):
            return self.byte() if kind == 3 else self.signed()
        if kind in (7, 8):
            self.skip(8 if kind == 7 else self.unsigned())
            return None
        if kind == 12:
            return self.struct(depth + 1)
        raise KeyError(kind)  # page headers have no lists, sets or maps
