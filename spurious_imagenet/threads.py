"""Work that several threads do side by side, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ordered_map"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def ordered_map(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, ahead: int = 4, name: str = "map"
) -> Iterator[_Result]:
    """Yield ``work(item)`` of every item, in the order of the items, while threads work on the next ones.

    An error of an item comes in its place. After an error or an interrupt, and when the iterator is closed early,
    items that nobody has begun are dropped; those that are being worked on are waited for.

    Args:
        work: Called in the threads.
        items: Gone through once, in the caller's thread, and only as far as ``ahead`` allows.
        threads: How many.
        ahead: Results held per thread at most, those being made included.
        name: What the threads are called.

    Raises:
        Exception: Whatever ``work`` or ``items`` raises.
    """
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
