"""Append-only journals of JSON lines: what was acknowledged is on the disk, whatever happens next."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from spurious_imagenet.errors import DataError, StoreError

# Where there is only fsync, it does the same and more.
_sync = getattr(os, "fdatasync", os.fsync)
_Entry = TypeVar("_Entry")


class Journal(Generic[_Entry]):
    """One file of JSON lines that any number of processes and threads may append to and read.

    A line counts once its line break is there: what a killed writer left without one was never acknowledged, is not
    read, and is cut off by the next writer.

    Args:
        path: The file, which must exist.
        parse: Makes an entry of a JSON object; may raise DataError.
    """

    def __init__(self, path: str | Path, parse: Callable[[Mapping[str, Any]], _Entry]) -> None:
        self.path = Path(path)
        self._parse = parse
        self._read_to = 0
        self._lines = 0
        self._mutex = threading.RLock()

    def read_new(self) -> list[_Entry]:
        """Return the entries that were appended, by anyone, since the last call; all of them at the first.

        Raises:
            StoreError: The journal is missing, was shortened, or holds a line that is not an entry.
        """
        with self._mutex, self._opened(os.O_RDONLY) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # not while a writer cuts off what a killed one left
            return self._read_from(descriptor)

    def append(self, entries: Sequence[Mapping[str, Any]]) -> list[_Entry]:
        """Append entries and return once the disk has them.

        Args:
            entries: JSON objects.

        Returns:
            What :meth:`read_new` would now return: what others appended since, then ``entries``.

        Raises:
            StoreError: The journal is missing, was shortened, or holds a line that is not an entry.
            OSError: The disk is full, or fails; nothing of ``entries`` is then kept.
        """
        text = "".join(json.dumps(e, ensure_ascii=False, allow_nan=False) + "\n" for e in entries)
        with self._mutex, self._opened(os.O_RDWR | os.O_APPEND) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # released as the descriptor closes, also by a kill
            others = self._read_from(descriptor)
            if os.fstat(descriptor).st_size > self._read_to:
                os.ftruncate(descriptor, self._read_to)
            self._write(descriptor, text.encode())
            return others + self._read_from(descriptor)

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        # Opened anew each time: a descriptor that lives on would share its lock with forked processes.
        try:
            descriptor = os.open(self.path, flags | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StoreError(f"journal {self.path} is missing: a review keeps one for each labeler.") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, data: bytes) -> None:
        try:
            written = os.write(descriptor, data)
            while written < len(data):  # a disk that fills up, or more than 2 GiB
                written += os.write(descriptor, data[written:])
            _sync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, self._read_to)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _read_from(self, descriptor: int) -> list[_Entry]:
        size = os.fstat(descriptor).st_size
        if size < self._read_to:
            raise StoreError(f"journal {self.path} was shortened from {self._read_to} to {size} bytes while in use.")
        data = bytearray()
        while block := os.pread(descriptor, size - self._read_to - len(data), self._read_to + len(data)):
            data += block
        whole = bytes(data[: data.rfind(b"\n") + 1])
        entries = [self._entry(line, self._lines + i) for i, line in enumerate(whole.split(b"\n")[:-1], start=1)]
        self._read_to += len(whole)
        self._lines += len(entries)
        return entries

    def _entry(self, line: bytes, number: int) -> _Entry:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise StoreError(f"journal {self.path}, line {number} is damaged: expected one JSON object per line.")
        try:
            return self._parse(entry)
        except DataError as error:
            raise StoreError(f"journal {self.path}, line {number} is not of this review: {error}") from None
