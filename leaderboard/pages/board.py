"""BoardData: what all pages are made of, read from a store once and again when something was added."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.leaderboard.entry import Entry, Verification
from spurious_imagenet.leaderboard.pages._class_values import ClassesOfScore, ClassValues
from spurious_imagenet.leaderboard.pages._pictures import picture_keys
from spurious_imagenet.leaderboard.scoring.alike import alike
from spurious_imagenet.leaderboard.scoring.ranking import RankedEntry, Ranking, rank_entries
from spurious_imagenet.leaderboard.scoring.score import Score, ScoredEntry
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.version import BenchmarkVersion
from spurious_imagenet.leaderboard.worker.queue import Queue, Queued

__all__ = ["BoardData", "ClassValues", "Said", "VersionBoard"]

#: Entries whose predictions are shown beside images.
_JUDGES = 10
#: Whole scores that are kept: the files of an entry are asked for one after another.
_KEPT_SCORES = 4


@dataclass(frozen=True)
class Said:
    """What one entry says of one image: its probability of the class, and the class it predicts."""

    entry: str
    probability: float
    predicted: str


@dataclass(eq=False)
class VersionBoard:
    """The board of one version.

    Attributes:
        store: Where details are read from when they are asked for.
        version: The version.
        entries: Entry id -> entry, of those that are scored, best first within each protocol.
        scored: Entry id -> score without classes, and resamples.
        ranking: Of all of them.
        verifications: Entry id -> what came out when it was run again, oldest first.
    """

    store: Store
    version: BenchmarkVersion
    entries: dict[str, Entry]
    scored: dict[str, ScoredEntry]
    ranking: Ranking
    verifications: dict[str, list[Verification]]
    _classes: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _scores: OrderedDict[str, ScoredEntry] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def read(cls, store: Store, name: str, before: VersionBoard | None = None) -> VersionBoard:
        """Read the board of a version; what ``before`` has read of classes is kept.

        Raises:
            StoreError: The version is missing or torn.
        """
        version, scored = store.version(name), store.summaries(name)
        known = {e.id: e for e in store.entries() if e.id in scored}
        verifications: dict[str, list[Verification]] = {}
        for verification in store.verifications():
            verifications.setdefault(verification.entry, []).append(verification)
        latest = {i: verifications[i][-1] if i in verifications else None for i in known}
        ranking = rank_entries([(e, scored[e.id], latest[e.id]) for e in known.values()])
        entries = {row.entry: known[row.entry] for part in ranking.protocols.values() for row in part.rows}
        kept = {} if before is None else {i: v for i, v in before._classes.items() if i in entries}
        return cls(store, version, entries, scored, ranking, verifications, kept)

    @property
    def name(self) -> str:
        """Of the version."""
        return self.version.info.version

    @cached_property
    def rows(self) -> dict[str, RankedEntry]:
        """Entry id -> its place in the ranking."""
        return {row.entry: row for part in self.ranking.protocols.values() for row in part.rows}

    def score(self, entry_id: str) -> Score:
        """Score of an entry, without classes."""
        return self.scored[entry_id].score

    def whole_score(self, entry_id: str) -> ScoredEntry | None:
        """Score of an entry with everything, None if it has none; the last few are kept.

        Raises:
            StoreError: A file of it is missing, torn or changed.
        """
        with self._lock:
            found = self._scores.get(entry_id)
        if found is None and (found := self.store.scored(entry_id, self.name)) is not None:
            with self._lock:
                self._scores[entry_id] = found
                while len(self._scores) > _KEPT_SCORES:
                    self._scores.popitem(last=False)
        return found

    def verification(self, entry_id: str) -> Verification | None:
        """The last verification of an entry."""
        found = self.verifications.get(entry_id)
        return found[-1] if found else None

    @cached_property
    def spurious(self) -> pd.DataFrame:
        """Spurious images of the version."""
        return self.version.side("spurious")

    @cached_property
    def images(self) -> dict[str, list[dict[str, Any]]]:
        """SHA-256 -> rows of the spurious image, one each concept that it shows."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.spurious.to_dict("records"):
            found[str(row["sha256"])].append({str(key): value for key, value in row.items()})
        return dict(found)

    @cached_property
    def places(self) -> dict[str, int]:
        """Class id -> its place in :meth:`class_values`."""
        return {c: place for place, c in enumerate(self.version.info.class_names)}

    def class_values(self, class_id: str) -> dict[str, ClassValues]:
        """What entries score on a class, the best first; those whose full score is missing or torn are left out."""
        values = self._all_classes[:, self.places[class_id]]
        order = np.argsort(-values[:, 0], kind="stable")
        ids = tuple(self.entries)
        return {ids[i]: ClassValues(*values[i].tolist()) for i in order if not np.isnan(values[i, 0])}

    def class_means(self) -> NDArray[np.float64]:
        """(classes, 3) mean, lowest and highest spurious AUC over the entries; NaN where there is none."""
        auc = self._all_classes[:, :, 0].astype(np.float64)
        auc = auc[~np.isnan(auc).any(axis=1)]
        if not len(auc):
            return np.full((len(self.places), 3), np.nan)
        return np.stack([auc.mean(axis=0), auc.min(axis=0), auc.max(axis=0)], axis=1)

    @cached_property
    def _all_classes(self) -> NDArray[np.float32]:
        """(entries, classes, 6) values in the order of :class:`ClassValues`; NaN where a score is missing or torn."""
        with self._lock:  # who comes while they are read waits, in place of reading them too
            missing = [i for i in self.entries if i not in self._classes]
            self._classes |= {i: self._read_classes(i) for i in missing}
        return np.array([self._classes[i] for i in self.entries], np.float32).reshape(-1, len(self.places), 6)

    def _read_classes(self, entry_id: str) -> NDArray[np.float32]:
        """Take the classes alone out of a score's file: reading whole scores of thousands of entries takes long."""
        table = np.full((len(self.places), 6), np.nan, np.float32)
        try:
            data = self.store.place.read(f"scores/{self.name}/{entry_id[:2]}/{entry_id}.json")
            for record in ClassesOfScore.model_validate_json(data).score.classes:
                table[self.places[record.class_id]] = record.values()
        except (FileNotFoundError, StoreError, ValueError, KeyError):
            table[:] = np.nan  # its page says what is torn
        return table

    @cached_property
    def alike(self) -> dict[str, list[str]]:
        """Entry id -> entries of the same predictions, of those that have such."""
        scores = {entry_id: scored.score for entry_id, scored in self.scored.items()}
        return alike(self.entries, scores, self.store.submitted)

    @cached_property
    def pictured(self) -> frozenset[str]:
        """Keys of the pictures that the store has."""
        return picture_keys(self.store, self.name)

    @cached_property
    def judges(self) -> tuple[str, ...]:
        """The best entries by spurious AUC whatever their protocol, whose word on images is shown."""
        best = sorted(self.entries, key=lambda i: -self.score(i).mean.spurious_auc)
        return tuple(best[:_JUDGES])

    @cached_property
    def said(self) -> dict[tuple[str, str], list[Said]]:
        """(Class id, image hash) -> what the judges say of a spurious image."""
        found: dict[tuple[str, str], list[Said]] = {}
        for judge in self.judges:
            try:
                table = self.store.submitted(judge)
            except StoreError:
                continue
            rows = table[table["side"] == "spurious"][["class_id", "sha256", "probability", "top5_id"]]
            for class_id, sha256, probability, best in rows.to_numpy(object):
                found.setdefault((class_id, sha256), []).append(Said(judge, probability, best[0]))
        return found

    @cached_property
    def class_labels(self) -> dict[str, str]:
        """Class id -> name, of all classes that the version's images name."""
        pairs = self.version.images[["class_id", "class_name"]].drop_duplicates("class_id").dropna()
        return {**dict(zip(pairs["class_id"], pairs["class_name"], strict=True)), **self.version.info.class_names}


@dataclass(eq=False)
class BoardData:
    """All versions of a board; the latest is read at once, others when they are asked for.

    Attributes:
        store: Where everything is.
        versions: Names, newest first.
        entries: Entry id -> entry, of all that count, scored or not.
        latest: Board of the newest version.
        requests: Models that someone asked to be run.
    """

    store: Store
    versions: tuple[str, ...]
    entries: dict[str, Entry]
    latest: VersionBoard
    requests: tuple[Queued, ...]
    fingerprint: tuple[Sequence[str], ...]
    _others: dict[str, VersionBoard] = field(default_factory=dict)

    @classmethod
    def read(cls, store: Store, before: BoardData | None = None) -> BoardData:
        """Read a board, or return ``before`` if nothing was added since.

        Raises:
            StoreError: The store has no version, or a file of it is torn.
        """
        fingerprint = _fingerprint(store)
        if before is not None and before.fingerprint == fingerprint:
            return before
        requests = tuple(Queue(store.place).all())
        if before is not None and before.fingerprint[:-1] == fingerprint[:-1]:
            return replace(before, requests=requests, fingerprint=fingerprint)
        versions = tuple(reversed(store.versions()))
        same = before is not None and before.versions == versions
        kept = before.latest if before is not None and same else None
        entries = {e.id: e for e in store.entries()}
        return cls(store, versions, entries, VersionBoard.read(store, versions[0], kept), requests, fingerprint)

    def version(self, name: str) -> VersionBoard:
        """Return the board of a version.

        Raises:
            DataError: There is none of this name.
        """
        if name == self.latest.name:
            return self.latest
        if name not in self.versions:
            raise DataError(f"there is no version {name!r}: expected one of {list(self.versions)}.")
        if name not in self._others:
            self._others[name] = VersionBoard.read(self.store, name)
        return self._others[name]


def _fingerprint(store: Store) -> tuple[Sequence[str], ...]:
    """Say what counts in a store by the names of its files, which never change their content."""
    folders = ("entries", "scores", "verifications", "withdrawn", "requests")
    return (store.versions(), *(store.place.files(folder) for folder in folders))
