"""A folder or a zip that somebody else made, as named files that are read one at a time into memory.

Nothing is unpacked to disk and no name is used as a path to write to. Links are not followed.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from pydantic import PositiveInt

from spurious_imagenet.errors import DataError, one_line
from spurious_imagenet.records import Record

_MAX_DEPTH = 4
_ENCRYPTED = 0x1
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_BLOCK = 1 << 20


class UnreadableFileError(DataError):
    """One file of an archive that is not read; the text is the reason."""


class ArchiveLimits(Record):
    """What is too large to be taken from an archive."""

    max_file_bytes: PositiveInt = 32 << 20
    """Larger files are rejects; no more than one file is in memory."""
    max_files: PositiveInt = 1_000_000
    """An archive of more files is refused."""
    max_total_bytes: PositiveInt = 64 << 30
    """A zip whose files say that they are larger together is refused."""
    max_ratio: PositiveInt = 100
    """Zipped files that say that they are so many times larger than in the zip are rejects: images do not shrink so."""
    max_directory_bytes: PositiveInt = 16 << 20
    """A zip whose table of contents is larger is refused, before it is read."""


class Archive(ABC):
    """Files by name.

    Attributes:
        names: Paths within the archive, with ``/``, sorted; only regular files.
        refused: What else is there, each with the reason.
    """

    names: list[str]
    refused: list[tuple[str, str]]

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            UnreadableFileError: It is damaged, too large, or of a kind that is not read.
        """

    def close(self) -> None:
        """Let go of what is open."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_archive(path: str | Path, limits: ArchiveLimits) -> Archive:
    """Open a folder or a zip.

    Raises:
        DataError: It is neither, or a limit or a name says that it was made to do harm.
    """
    source = Path(path)
    if source.is_dir():
        return _Folder(source, limits)
    if not source.is_file():
        raise DataError(f"there is no folder or zip {source}.")
    return _Zip(source, limits)


class _Folder(Archive):
    def __init__(self, root: Path, limits: ArchiveLimits) -> None:
        self._root, self._limits = root, limits
        self._paths: dict[str, Path] = {}
        self.refused = []
        self._list(root, PurePosixPath())
        self.names = sorted(self._paths)

    def _list(self, folder: Path, below: PurePosixPath) -> None:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                name = str(below / _printable(entry.name))
                if entry.is_symlink():
                    self.refused.append((name, "link: links are not followed"))
                elif entry.is_dir(follow_symlinks=False):
                    if len(below.parts) + 1 < _MAX_DEPTH:
                        self._list(Path(entry.path), below / _printable(entry.name))
                    else:
                        self.refused.append((name, f"folder below {_MAX_DEPTH - 1} others"))
                elif entry.is_file(follow_symlinks=False) and name not in self._paths:
                    self._paths[name] = Path(entry.path)
                    if len(self._paths) > self._limits.max_files:
                        raise DataError(f"{self._root} holds more than {self._limits.max_files} files.")
                else:
                    self.refused.append((name, "no regular file, or a second one of this name"))

    def read(self, name: str) -> bytes:
        try:
            # Opened without following a link that has taken the file's place since it was listed.
            with os.fdopen(os.open(self._paths[name], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                return _bounded(file, os.fstat(file.fileno()).st_size, self._limits.max_file_bytes)
        except OSError as error:
            raise UnreadableFileError(f"cannot be read: {error.strerror}") from error


class _Zip(Archive):
    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        self._path, self._limits = path, limits
        self._file = _BoundedReads(path, max(limits.max_directory_bytes, _BLOCK))
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._entries = self._checked(self._zip.infolist())
        except DataError:
            self._file.close()
            raise
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            self._file.close()
            raise DataError(f"{path} is not a zip that can be read: {_one_line(error)}.") from error
        self.names = sorted(self._entries)

    def _checked(self, entries: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        limits, found, total = self._limits, dict[str, zipfile.ZipInfo](), sum(e.file_size for e in entries)
        if len(entries) > limits.max_files:
            raise DataError(f"{self._path} holds {len(entries)} files: expected at most {limits.max_files}.")
        if total > limits.max_total_bytes:
            raise DataError(f"{self._path} unpacks to {total} bytes: expected at most {limits.max_total_bytes}.")
        self.refused = []
        for entry in entries:
            self._check_name(entry)
            if entry.is_dir():
                continue
            if entry.filename in found:
                raise DataError(f"{self._path} holds {_short(entry.filename)} twice.")
            found[entry.filename] = entry
        return found

    def _check_name(self, entry: zipfile.ZipInfo) -> None:
        """Refuse names that no honest zip has: they are there for programs that unpack without looking."""
        name = entry.orig_filename  # zipfile cuts the other one at a NUL
        parts = name.split("/")
        absolute = name.startswith("/") or (len(name) > 1 and name[1] == ":")
        if absolute or ".." in parts or "\\" in name or not name.isprintable():
            raise DataError(
                f"{self._path} holds the path {_short(name)}: expected printable names relative to the zip."
            )
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise DataError(f"{self._path} holds {_short(name)}, a link or device: expected files and folders.")

    def read(self, name: str) -> bytes:
        entry, limits = self._entries[name], self._limits
        if entry.flag_bits & _ENCRYPTED:
            raise UnreadableFileError("encrypted")
        if entry.compress_type not in _COMPRESSIONS:  # LZMA's memory is for the file to choose
            raise UnreadableFileError(f"compression {entry.compress_type}: expected stored or deflated")
        if entry.file_size > limits.max_ratio * max(entry.compress_size, 1):
            raise UnreadableFileError(
                f"{entry.file_size} bytes from {entry.compress_size}: expected at most {limits.max_ratio} times as many"
            )
        try:
            with self._zip.open(entry) as file:
                return _bounded(file, entry.file_size, limits.max_file_bytes)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
            raise UnreadableFileError(f"cannot be unpacked: {_one_line(error)}") from error

    def close(self) -> None:
        self._zip.close()
        self._file.close()


class _BoundedReads(io.BufferedReader):
    """A file that refuses to read more at once than a zip's table of contents may have.

    ``zipfile`` reads that table in one piece, of a size that the zip states.
    """

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(io.FileIO(path))
        self._path, self._limit = path, limit

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._limit if size is None or size < 0 else size
        if wanted > self._limit:
            raise DataError(f"{self._path} has a table of contents of {wanted} bytes: expected at most {self._limit}.")
        return super().read(wanted)


def _bounded(file: IO[bytes], stated: int, limit: int) -> bytes:
    """Read a file to its end, however large it says it is, and no further than the limit."""
    if stated > limit:
        raise UnreadableFileError(f"{stated} bytes: expected at most {limit}")
    blocks, size = [], 0
    while block := file.read(_BLOCK):
        blocks.append(block)
        size += len(block)
        if size > limit:
            raise UnreadableFileError(f"more than {limit} bytes")
    return b"".join(blocks)


def _printable(name: str) -> str:
    """Write out what is not UTF-8 or would break a line."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _one_line(error: Exception) -> str:
    return one_line(error).rstrip(".") or type(error).__name__
