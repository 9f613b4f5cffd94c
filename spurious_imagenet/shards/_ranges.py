"""Single images out of a shard, by byte offset, wherever the shard is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import fsspec

from spurious_imagenet.errors import DataError
from spurious_imagenet.shards._opening import open_shard
from spurious_imagenet.shards._tar import read_at
from spurious_imagenet.shards.remote import (
    check_pipe,
    filesystem,
    is_pipe,
    local_path,
    retrying,
    supports_ranges,
)

_MAX_REQUESTS = 16
_MAX_BATCH_BYTES = 64 << 20


def read_ranges(
    url: str, ranges: Sequence[tuple[int, int]], *, scratch: Path | None = None, allow_pipe: bool = False
) -> Iterator[bytes]:
    """Yield byte ranges of a shard, in the order asked for.

    Local files are read in place, remote ones by range requests, a few at a time. A web server without range
    requests and a ``pipe:`` command are streamed once to a temporary file.

    Args:
        url: An address from :func:`expand_shards`.
        ranges: (offset, size) pairs.
        scratch: Directory for the temporary file.
        allow_pipe: Run the command of a ``pipe:`` address. Addresses may come from a store that someone else made.

    Raises:
        DataError: The shard cannot be read, or ends before a range does.
        ConfigError: ``pipe:`` without ``allow_pipe``.
    """
    check_pipe(url, allow_pipe)
    for offset, size in ranges:
        if offset < 0 or size < 0:
            raise DataError(f"shard {url}: range ({offset}, {size}) is negative.")
    if not ranges:
        return
    if local_path(url) is None and not is_pipe(url):
        fs, path = filesystem(url)
        if supports_ranges(fs, path, url):
            yield from _read_remote(fs, path, url, ranges)
            return
    with open_shard(url, scratch=scratch, allow_pipe=allow_pipe) as shard, shard.path.open("rb") as file:
        for offset, size in ranges:
            yield _whole(read_at(file, offset, size), offset, size, url)


def _read_remote(
    fs: fsspec.AbstractFileSystem, path: str, url: str, ranges: Sequence[tuple[int, int]]
) -> Iterator[bytes]:
    for batch in _batches(ranges):
        wanted = [(offset, offset + size) for offset, size in batch if size]

        def fetch(wanted: list[tuple[int, int]] = wanted) -> list[bytes]:
            starts, ends = [start for start, _ in wanted], [end for _, end in wanted]
            found: list[bytes] = fs.cat_ranges([path] * len(wanted), starts, ends, on_error="raise")
            return found

        parts = iter(retrying(fetch, url))
        for offset, size in batch:
            yield _whole(next(parts) if size else b"", offset, size, url)


def _batches(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Cut the ranges into runs that are few and small enough to be in memory at once."""
    batch: list[tuple[int, int]] = []
    held = 0
    for offset, size in ranges:
        if batch and (len(batch) == _MAX_REQUESTS or held + size > _MAX_BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append((offset, size))
        held += size
    yield batch


def _whole(data: bytes, offset: int, size: int, url: str) -> bytes:
    if len(data) != size:
        raise DataError(f"shard {url}: got {len(data)} bytes at {offset}, expected {size}; it is cut or has changed.")
    return data
