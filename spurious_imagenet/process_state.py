"""What belongs to the whole process, changed for one run of one function and then put back.

A run that ends must not take away what another, in another thread, still needs, nor put back what that one had set:
``warnings.catch_warnings`` and a value that each run saves for itself do both. Here each run adds a layer of its own,
and what was there before the first comes back with the end of the last.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

__all__ = ["Bars", "environment", "log_levels", "no_warnings"]

Value = TypeVar("Value")


class _Layers(Generic[Value]):
    """Values of the process by name, each for as long as the runs that want it last.

    Args:
        read: Returns the value of a name.
        write: Sets it.
    """

    def __init__(self, read: Callable[[str], Value], write: Callable[[str, Value], object]) -> None:
        self._read, self._write = read, write
        self._lock = threading.Lock()
        self._layers: dict[str, list[tuple[object, Value]]] = {}

    @contextmanager
    def during(self, values: Mapping[str, Value]) -> Iterator[None]:
        """Set values; at the end each is what the latest of the other runs wants, or what it was before all of them."""
        run = object()
        with self._lock:
            for name, value in values.items():
                self._layers.setdefault(name, [(None, self._read(name))]).append((run, value))
                self._write(name, value)
        try:
            yield
        finally:
            with self._lock:
                for name in values:
                    self._take_away(name, run)

    def _take_away(self, name: str, run: object) -> None:
        left = [layer for layer in self._layers.pop(name) if layer[0] is not run]
        self._write(name, left[-1][1])
        if len(left) > 1:
            self._layers[name] = left


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


_VARIABLES: _Layers[str | None] = _Layers(os.environ.get, _set_variable)
_LEVELS: _Layers[int] = _Layers(
    lambda name: logging.getLogger(name).level, lambda name, level: logging.getLogger(name).setLevel(level)
)


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables while a block runs; None unsets one."""
    with _VARIABLES.during(values):
        yield


@contextmanager
def log_levels(level: int, *names: str) -> Iterator[None]:
    """Let loggers say only what is at least as grave as ``level`` while a block runs."""
    with _LEVELS.during(dict.fromkeys(names, level)):
        yield


@contextmanager
def no_warnings(category: type[Warning] = Warning, message: str = "") -> Iterator[None]:
    """Hide warnings of a category, and if given of a message, while a block runs.

    Args:
        category: Which; all of them where left out.
        message: Regular expression that the beginning of the message matches.
    """
    wanted = ("ignore", re.compile(message, re.IGNORECASE) if message else None, category, None, 0)
    filters: Any = warnings.filters
    filters.insert(0, wanted)
    try:
        yield
    finally:
        with suppress(ValueError):  # where whoever runs inside has thrown all filters away
            filters.remove(wanted)


class Bars:
    """The progress bars of a library.

    Args:
        are_hidden: Says whether the library shows none.
        hide: Hides them.
        show: Shows them.
    """

    def __init__(self, are_hidden: Callable[[], bool], hide: Callable[[], object], show: Callable[[], object]) -> None:
        def write(_: str, hidden: bool) -> None:
            if hidden != are_hidden():  # what is so already is not asked for: a library may warn that it cannot
                (hide if hidden else show)()

        self._hidden: _Layers[bool] = _Layers(lambda _: are_hidden(), write)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Keep them away while a block runs."""
        with self._hidden.during({"": True}):
            yield
