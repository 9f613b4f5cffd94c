"""Scoring every entry under a version from the predictions that it came with, in several processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any

from spurious_imagenet.datasets.manifest import VersionName
from spurious_imagenet.errors import SpuriousImagenetError, StoreError
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.scoring.score import ScoredEntry
from spurious_imagenet.leaderboard.scoring.scoring import score_entry
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.processes import process_pool

__all__ = ["RescoreReport", "rescore", "score_under"]

#: With fewer entries, starting processes takes longer than scoring.
_FEW = 16
Progress = Callable[[int, int], None]
_Done = tuple[str, str | None]


@dataclass(frozen=True)
class RescoreReport:
    """What came of it.

    Attributes:
        version: The version.
        scored: Entries that got a score.
        kept: Entries that had one.
        refused: Entry id -> why it gets none.
        seconds: Wall time.
    """

    version: VersionName
    scored: int
    kept: int
    refused: dict[str, str]
    seconds: float


def score_under(store: Store, entry: Entry, version: str = "latest") -> ScoredEntry:
    """Return an entry's score under a version; it is made and kept where there is none.

    Raises:
        StoreError: The entry's predictions are missing, torn or changed.
        DataError: The version has images that the entry has no predictions of.
        UndefinedMetricError: A class lacks the images of one side.
    """
    wanted = store.version(version)
    found = store.scored(entry.id, wanted.info.version)
    if found is None:
        found = score_entry(entry, store.predictions(entry.id, wanted.info.version), wanted)
        store.add_score(found)
    return found


def rescore(
    store: Store, version: str = "latest", progress: Progress | None = None, *, workers: int | None = None
) -> RescoreReport:
    """Score every entry that lacks a score under a version; a killed run goes on where it was.

    An entry that cannot be scored is reported, and the others are scored. Each process holds the version and one
    entry's predictions.

    Args:
        store: The leaderboard.
        version: Under which version.
        progress: Called with (entries done, of all that lacked a score).
        workers: Processes; as many as CPUs if left out.

    Raises:
        StoreError: There is no such version, or a process was killed.
    """
    start, name = time.monotonic(), store.version(version).info.version
    entries, scored = store.entries(), store.scored_ids(name)
    todo = [entry for entry in entries if entry.id not in scored]
    refused: dict[str, str] = {}
    for done, (entry_id, reason) in enumerate(_score_all(store, todo, name, workers), start=1):
        if reason is not None:
            refused[entry_id] = reason
        if progress:
            progress(done, len(todo))
    kept = len(entries) - len(todo)
    return RescoreReport(name, len(todo) - len(refused), kept, refused, time.monotonic() - start)


def _score_all(store: Store, entries: list[Entry], version: str, workers: int | None) -> Iterator[_Done]:
    count = workers or os.cpu_count() or 1
    if count == 1 or len(entries) < _FEW or not store.place.shared:
        yield from (_score_one(store, entry, version) for entry in entries)
        return
    arguments = (store.url, store.storage_options, version)
    with process_pool(count, initializer=_open, initargs=arguments) as pool:
        try:
            yield from _in_window(pool, entries, 4 * count)
        except BrokenProcessPool as error:
            raise StoreError(
                "a process that scored entries was killed; finished scores stay, and the same command goes on."
            ) from error


def _in_window(pool: ProcessPoolExecutor, entries: Iterable[Entry], size: int) -> Iterator[_Done]:
    remaining = iter(entries)
    waiting: set[Future[_Done]] = {pool.submit(_score_here, entry) for entry in islice(remaining, size)}
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        waiting |= {pool.submit(_score_here, entry) for entry in islice(remaining, len(done))}
        yield from (future.result() for future in done)


def _score_one(store: Store, entry: Entry, version: str) -> _Done:
    try:
        score_under(store, entry, version)
    except SpuriousImagenetError as error:
        return entry.id, str(error)
    return entry.id, None


_opened: tuple[Store, str] | None = None  # of a process of the pool


def _open(url: str, storage_options: Mapping[str, Any], version: str) -> None:
    global _opened  # noqa: PLW0603 - a pool hands its processes nothing else that lasts
    _opened = Store(url, storage_options=storage_options), version


def _score_here(entry: Entry) -> _Done:
    assert _opened is not None
    store, version = _opened
    return _score_one(store, entry, version)
