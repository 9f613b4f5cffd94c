"""A folder that one process at a time works in."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from spurious_imagenet.errors import StoreError

__all__ = ["lock_folder"]

# A file system that knows no locks must not stop a process that works in the folder alone.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}

# Two threads that acquire the same lock at once would each open the file, and one find it locked by the other.
_ONE_AT_A_TIME = threading.Lock()


def lock_folder(folder: str | Path) -> BaseFileLock:
    """Lock a folder for this process; who locks it again in the same process shares the lock.

    It is held until nobody in this process refers to it; a kill releases it, too.

    Args:
        folder: The folder; a file ``.lock`` is made in it.

    Raises:
        StoreError: Another process holds it.
    """
    path = Path(folder).resolve()
    # Without flock the library would fall back to a file that outlives a killed process.
    lock = FileLock(path / ".lock", timeout=0, thread_local=False, is_singleton=True, fallback_to_soft=False)
    try:
        with _ONE_AT_A_TIME:
            lock.acquire()
    except Timeout:
        raise StoreError(
            f"another process is at work in {path}: wait until it ends, or give each a folder of its own."
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return lock
