"""Ranking entries: who is better, who cannot be told apart, and what a mitigation gains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spurious_imagenet.benchmark.metrics.gaps import effective_robustness
from spurious_imagenet.benchmark.metrics.intervals import PairedDifference, intervals, paired_difference
from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.datasets.manifest import Sha256, VersionName
from spurious_imagenet.errors import DataError, UndefinedMetricError
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.entry import Entry, Verification
from spurious_imagenet.leaderboard.scoring._significance import better_and_worse
from spurious_imagenet.leaderboard.scoring.score import Score, ScoredEntry
from spurious_imagenet.records import Record

__all__ = ["Gain", "Measure", "ProtocolRanking", "RankedEntry", "Ranking", "rank_entries", "value_of"]

Measure = Literal["spurious_auc", "spurious_ap", "accuracy", "spurious_gap"]
Contender = tuple[Entry, ScoredEntry, Verification | None]
Floats = NDArray[np.float32]

_MEASURES: tuple[Measure, ...] = ("spurious_auc", "spurious_ap", "accuracy", "spurious_gap")


class Gain(Record):
    """What a mitigation changed: an entry minus the one of the same weights and protocol without it."""

    over: Sha256
    """The entry without the mitigation: the first that came."""
    by: dict[Measure, PairedDifference]
    """A smaller gap is the better one; of all others the higher value."""


class RankedEntry(Record):
    """An entry's place among those of its protocol."""

    entry: Sha256
    value: float
    """Of the measure that ranks."""
    interval: Interval
    rank: int
    """1 + how many entries are significantly better: the best rank that the resamples leave open."""
    worst_rank: int
    """How many entries there are, less those that are significantly worse."""
    effective_robustness: float | None = None
    """How far ``accuracy_low`` is above the line over the entries; higher is better."""
    effective_robustness_interval: Interval | None = None
    gain: Gain | None = None
    verified: bool | None = None
    """None if it was never run again."""

    @property
    def ties(self) -> int:
        """How many other entries are neither significantly better nor significantly worse."""
        return self.worst_rank - self.rank

    @property
    def sentence(self) -> str:
        """Say in words how sure the rank is."""
        if not self.ties:
            return f"rank {self.rank}; no other entry is tied with it"
        others = "1 other entry" if self.ties == 1 else f"{self.ties} other entries"
        return f"rank {self.rank} to {self.worst_rank}; {others} cannot be told apart from it"


class ProtocolRanking(Record):
    """The entries of one protocol; those of another see other pixels and are ranked apart."""

    rows: tuple[RankedEntry, ...]
    """By rank, those of equal rank by value, then as they came."""
    robustness_slope: float | None = None
    robustness_intercept: float | None = None
    undefined: dict[str, str] = {}
    """What could not be computed -> why."""


class Ranking(Record):
    """A board's order."""

    measure: Measure
    protocols: dict[Protocol, ProtocolRanking]

    def row(self, entry_id: str) -> RankedEntry:
        """Return the place of an entry.

        Raises:
            DataError: It is not ranked.
        """
        found = next((r for p in self.protocols.values() for r in p.rows if r.entry == entry_id), None)
        if found is None:
            raise DataError(f"entry {entry_id[:12]} is not ranked by {self.measure}.")
        return found


def rank_entries(scored: Iterable[Contender], measure: Measure = "spurious_auc") -> Ranking:
    """Rank entries of one version of the benchmark, each protocol apart.

    An entry is significantly better than another where the 95 % percentile interval of their paired difference excludes
    0; both are measured on the same resamples of images and classes. This holds for each pair alone: of many pairs of
    equally good entries, 5 % look different by chance. Gaps rank by their distance from 0.

    Args:
        scored: Entries with their scores and their last verification, in any order.
        measure: What to rank by.

    Raises:
        DataError: Scores are of different versions, an entry is there twice, or a score is of another entry.
        UndefinedMetricError: A score lacks the measure.
    """
    ordered = sorted(scored, key=lambda c: (c[0].received, c[0].id))
    _check(ordered)
    by_protocol: dict[Protocol, list[Contender]] = defaultdict(list)
    for contender in ordered:
        by_protocol[contender[0].info.protocol].append(contender)
    return Ranking(measure=measure, protocols={p: _rank(by_protocol[p], measure) for p in Protocol if p in by_protocol})


def value_of(score: Score, measure: Measure) -> float:
    """Return a measure's value.

    Raises:
        UndefinedMetricError: The score has no gaps, as its version has no rankings.
    """
    if measure == "spurious_gap":
        if score.gaps is None:
            raise UndefinedMetricError(f"version {score.version} has no rankings: its entries have no spurious gap.")
        return score.gaps.gap
    return score.accuracy if measure == "accuracy" else float(getattr(score.mean, measure))


def _check(scored: Sequence[Contender]) -> None:
    versions: set[VersionName] = {s.score.version for _, s, _ in scored}
    if len(versions) > 1:
        raise DataError(f"scores of the versions {sorted(versions)} in one ranking: expected one version.")
    ids = [entry.id for entry, _, _ in scored]
    twice = next((i for i, before in zip(ids[1:], ids, strict=False) if i == before), None)
    if twice is not None:
        raise DataError(f"entry {twice[:12]} is in the ranking twice: expected each entry once.")
    for entry, one, _ in scored:
        if one.score.entry != entry.id:
            raise DataError(f"entry {entry.id[:12]} has the score of entry {one.score.entry[:12]}.")


def _rank(scored: list[Contender], measure: Measure) -> ProtocolRanking:
    values = np.array([value_of(s.score, measure) for _, s, _ in scored])
    resampled = np.stack([s.resampled[measure] for _, s, _ in scored])
    spread = intervals(resampled)
    # Of gaps 0 is best, of everything else more.
    merit, merits = (-np.abs(values), -np.abs(resampled)) if measure == "spurious_gap" else (values, resampled)
    better, worse = better_and_worse(merits)
    robustness = _Robustness(scored)
    gains = _gains(scored)
    rows = [
        RankedEntry(
            entry=entry.id,
            value=float(values[i]),
            interval=spread[i],
            rank=1 + int(better[i]),
            worst_rank=len(scored) - int(worse[i]),
            effective_robustness=robustness.value(i),
            effective_robustness_interval=robustness.interval(i),
            gain=gains.get(entry.id),
            verified=None if verification is None else verification.verified,
        )
        for i, (entry, _, verification) in enumerate(scored)
    ]
    places = sorted(range(len(rows)), key=lambda i: (rows[i].rank, -merit[i], i))
    return ProtocolRanking(
        rows=tuple(rows[i] for i in places),
        robustness_slope=robustness.slope,
        robustness_intercept=robustness.intercept,
        undefined=robustness.undefined,
    )


class _Robustness:
    """The line through all entries' accuracies without cues against those with cues (SR appendix D)."""

    def __init__(self, scored: list[Contender]) -> None:
        self.slope: float | None = None
        self.intercept: float | None = None
        self.undefined: dict[str, str] = {}
        self._values: NDArray[np.float64] | None = None
        self._intervals: list[Interval] | None = None
        gaps = [s.score.gaps for _, s, _ in scored]
        known = [g for g in gaps if g is not None]
        if len(known) < len(gaps):
            self.undefined["effective_robustness"] = "the version has no rankings: its entries have no spurious gap."
            return
        try:
            line = effective_robustness([g.accuracy_high for g in known], [g.accuracy_low for g in known])
        except UndefinedMetricError as error:
            self.undefined["effective_robustness"] = str(error)
            return
        self.slope, self.intercept, self._values = line.slope, line.intercept, line.effective_robustness
        high, low = (np.stack([s.resampled[f"accuracy_{end}"] for _, s, _ in scored]) for end in ("high", "low"))
        if np.ptp(high, axis=0).min() < 1e-6:
            self.undefined["effective_robustness_interval"] = (
                "in some resample all entries have the same accuracy on the images of highest spuriosity."
            )
            return
        self._intervals = intervals(_distances_from_lines(high.astype(np.float64), low.astype(np.float64)))

    def value(self, place: int) -> float | None:
        return None if self._values is None else float(self._values[place])

    def interval(self, place: int) -> Interval | None:
        return None if self._intervals is None else self._intervals[place]


def _distances_from_lines(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, resamples) how far each entry is above the least-squares line of each resample."""
    dx, dy = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.asarray(dy - dx * ((dx * dy).sum(axis=0) / (dx * dx).sum(axis=0)))


def _gains(scored: list[Contender]) -> dict[str, Gain]:
    plain: dict[str, tuple[Entry, ScoredEntry]] = {}
    for entry, one, _ in scored:
        if entry.info.mitigation is None:
            plain.setdefault(entry.info.weights_sha256, (entry, one))
    return {
        entry.id: _gain(one, *plain[entry.info.weights_sha256])
        for entry, one, _ in scored
        if entry.info.mitigation is not None and entry.info.weights_sha256 in plain
    }


def _gain(mended: ScoredEntry, entry: Entry, plain: ScoredEntry) -> Gain:
    shared = [m for m in _MEASURES if m in mended.resampled and m in plain.resampled]
    found = {
        m: paired_difference(
            value_of(mended.score, m), value_of(plain.score, m), mended.resampled[m], plain.resampled[m]
        )
        for m in shared
    }
    return Gain(over=entry.id, by=found)
