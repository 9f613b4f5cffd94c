"""Where a leaderboard keeps its files: any fsspec place, in which files appear whole and are never overwritten."""

from __future__ import annotations

import errno
import os
import random
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec

from spurious_imagenet.errors import ConfigError, StoreError
from spurious_imagenet.threads import ordered_map

__all__ = ["ObjectStore"]

_READERS = 16
_TEMPORARY = ".tmp"
_DAY = 24 * 3600
#: Answers of a place to which another writer was faster: a file that was written, or merely something beside it.
_OVERTAKEN = {409, 412}
_ATTEMPTS = 10
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 16.0  # seconds
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


class ObjectStore:
    """A folder at any fsspec address.

    On a local folder a file is written under a temporary name and then linked to its own, which the system refuses if
    there is one already. In a repository of a Hub it is a commit on top of the very state in which the file was
    missing. Elsewhere it is one put of one object, by the address's own exclusive creation where it has one and after a
    look otherwise.

    Args:
        url: Folder or address, such as ``board``, ``s3://bucket/board`` or ``hf://datasets/org/results``.
        storage_options: What fsspec needs to open it.

    Raises:
        ConfigError: There is no such kind of address, or a package for it is missing.
    """

    def __init__(self, url: str | Path, storage_options: Mapping[str, Any] | None = None) -> None:
        self.name = re.sub(r"//[^/@]*@", "//", str(url))  # an address may carry a password; messages do not
        try:
            fs, root = fsspec.core.url_to_fs(str(url), **(storage_options or {}))
        except (ValueError, ImportError) as error:
            raise ConfigError(f"{self.name} cannot be opened: {_one_line(error)}.") from error
        self._fs, self._root = fs, str(root).rstrip("/")
        protocol = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self.local = Path(self._root) if protocol & {"file", "local"} else None
        self._hub = "hf" in protocol and not self._root.startswith("buckets/")
        self.shared = "memory" not in protocol
        """Whether other processes see what is here."""

    def read(self, path: str) -> bytes:
        """Return a file's bytes.

        Raises:
            FileNotFoundError: There is none.
            StoreError: It cannot be read.
        """
        with self._said(f"read {path}"):
            if self.local:
                return (self.local / path).read_bytes()
            return self._read_now(self._full(path))

    def _read_now(self, full: str) -> bytes:
        try:
            data: bytes = self._fs.cat_file(full)
        except FileNotFoundError:
            self._fs.invalidate_cache()  # it may have come since the folder was last listed
            data = self._fs.cat_file(full)
        return data

    def read_many(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files with their bytes, in order; files that are not there are left out."""

        def read(path: str) -> tuple[str, bytes | None]:
            try:
                return path, self.read(path)
            except FileNotFoundError:
                return path, None

        found = map(read, paths) if self.local else ordered_map(read, paths, threads=_READERS)
        yield from ((path, data) for path, data in found if data is not None)

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file to read parts of it; errors are those of :meth:`read`."""
        with self._said(f"read {path}"), self._fs.open(self._full(path), "rb") as file:
            yield file

    def files(self, folder: str) -> list[str]:
        """List the files at any depth of a folder, relative to this place; a folder that is not there has none."""
        with self._said(f"list {folder}"):
            if self.local:
                return sorted(_local_files(self.local, folder))
            self._fs.invalidate_cache()  # other writers' files count too
            found = self._fs.find(self._full(folder))
        return sorted(str(path)[len(self._root) :].lstrip("/") for path in found)

    def has(self, path: str) -> bool:
        """Tell whether a file is there."""
        with self._said(f"look for {path}"):
            if self.local:
                return (self.local / path).is_file()
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._full(path)))

    def write_once(self, path: str, data: bytes | Path) -> bool:
        """Write a file whole, unless there is one of that name.

        Args:
            path: Where, relative to this place.
            data: Its bytes, or a local file to copy.

        Returns:
            Whether it was written; False: one was there, and is as it was.

        Raises:
            StoreError: It cannot be written.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            if self.has(path):
                return False
            with self._said(f"write {path}"):
                try:
                    self._create(path, data)
                except FileExistsError:
                    return False
                except Exception as error:
                    if _status(error) not in _OVERTAKEN or attempt == _ATTEMPTS:
                        raise
                else:
                    return True
            # Writers that met once are to meet less often again.
            time.sleep(random.uniform(0, min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)))  # noqa: S311 - no secret
        raise AssertionError("the last attempt returns or raises")

    def remove_leftovers(self) -> None:
        """Remove temporary files that killed writers left more than a day ago."""
        if self.local:
            for path in (self.local / _TEMPORARY).glob("*"):
                if path.stat().st_mtime < time.time() - _DAY:
                    path.unlink(missing_ok=True)

    def _create(self, path: str, data: bytes | Path) -> None:
        if self.local:
            self._link(self.local / path, data)
        elif self._hub:
            self._commit(path, data)
        elif isinstance(data, bytes):
            self._fs.pipe_file(self._full(path), data, mode="create")
        else:
            self._fs.put_file(str(data), self._full(path))

    def _commit(self, path: str, data: bytes | Path) -> None:
        """Commit a file where it is missing; what was committed meanwhile makes the Hub refuse."""
        at, api = self._fs.resolve_path(self._full(path)), self._fs._api
        head = api.repo_info(at.repo_id, repo_type=at.repo_type, revision=at.revision).sha
        if api.file_exists(at.repo_id, at.path_in_repo, repo_type=at.repo_type, revision=head):
            raise FileExistsError(path)
        api.upload_file(
            path_or_fileobj=data,
            path_in_repo=at.path_in_repo,
            repo_id=at.repo_id,
            repo_type=at.repo_type,
            revision=at.revision,
            parent_commit=head,
        )

    def _link(self, target: Path, data: bytes | Path) -> None:
        assert self.local is not None
        folder = self.local / _TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{target.name}-{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                for block in [data] if isinstance(data, bytes) else _blocks(data):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            _move_new(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    @contextmanager
    def _said(self, doing: str) -> Iterator[None]:
        """Turn what file systems raise into one sentence; a missing or existing file is the caller's business."""
        try:
            yield
        except (FileNotFoundError, FileExistsError, StoreError):
            raise
        except OSError as error:
            if self.local:
                raise  # the command line names the file
            raise StoreError(f"{self.name}: cannot {doing}: {_one_line(error)}.") from error
        except Exception as error:  # every kind of address has errors of its own
            raise StoreError(f"{self.name}: cannot {doing}: {_one_line(error)}.") from error


def _move_new(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(target) from None
        temporary.rename(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block


def _local_files(root: Path, folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(root / folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(parent).relative_to(root).as_posix()
        yield from (f"{relative}/{name}" for name in names if not name.startswith("."))


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that an error, or what it came from, tells; None where there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):  # of S3
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(response, "status_code", None)
        if found is not None:
            return int(found)
        error = error.__cause__
    return None


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
