"""What lies behind an address: the local file system, a remote one (through fsspec) or a command."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import fsspec
from fsspec.core import url_to_fs

from spurious_imagenet.errors import ConfigError, DataError, SpuriousImagenetError

__all__ = ["check_pipe", "filesystem", "is_http", "is_pipe", "local_path", "retrying", "supports_ranges"]

_T = TypeVar("_T")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
_FILE = re.compile(r"(file|local)://")

#: Seconds waited after each failed try of a remote read; one more try follows the last wait.
RETRY_DELAYS = (0.5, 2.0, 8.0)

# Client errors that a server itself calls temporary: request timeout, too early, too many requests.
_TEMPORARY_STATUS = frozenset({408, 425, 429})


def is_pipe(address: str) -> bool:
    """Tell whether an address is a shell command (``pipe:``)."""
    return address.startswith("pipe:")


def is_http(address: str) -> bool:
    """Tell whether an address is a web address."""
    return address.lower().startswith(("http://", "https://"))


def local_path(address: str) -> Path | None:
    """Return the path of a local address (plain or ``file://``), None for any other."""
    if file := _FILE.match(address):
        return Path(address[file.end() :]) if "::" not in address else None
    return None if is_pipe(address) or _SCHEME.match(address) else Path(address)


def check_pipe(address: str, allow_pipe: bool) -> None:
    """Refuse a ``pipe:`` address unless it is allowed.

    Raises:
        ConfigError: It is not allowed.
    """
    if is_pipe(address) and not allow_pipe:
        raise ConfigError(
            f"shard {address!r} runs a shell command: allow `pipe:` explicitly, and only for commands that you trust."
        )


def filesystem(address: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the fsspec file system of a remote address, and its path there.

    Raises:
        DataError: The scheme is unknown, or the package that reads it is not installed.
    """
    options: dict[str, Any] = {}
    if is_http(address):
        # Byte offsets count uncompressed bytes, and aiohttp's five minutes in all are too few for a large shard.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options = {"headers": {"Accept-Encoding": "identity"}, "client_kwargs": {"timeout": timeout}}
    try:
        fs, path = url_to_fs(address, **options)
    except (ImportError, ValueError) as error:
        raise DataError(f"shard {address!r} cannot be opened: {error}") from error
    return fs, path


def retrying(read: Callable[[], _T], address: str) -> _T:
    """Call ``read``, again after a wait where it fails for a reason that may pass.

    Raises:
        DataError: The reason cannot pass (not found, refused), or the last try failed too.
    """
    for delay in (*RETRY_DELAYS, None):
        try:
            return read()
        except SpuriousImagenetError:
            raise
        # Every storage library has its own network errors, so what is permanent is named instead.
        except Exception as error:
            cause = _cause(error)
            if delay is None or _is_permanent(cause):
                text = str(cause) or type(cause).__name__
                raise DataError(f"shard {address!r} cannot be read: {text}") from error
            time.sleep(delay)
    raise AssertionError("the last try returns or raises")


def _cause(error: Exception) -> BaseException:
    # fsspec reports any failed request for a file's size as "not found"; what happened is its cause.
    hidden = isinstance(error, FileNotFoundError) and isinstance(error.__cause__, (aiohttp.ClientError, OSError))
    return error.__cause__ if hidden and error.__cause__ is not None else error


def _is_permanent(error: BaseException) -> bool:
    if isinstance(error, aiohttp.ClientResponseError):
        return 400 <= error.status < 500 and error.status not in _TEMPORARY_STATUS
    kinds = (FileNotFoundError, IsADirectoryError, PermissionError, ImportError, NotImplementedError, ValueError)
    return isinstance(error, kinds)


def supports_ranges(fs: fsspec.AbstractFileSystem, path: str, address: str) -> bool:
    """Tell whether byte ranges of ``path`` can be read without reading all of it.

    Only web servers may lack them, and then answer with the whole file; so one byte is asked for first.
    """
    if not is_http(address):
        return True

    def probe() -> bool:
        with fs.open(path, "rb", cache_type="none") as file:
            try:
                file.seek(1)
                return len(file.read(1)) == 1
            except ValueError:
                return False

    return retrying(probe, address)
