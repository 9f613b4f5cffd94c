"""Addresses of shards: from what a user writes to a list of single tar files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path
from urllib.parse import urlsplit

from braceexpand import braceexpand

from spurious_imagenet.benchmark.shards.remote import (
    check_pipe,
    filesystem,
    is_http,
    is_pipe,
    local_path,
    retrying,
)
from spurious_imagenet.errors import DataError

__all__ = ["expand_shards"]

_COMPRESSED = (".gz", ".tgz", ".zst", ".tzst", ".bz2", ".tbz2", ".xz", ".txz", ".lz4", ".zip")


def expand_shards(specs: Sequence[str], *, allow_pipe: bool = False) -> list[str]:
    """Expand what a user writes into the addresses of single shards.

    Args:
        specs: Each one a local tar file, a directory (all ``*.tar`` directly in it, sorted), a glob, any of these with
            brace ranges (``train-{00000..00099}.tar``), ``http(s)://``, any other address that fsspec reads
            (``s3://``, ``hf://``, ``memory://``, ``file://``; directories and globs too), or ``pipe:`` with a command.
        allow_pipe: Accept ``pipe:``. It runs a shell, so only for commands that the user trusts.

    Returns:
        The addresses in the order given; local ones as absolute paths. Addresses on the web and single ``.tar``
        addresses elsewhere are not asked for here: a missing one fails when it is opened.

    Raises:
        DataError: A spec finds nothing, a shard is given twice, or it is compressed.
        ConfigError: ``pipe:`` without ``allow_pipe``.
    """
    found: dict[str, str] = {}
    for spec in [specs] if isinstance(specs, str) else specs:
        check_pipe(spec, allow_pipe)
        for shard in _expand(spec):
            if shard in found:
                raise DataError(f"shard {shard} is given twice (by {found[shard]!r} and {spec!r}): give each once.")
            found[shard] = spec
    if not found:
        raise DataError("no shards were given: expected at least one tar file, directory or address.")
    return list(found)


def _expand(spec: str) -> list[str]:
    local = local_path(spec)
    if local is not None and local.exists():  # a file's own name may hold braces
        return _local_shards(local, spec)
    try:
        addresses = list(braceexpand(spec))
    except ValueError as error:
        raise DataError(f"shards {spec!r} cannot be expanded: {error}.") from error
    return [shard for address in addresses for shard in _shards_at(address, spec)]


def _shards_at(address: str, spec: str) -> list[str]:
    if is_pipe(address):
        return [address]
    if (local := local_path(address)) is not None:
        return _local_shards(local, spec)
    if is_http(address):
        return _plain([_web_shard(address)])
    return _remote_shards(address, spec)


def _local_shards(path: Path, spec: str) -> list[str]:
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would follow links
    if path.is_dir():
        found = [str(p) for p in path.iterdir() if p.suffix == ".tar" and not p.name.startswith(".") and p.is_file()]
    elif path.is_file():
        found = [str(path)]
    else:
        found = [p for p in glob(str(path), recursive=True) if Path(p).is_file()]  # noqa: PTH207 - may be absolute
    return _plain(_sorted(found, spec))


def _web_shard(address: str) -> str:
    if "*" in urlsplit(address).path:
        raise DataError(
            f"shards {address!r} cannot be listed: write a brace range ({{00000..00099}}) for web addresses."
        )
    return address


def _remote_shards(address: str, spec: str) -> list[str]:
    if address.endswith(".tar") and not has_magic(address):
        return [address]  # thousands of addresses from a brace range must not cost a request each
    if "::" in address and has_magic(address):
        raise DataError(
            f"shards {spec!r} cannot be listed: write a brace range ({{00000..00099}}) for chained addresses."
        )
    fs, path = filesystem(address)

    def listing() -> list[str]:
        if has_magic(path):
            return [p for p in fs.glob(path) if not fs.isdir(p)]
        if fs.isdir(path):
            return [p for p in fs.ls(path, detail=False) if p.endswith(".tar")]
        return [path] if fs.exists(path) else []

    found = _sorted(retrying(listing, address), spec)
    return _plain([address] if found == [path] else [fs.unstrip_protocol(p) for p in found])


def _sorted(found: Iterable[str], spec: str) -> list[str]:
    shards = sorted(found)
    if not shards:
        raise DataError(f"shards {spec!r} were not found: expected a tar file, or a directory or pattern with some.")
    return shards


def _plain(shards: list[str]) -> list[str]:
    for shard in shards:
        name = urlsplit(shard).path if is_http(shard) else shard
        if name.lower().endswith(_COMPRESSED):
            raise DataError(
                f"shard {shard} is compressed: images are read by byte offset, so unpack it to a plain .tar."
            )
    return shards
