"""A shard as a local file: as it is, or streamed to a temporary one."""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from spurious_imagenet.errors import DataError
from spurious_imagenet.io import sha256_file
from spurious_imagenet.shards.remote import check_pipe, filesystem, is_http, is_pipe, local_path, retrying

_BLOCK = 1 << 20
_REQUEST = 8 << 20  # bytes asked for at once from stores that are read by range


@dataclass(frozen=True)
class LocalShard:
    """A shard whose bytes lie in a local file.

    Attributes:
        url: The shard's address.
        path: The file; of a streamed shard it is gone when :func:`open_shard` ends.
        size: Its bytes.
        streamed_sha256: SHA-256 of the bytes as they were streamed; None for a file that was local already.
    """

    url: str
    path: Path
    size: int
    streamed_sha256: str | None = None

    def sha256(self) -> str:
        """Return the hexadecimal SHA-256 of the whole shard; a local file is read for it."""
        return self.streamed_sha256 or sha256_file(self.path)


@contextmanager
def open_shard(url: str, *, scratch: Path | None = None, allow_pipe: bool = False) -> Iterator[LocalShard]:
    """Give a shard's bytes as a local file.

    A local shard is given as it is. Any other is streamed, block by block, to a temporary file that is deleted
    afterwards; a read that fails for a passing reason starts again, up to three times.

    Args:
        url: An address from :func:`expand_shards`.
        scratch: Directory for the temporary file (made if missing); the system's by default.
        allow_pipe: Run the command of a ``pipe:`` address.

    Raises:
        DataError: The shard cannot be read, the command fails, or the disk is full.
        ConfigError: ``pipe:`` without ``allow_pipe``.
    """
    check_pipe(url, allow_pipe)
    if (path := local_path(url)) is not None:
        if not path.is_file():
            raise DataError(f"shard {url} is not a file: expected a tar file.")
        yield LocalShard(url, path, path.stat().st_size)
        return
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="shard-", suffix=".tar") as file:
        digest = _spool_command(url, file) if is_pipe(url) else retrying(lambda: _spool_remote(url, file), url)
        temporary = Path(file.name)
        yield LocalShard(url, temporary, temporary.stat().st_size, digest)


def _spool_remote(url: str, file: IO[bytes]) -> str:
    fs, path = filesystem(url)
    options = {"block_size": 0} if is_http(url) else {"block_size": _REQUEST}
    with fs.open(path, "rb", **options) as stream:
        return _copy(stream, file, url)


def _spool_command(url: str, file: IO[bytes]) -> str:
    command = url.removeprefix("pipe:")
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # noqa: S602 - a pipe: address is a shell command, allowed by the caller
            command, shell=True, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, bufsize=0
        )
        with process, _ended(process):
            assert process.stdout is not None
            digest = _copy(_Heard(process.stdout), file, url)
        if process.returncode != 0:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 500))
            said = errors.read().decode(errors="replace").strip()
            raise DataError(
                f"shard {url!r} cannot be read: the command ended with {process.returncode}. {said}".strip()
            )
    return digest


@dataclass(frozen=True)
class _Heard:
    """A pipe that is waited for in steps: a Ctrl-C that another thread was given wakes no read of the main one."""

    stream: IO[bytes]

    def read(self, size: int) -> bytes:
        while not select.select([self.stream], [], [], 0.5)[0]:
            pass
        return self.stream.read(size)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop the command, and what it started, where reading it fails."""
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


def _copy(stream: Any, file: IO[bytes], url: str) -> str:
    file.seek(0)
    file.truncate()
    digest = hashlib.sha256()
    while block := stream.read(_BLOCK):
        digest.update(block)
        _write(file, block, url)
    _write(file, b"", url)
    return digest.hexdigest()


def _write(file: IO[bytes], block: bytes, url: str) -> None:
    try:
        file.write(block)
        if not block:
            file.flush()
    except OSError as error:
        raise DataError(f"shard {url!r} cannot be copied to {Path(file.name).parent}: {error.strerror}.") from error
