"""Store: the benchmark's versions, and all entries, scores and verifications, in files that are only ever added.

    versions/<version>/                 version.json, and the tables and pictures that it names
    entries/<id[:2]>/<id>.json          what was submitted: the file that makes an entry part of the store
    entries/<id[:2]>/<id>.predictions.parquet
    scores/<version>/<id[:2]>/<id>.json and its resamples
    verifications/<id>/<hash>.json
    withdrawn/<id>.json

Whatever is made of several files becomes part of the store by its JSON, which is written last: what a killed writer
leaves is never read, and the same thing added again finishes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pandas as pd
from pydantic import BaseModel

from spurious_imagenet.datasets.manifest import VersionName
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import StoreError, one_line
from spurious_imagenet.leaderboard.entry import Entry, Verification
from spurious_imagenet.leaderboard.scoring.score import ScoredEntry
from spurious_imagenet.leaderboard.store._entries import (
    entry_path,
    parse_entry,
    predictions_path,
    read_submitted,
    write_entry,
)
from spurious_imagenet.leaderboard.store._retired import without_retired
from spurious_imagenet.leaderboard.store._scores import read_score, read_summaries, scored_ids, write_score
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.leaderboard.store.records import Broken, Withdrawal, json_bytes, now, sha256_bytes
from spurious_imagenet.leaderboard.store.versions import (
    Pictures,
    read_pictures,
    read_version,
    version_order,
    write_version,
)
from spurious_imagenet.leaderboard.submission.predictions import as_predictions
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.version import BenchmarkVersion

__all__ = ["Store"]

_Record = TypeVar("_Record", bound=BaseModel)
#: Versions that are kept open: entries of all versions are rescored on the latest.
_OPEN_VERSIONS = 4


class Store:
    """The files of a leaderboard, in a folder or at any fsspec address; processes may add to it side by side.

    Args:
        url: Folder or address, such as ``board``, ``s3://bucket/board`` or ``hf://datasets/org/results``.
        create: Go on where there is no leaderboard yet.
        storage_options: What fsspec needs to open the address.

    Raises:
        ConfigError: There is no such kind of address, or a package for it is missing.
        StoreError: There is no leaderboard.
    """

    def __init__(
        self, url: str | Path, *, create: bool = False, storage_options: Mapping[str, Any] | None = None
    ) -> None:
        self.url, self.storage_options = str(url), dict(storage_options or {})
        self.place = ObjectStore(url, storage_options)
        self._entries: dict[str, Entry] = {}
        self._broken: dict[str, str] = {}
        self._open_version = lru_cache(maxsize=_OPEN_VERSIONS)(partial(read_version, self.place))
        if not create and not self.versions():
            raise StoreError(
                f"{self.place.name} is not a leaderboard: expected one made by `spurious leaderboard init`."
            )

    # Versions

    def versions(self) -> list[VersionName]:
        """Return the names of all versions, oldest first."""
        found = {PurePosixPath(f).parent.name for f in self.place.files("versions") if f.endswith("/version.json")}
        return sorted(found, key=version_order)

    @property
    def latest(self) -> VersionName:
        """Name of the newest version.

        Raises:
            StoreError: There is none.
        """
        versions = self.versions()
        if not versions:
            raise StoreError(f"{self.place.name} has no version yet: expected `spurious leaderboard init` first.")
        return versions[-1]

    def version(self, name: str = "latest") -> BenchmarkVersion:
        """Read a version; the last few stay open.

        Raises:
            StoreError: There is none of this name, or a file of it is missing or changed.
        """
        return self._open_version(self.latest if name == "latest" else name)

    def add_version(self, version: BenchmarkVersion, pictures: Pictures = ()) -> None:
        """Add a version.

        Args:
            version: The version.
            pictures: What :meth:`pictures` shall give; those that an earlier version has need not be given again.

        Raises:
            StoreError: The store has another version of this name.
        """
        write_version(self.place, version, pictures)

    def pictures(self, version: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Read JPEGs of a version or of those before it; keys that none has are left out.

        Args:
            version: Name, or ``latest``.
            keys: ``image:<sha256>`` for an image, at most 256 px a side; ``board:<concept id>`` for a board.
        """
        name = self.latest if version == "latest" else version
        until = [v for v in self.versions() if version_order(v) <= version_order(name)]
        return read_pictures(self.place, until, keys)

    # Entries

    def add(self, submission: Submission, *, received: str | None = None) -> Entry:
        """Add a checked submission; the same one again gives the entry that is there.

        Args:
            submission: What :func:`~spurious_imagenet.leaderboard.submission.check.check_submission` found nothing in.
            received: When it came, ISO 8601 in UTC; now if left out.

        Raises:
            StoreError: It cannot be written, or the store has a torn or changed file in its place.
        """
        entry, new = write_entry(self.place, submission, received or now())
        return entry if new else self.entry(entry.id)

    def entries(self, *, withdrawn: bool = False) -> list[Entry]:
        """Return all entries that count, in the order in which they came; those with broken files are left out.

        Args:
            withdrawn: Those that were withdrawn instead.
        """
        files = self.place.files("entries")
        paths = [f for f in files if f.endswith(".json")]
        new = [path for path in paths if path not in self._entries]
        for path, data in self.place.read_many(new):
            self._include(path, data)
        there = set(files)
        gone = self._withdrawn_ids()
        found = []
        for path in paths:
            entry = self._entries.get(path)
            if entry is None or (entry.id in gone) != withdrawn:
                continue
            if predictions_path(entry.id) in there:
                self._broken.pop(path, None)
                found.append(entry)
            else:
                self._broken[path] = "its predictions file is missing"
        return sorted(found, key=lambda e: (e.received, e.id))

    def entry(self, entry_id: str) -> Entry:
        """Return one entry, withdrawn or not.

        Raises:
            StoreError: There is none of this id, or its file is torn or changed.
        """
        path = entry_path(entry_id)
        if path not in self._entries:
            try:
                self._include(path, self.place.read(path))
            except FileNotFoundError:
                raise StoreError(f"{self.place.name} has no entry {entry_id[:12]}.") from None
        if path not in self._entries:
            raise StoreError(f"{self.place.name}: {path}: {self._broken[path]}.")
        return self._entries[path]

    @property
    def broken(self) -> tuple[Broken, ...]:
        """Files that were read so far and are not what they must be; they count nowhere."""
        return tuple(Broken(path, reason) for path, reason in sorted(self._broken.items()))

    def submitted(self, entry_id: str) -> pd.DataFrame:
        """Return what was submitted, one row each distinct image of a side and class.

        Raises:
            StoreError: There is no such entry, or its predictions are missing, torn or changed.
        """
        found = read_submitted(self.place, self.entry(entry_id))
        if isinstance(found, Broken):
            self._broken[found.path] = found.reason
            raise StoreError(f"{self.place.name}: {found.path}: {found.reason}.")
        table: pd.DataFrame = found.to_pandas()
        return table

    def predictions(self, entry_id: str, version: str = "latest") -> Predictions:
        """Return an entry's predictions of the images of a version.

        Raises:
            StoreError: There is no such entry, or its predictions are missing, torn or changed.
            DataError: The version has images that the entry has no predictions of, or lacks some for another reason
                than that they were retired.
        """
        wanted, own = self.version(version), self.entry(entry_id).info.dataset_version
        return as_predictions(without_retired(self.submitted(entry_id), own, wanted), wanted)

    def withdraw(self, entry_id: str, reason: str) -> Withdrawal:
        """Say that an entry no longer counts; its files stay, and a withdrawn entry stays withdrawn.

        Raises:
            StoreError: There is no such entry.
        """
        withdrawal = Withdrawal(entry=self.entry(entry_id).id, time=now(), reason=reason)
        if not self.place.write_once(f"withdrawn/{entry_id}.json", json_bytes(withdrawal)):
            found = self.withdrawals().get(withdrawal.entry)
            if found is None:
                raise StoreError(f"{self.place.name}: the withdrawal of entry {entry_id[:12]} cannot be read.")
            return found
        return withdrawal

    def withdrawals(self) -> dict[str, Withdrawal]:
        """Return which entries no longer count: entry id -> when and why."""
        return {w.entry: w for w in self._records(self.place.files("withdrawn"), Withdrawal)}

    # Scores and verifications

    def add_score(self, scored: ScoredEntry) -> None:
        """Add a score under its version; one that is there stays."""
        write_score(self.place, scored)

    def scored(self, entry_id: str, version: str = "latest") -> ScoredEntry | None:
        """Return the score of an entry under a version, with everything; None if it has none.

        Raises:
            StoreError: A file of it is missing, torn or changed.
        """
        return read_score(self.place, entry_id, self.latest if version == "latest" else version)

    def scored_ids(self, version: str = "latest") -> set[str]:
        """Return the ids of the entries that have a score under a version."""
        return scored_ids(self.place, self.latest if version == "latest" else version)

    def summaries(self, version: str = "latest") -> dict[str, ScoredEntry]:
        """Return the scores of all entries under a version, as tables and ranks need them: entry id -> score.

        ``classes`` and ``concepts`` of the scores, and ``classes`` and ``curve`` of their gaps, are empty;
        :meth:`scored` has them.
        """
        found = {}
        for entry, score in read_summaries(self.place, self.latest if version == "latest" else version):
            if isinstance(score, Broken):
                self._broken[score.path] = score.reason
            else:
                found[entry] = score
        return found

    def add_verification(self, verification: Verification) -> None:
        """Add what came out when an entry was run again."""
        self.entry(verification.entry)
        data = json_bytes(verification)
        self.place.write_once(f"verifications/{verification.entry}/{sha256_bytes(data)}.json", data)

    def verifications(self, entry_id: str | None = None) -> list[Verification]:
        """Return the verifications of an entry, or of all, oldest first."""
        folder = "verifications" if entry_id is None else f"verifications/{entry_id}"
        found = self._records(self.place.files(folder), Verification)
        return sorted(found, key=lambda v: (v.time, v.entry))

    # Files

    def _include(self, path: str, data: bytes) -> None:
        found = parse_entry(path, data)
        if isinstance(found, Broken):
            self._broken[path] = found.reason
        else:
            self._broken.pop(path, None)
            self._entries[path] = found

    def _withdrawn_ids(self) -> set[str]:
        return {PurePosixPath(f).stem for f in self.place.files("withdrawn")}

    def _records(self, paths: Sequence[str], kind: type[_Record]) -> Iterator[_Record]:
        for path, data in self.place.read_many(paths):
            try:
                yield kind.model_validate_json(data)
            except ValueError as error:
                self._broken[path] = f"it cannot be read: {one_line(error)}"
