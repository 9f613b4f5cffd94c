"""A strict walk over a tar's headers: every member's place, and an error wherever the archive is not whole.

The usual readers stop in silence at a corrupt header and at a cut between two members, because they take both for the
end of the archive. Here only the end-of-archive blocks end it, and nothing but zeros may follow them.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from spurious_imagenet.errors import DataError

_BLOCK = 512
_END_OF_ARCHIVE = 2 * _BLOCK
# Writers fill the last record with zeros (10 KiB, at most 1 MiB in practice). More is a download that was laid out
# in full before it broke off.
_MAX_PADDING = (1 << 20) + _END_OF_ARCHIVE
# A name or a few attributes; a forged size must not be read into memory.
_MAX_EXTENDED_HEADER = 1 << 20
_MAX_EXTENDED_HEADERS = 8
_EXTENDED_TYPES = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
_COMPRESSION = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}


class TarDamageError(DataError):
    """A tar is not whole from a byte position on."""

    def __init__(self, shard: str, position: int, what: str) -> None:
        super().__init__(shard, position, what)  # the arguments themselves, so that it passes between processes
        self.position = position

    def __str__(self) -> str:
        shard, position, what = self.args
        return f"shard {shard} is damaged at byte {position}: {what}."


class Member(NamedTuple):
    """One entry of a tar: its name, its type flag, and where its bytes lie in the archive."""

    name: str
    type: bytes
    offset: int
    size: int


def walk_tar(path: Path, shard: str) -> Iterator[Member]:
    r"""Yield the members of a plain tar in order, reading headers only.

    Names that are not UTF-8 come with their odd bytes written out (``\\xe9``).

    Args:
        path: The file.
        shard: What to call it in errors.

    Raises:
        TarDamageError: A header is corrupt, a member or the end-of-archive marker is cut, or data follows the marker.
        DataError: The file is empty, compressed or cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            yield from _Walk(file, shard)
    except OSError as error:
        raise DataError(f"shard {shard} cannot be read: {error.strerror}.") from error


class _Walk:
    def __init__(self, file: io.FileIO, shard: str) -> None:
        self._file = file
        self._shard = shard
        self._size = os.fstat(file.fileno()).st_size
        # An empty archive in memory gives a reader that has parsed nothing yet; then it gets the real file.
        self._archive = tarfile.TarFile(
            fileobj=io.BytesIO(bytes(_END_OF_ARCHIVE)), encoding="utf-8", errors="backslashreplace"
        )
        self._archive.fileobj = file

    def __iter__(self) -> Iterator[Member]:
        if self._size == 0:
            raise DataError(f"shard {self._shard} is empty: expected a tar, got a file of 0 bytes.")
        position = 0
        while any(block := self._block_at(position)):
            member, end = self._member(block, position)
            if member.size < 0 or end <= position:
                raise self._damage(position, "the header gives a negative size")
            if member.offset + member.size > self._size:
                raise self._damage(
                    self._size,
                    f"member {member.name!r} is cut, it should reach to byte {member.offset + member.size}",
                )
            yield member
            position = end
        self._check_end(position)

    def _damage(self, position: int, what: str) -> TarDamageError:
        return TarDamageError(self._shard, position, what)

    def _block_at(self, position: int) -> bytes:
        block = os.pread(self._file.fileno(), _BLOCK, position)
        if len(block) < _BLOCK:
            what = "it is cut inside a header" if block else "it ends without the end-of-archive marker"
            raise self._damage(self._size, what)
        return block

    def _member(self, block: bytes, position: int) -> tuple[Member, int]:
        """Return the member whose header is at ``position``, and where the next header is."""
        info = self._header(block, position)
        if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not self._archive.pax_headers:
            offset = position + _BLOCK
            return Member(info.name, info.type, offset, info.size), offset + _padded(info.size)
        self._check_extended_headers(position)
        self._file.seek(position)
        try:
            info = tarfile.TarInfo.fromtarfile(self._archive)
        except (tarfile.TarError, ValueError) as error:
            raise self._damage(position, f"an extended header is corrupt ({error})") from error
        size = info.size if info.isreg() else 0
        return Member(info.name, info.type, info.offset_data, size), self._archive.offset

    def _header(self, block: bytes, position: int) -> tarfile.TarInfo:
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except (tarfile.TarError, ValueError) as error:
            if position == 0:
                kind = next((name for magic, name in _COMPRESSION.items() if block.startswith(magic)), None)
                if kind is not None:
                    raise DataError(f"shard {self._shard} is compressed ({kind}): unpack it to a plain .tar.") from None
            raise self._damage(position, f"there is no valid tar header ({error})") from error

    def _check_extended_headers(self, position: int) -> None:
        """Refuse what would make the library read without bound: huge, endless or sparse headers."""
        for _ in range(_MAX_EXTENDED_HEADERS):
            info = self._header(self._block_at(position), position)
            if info.type == tarfile.GNUTYPE_SPARSE:
                raise self._damage(position, f"member {info.name!r} is sparse, so it has no single byte range")
            if info.type not in _EXTENDED_TYPES:
                return
            if not 0 <= info.size <= _MAX_EXTENDED_HEADER:
                raise self._damage(position, f"an extended header claims {info.size} bytes")
            body = os.pread(self._file.fileno(), _padded(info.size), position + _BLOCK)
            if b"GNU.sparse." in body:
                raise self._damage(position, "a member is sparse, so it has no single byte range")
            position += _BLOCK + _padded(info.size)
        raise self._damage(position, f"more than {_MAX_EXTENDED_HEADERS} extended headers follow each other")

    def _check_end(self, position: int) -> None:
        tail = self._size - position
        if tail < _END_OF_ARCHIVE:
            raise self._damage(self._size, "the end-of-archive marker is cut")
        self._file.seek(position)
        at = position
        while chunk := self._file.read(1 << 20):
            if garbage := chunk.lstrip(b"\0"):
                raise self._damage(at + len(chunk) - len(garbage), "data follows the end-of-archive marker")
            at += len(chunk)
        if tail > _MAX_PADDING:
            raise self._damage(position, f"{tail} bytes of zeros follow, as after a download that broke off")


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read ``size`` bytes at ``offset``, fewer only where the file ends."""
    parts = []
    while size > 0 and (part := os.pread(file.fileno(), size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)
