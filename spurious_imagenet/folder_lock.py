"""A folder that one process at a time works in."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from weakref import WeakValueDictionary, finalize

from spurious_imagenet.errors import StoreError

__all__ = ["FolderLock", "lock_folder"]

# A file system that knows no locks must not stop a process that works in the folder alone.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class FolderLock:
    """A lock on a folder, held until nobody in this process refers to it; a kill releases it, too.

    Args:
        folder: The folder; a file ``.lock`` is made in it.

    Raises:
        StoreError: Another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"another process is at work in {folder}: wait until it ends, or give each a folder of its own."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise


_HELD: WeakValueDictionary[Path, FolderLock] = WeakValueDictionary()


def lock_folder(folder: str | Path) -> FolderLock:
    """Lock a folder for this process; who locks it again in the same process shares the lock.

    Raises:
        StoreError: Another process holds it.
    """
    path = Path(folder).resolve()
    lock = _HELD.get(path)
    if lock is None:
        lock = _HELD[path] = FolderLock(path)
    return lock
