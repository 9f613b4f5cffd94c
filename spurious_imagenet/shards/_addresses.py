"""Addresses of shards: from what a user writes to a list of single tar files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from glob import glob, has_magic
from pathlib import Path
from urllib.parse import urlsplit

from braceexpand import braceexpand

from spurious_imagenet.errors import DataError
from spurious_imagenet.shards.remote import (
    check_pipe,
    filesystem,
    is_http,
    is_pipe,
    local_path,
    retrying,
)

_SHOWN = 3
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
    files: dict[tuple[int, int], str] = {}
    for spec in [specs] if isinstance(specs, str) else specs:
        check_pipe(spec, allow_pipe)
        for shard in _expand(spec):
            if shard in found:
                raise DataError(f"shard {shard} is given twice (by {found[shard]!r} and {spec!r}): give each once.")
            found[shard] = spec
            if (file := _file(shard)) is not None and (other := files.setdefault(file, shard)) != shard:
                raise DataError(f"shard {shard} is the same file as {other}, by a link: give each once.")
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
    if len(addresses) > 1:
        _refuse_gaps(addresses, spec)
    return [shard for address in addresses for shard in _shards_at(address, spec)]


def _refuse_gaps(addresses: Sequence[str], spec: str) -> None:
    """Name the local shards of a range that are not there, and what lies beside them."""
    local = [Path(p) for p in map(local_path, addresses) if p is not None and not has_magic(str(p))]
    missing = [path for path in local if not path.expanduser().exists()]
    if not missing:
        return
    names = ", ".join(path.name for path in missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
    folder = missing[0].expanduser().absolute().parent
    beside = sorted(path.name for path in folder.glob("*.tar")) if folder.is_dir() else []
    there = f"has {len(beside)} tars, from {beside[0]} to {beside[-1]}" if beside else "has no tars"
    raise DataError(
        f"shards {spec!r}: {len(missing)} of {len(addresses)} not found ({names}); {folder} {there}: fetch what is "
        "missing, or write the ranges that are there."
    )


def _file(shard: str) -> tuple[int, int] | None:
    """Return what tells a local file from others whatever its name; None for other addresses."""
    local = None if is_pipe(shard) else local_path(shard)
    if local is None:
        return None
    try:
        status = local.stat()
    except OSError:
        return None  # gone since it was listed: opening it says so
    return (status.st_dev, status.st_ino) if status.st_ino else None


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
    return _plain(_sorted(found, spec, path))


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


def _sorted(found: Iterable[str], spec: str, local: Path | None = None) -> list[str]:
    shards = sorted(found)
    if not shards:
        why = f" ({_what_is_there(local)})" if local is not None else ""
        raise DataError(
            f"shards {spec!r} were not found{why}: expected a tar file, or a directory or pattern with some."
        )
    return shards


def _what_is_there(path: Path) -> str:
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        held = f"has no .tar, but {names[0]!r} and {len(names) - 1} other entries" if names else "is empty"
        return f"the folder {held}; `spurious shards` packs images"
    folder = next(p for p in path.parents if not has_magic(str(p)) and p.is_dir())
    what = "nothing matches in" if has_magic(str(path)) else "what is there ends at"
    return f"{what} {folder}"


def _plain(shards: list[str]) -> list[str]:
    for shard in shards:
        name = urlsplit(shard).path if is_http(shard) else shard
        if name.lower().endswith(_COMPRESSED):
            raise DataError(
                f"shard {shard} is compressed: images are read by byte offset, so unpack it to a plain .tar."
            )
    return shards
