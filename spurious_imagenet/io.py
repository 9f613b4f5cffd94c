"""Files that appear whole or not at all, and the hashes by which they are known."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spurious_imagenet.errors import StoreError

__all__ = [
    "atomic_directory",
    "atomic_path",
    "canonical_json",
    "files_sha256",
    "is_unused",
    "moved_along",
    "remove_leftovers",
    "sha256_file",
    "write_json",
]

_TEMPORARY = ".tmp-"


def canonical_json(value: Any) -> str:
    """Serialise to JSON with sorted keys and fixed separators, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: str | Path) -> dict[str, str]:
    """Return the hexadecimal SHA-256 of each file directly in a folder, by its name."""
    return {path.name: sha256_file(path) for path in sorted(Path(folder).iterdir()) if path.is_file()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary_beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f"{_TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"


def _give_mode(path: Path, mode: int) -> None:
    """Give a file or folder the permissions that the umask gives to new ones."""
    wanted = stat.S_IMODE(mode)
    if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != wanted:
        path.chmod(wanted)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success flush it and rename it to ``path``, on failure remove it.

    Args:
        path: The file to appear. An existing file is replaced in one step.
    """
    target = Path(path)
    temporary = _temporary_beside(target)
    # Made here, so that its mode is the umask's: some libraries write through a private file of their own.
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        _give_mode(temporary, mode)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory; on success flush its files and rename it to ``path`` in one step.

    Args:
        path: The directory to appear. It must not exist with content.

    Raises:
        StoreError: ``path`` already exists and is not an empty directory.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} already exists: expected a new or empty directory to write to.")
    temporary = _temporary_beside(target)
    temporary.mkdir()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        for member in temporary.rglob("*"):
            _give_mode(member, mode if member.is_dir() else mode & 0o666)
        with ThreadPoolExecutor(16) as pool:  # a disk flushes many files at once in the time that one takes
            list(pool.map(_sync, temporary.rglob("*")))
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_unused(directory: str | Path) -> bool:
    """Tell whether a directory is missing, or holds nothing but temporary files that a killed run left."""
    path = Path(directory)
    return not path.exists() or (path.is_dir() and all(p.name.startswith(_TEMPORARY) for p in path.iterdir()))


def moved_along(path: str | Path, beside: str | Path) -> Iterator[Path]:
    """Yield where a path may be now that a file named, if the file and what it names were moved together.

    Args:
        path: What the file says: an absolute path, or one that was relative to whoever wrote it.
        beside: The file, where it is now.

    Yields:
        The longest ends of ``path`` below the folders that the file is in, nearest first; they need not exist.
    """
    named, here = Path(path), Path(beside).resolve()
    parts = named.parts[1:] if named.is_absolute() else named.parts
    for folder in (here, *here.parents):
        for start in range(len(parts)):
            yield folder.joinpath(*parts[start:])


def remove_leftovers(directory: str | Path) -> int:
    """Delete temporary files and directories that a killed run left in ``directory``; return how many."""
    found = sorted(Path(directory).glob(f"{_TEMPORARY}*"))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return len(found)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as canonical JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(canonical_json(value), encoding="utf-8")
