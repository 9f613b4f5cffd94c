"""Pools of processes that an interrupt ends at once and without a word from each of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any

__all__ = ["process_pool"]


@contextmanager
def process_pool(workers: int, **options: Any) -> Iterator[ProcessPoolExecutor]:
    """Start processes; when the block is left by an exception, end them without waiting for what they do.

    A terminal sends Ctrl-C to every process of a command. Only the one that started the others answers it.

    Args:
        workers: How many processes.
        options: Of ``ProcessPoolExecutor``.
    """
    others = set(active_children())
    # Processes with threads must not be forked.
    with ProcessPoolExecutor(workers, get_context("spawn"), **options) as pool:
        with _interrupts_held():
            for _ in range(workers):  # each task starts a process, long before one is free to take the next
                pool.submit(int)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(active_children()) - others:
                child.terminate()
            raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back from this thread; processes that it starts meanwhile never see one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
