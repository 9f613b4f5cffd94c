"""Engines: how units of work (a shard of a features run, a chunk of a mining run) are spread over machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

__all__ = ["Engine", "LocalEngine"]

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs a function over units; the function itself skips what is done and writes its own output whole."""

    def map(self, work: Callable[[Unit], Result], units: Sequence[Unit]) -> Iterator[Result]:
        """Yield ``work(unit)`` for every unit, in any order."""
        ...


class LocalEngine:
    """One unit after the other in this process; the parallelism is inside a unit, among its images."""

    def map(self, work: Callable[[Unit], Result], units: Sequence[Unit]) -> Iterator[Result]:
        """Yield ``work(unit)`` for every unit, in order."""
        for unit in units:
            yield work(unit)
