"""Scores as files of a store: what tables and ranks need in one small file, everything else in another."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.datasets.manifest import Sha256, VersionName
from spurious_imagenet.errors import StoreError, one_line
from spurious_imagenet.leaderboard.scoring.score import Score, ScoredEntry
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.leaderboard.store.records import Broken, json_bytes, sha256_bytes
from spurious_imagenet.records import Record
from spurious_imagenet.tensors import SafetensorError, dump_arrays, parse_arrays


class StoredScore(Record):
    """The file by which an entry has a score under a version; it names that of the resamples."""

    schema_version: int = 1
    score: Score
    resampled: str
    """File beside this one."""
    resampled_sha256: Sha256


def write_score(place: ObjectStore, scored: ScoredEntry) -> None:
    """Write a score, its resamples first; a score that is there stays as it is."""
    score = scored.score
    data = dump_arrays(scored.resampled, metadata={"score": _without_details(score).model_dump_json()})
    digest = sha256_bytes(data)
    folder = _folder(score.version, score.entry)
    name = f"{score.entry}-{digest[:16]}.safetensors"
    place.write_once(f"{folder}/{name}", data)
    stored = StoredScore(score=score, resampled=name, resampled_sha256=digest)
    place.write_once(_path(score.version, score.entry), json_bytes(stored))


def read_score(place: ObjectStore, entry: str, version: VersionName) -> ScoredEntry | None:
    """Read the whole score of an entry; None if it has none under this version.

    Raises:
        StoreError: A file of it is missing, torn or changed.
    """
    path = _path(version, entry)
    try:
        stored = StoredScore.model_validate_json(place.read(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{place.name}: {path} cannot be read: {one_line(error)}.") from error
    beside = f"{_folder(version, entry)}/{stored.resampled}"
    try:
        data = place.read(beside)
    except FileNotFoundError:
        raise StoreError(f"{place.name}: {beside} is missing.") from None
    if sha256_bytes(data) != stored.resampled_sha256:
        raise StoreError(f"{place.name}: {beside} changed since it was written: its SHA-256 is another.")
    return ScoredEntry(stored.score, _arrays(data))


def scored_ids(place: ObjectStore, version: VersionName) -> set[str]:
    """Return which entries have a score under a version."""
    return {PurePosixPath(f).stem for f in place.files(f"scores/{version}") if f.endswith(".json")}


def read_summaries(place: ObjectStore, version: VersionName) -> Iterator[tuple[str, ScoredEntry | Broken]]:
    """Yield entries with their scores under a version, without what only an entry's own page shows.

    Classes, concepts, and the classes and the curve of gaps are empty: a whole score is a hundred times as large.
    """
    done, beside = set(), defaultdict(list)
    for path in place.files(f"scores/{version}"):
        name = PurePosixPath(path)
        if name.suffix == ".json":
            done.add(name.stem)
        elif name.suffix == ".safetensors":
            beside[name.stem.partition("-")[0]].append(path)
    wanted = {}
    for entry in sorted(done):
        # Two machines that scored the same entry at once may differ in a last digit: the record says which counts.
        file = beside[entry][0] if len(beside[entry]) == 1 else _named_file(place, version, entry)
        if file is None:
            yield entry, Broken(_path(version, entry), "the score's resamples are missing")
        else:
            wanted[file] = entry
    for path, data in place.read_many(wanted):
        yield wanted[path], _summary(path, data)


def _named_file(place: ObjectStore, version: str, entry: str) -> str | None:
    try:
        stored = StoredScore.model_validate_json(place.read(_path(version, entry)))
    except (FileNotFoundError, ValueError):
        return None
    path = f"{_folder(version, entry)}/{stored.resampled}"
    return path if place.has(path) else None


def _summary(path: str, data: bytes) -> ScoredEntry | Broken:
    if sha256_bytes(data)[:16] != PurePosixPath(path).stem.partition("-")[2]:
        return Broken(path, "the file changed since it was written: its SHA-256 is another")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return ScoredEntry(Score.model_validate_json(header["__metadata__"]["score"]), _arrays(data))
    except (ValueError, KeyError, SafetensorError) as error:
        return Broken(path, f"the file cannot be read: {one_line(error)}")


def _arrays(data: bytes) -> dict[str, NDArray[np.float32]]:
    return dict(sorted(parse_arrays(data).items()))


def _without_details(score: Score) -> Score:
    gaps = score.gaps and score.gaps.model_copy(update={"classes": (), "curve": ()})
    return score.model_copy(update={"classes": (), "concepts": (), "gaps": gaps})


def _folder(version: str, entry: str) -> str:
    return f"scores/{version}/{entry[:2]}"


def _path(version: str, entry: str) -> str:
    return f"{_folder(version, entry)}/{entry}.json"
