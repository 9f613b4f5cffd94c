"""Ranks say what the paired resamples say, and no more."""

from __future__ import annotations

import dataclasses
import random
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from reference.leaderboard import naive_ranks, residuals_of_line
from scoring_helpers import digest, entry_of, info_of, predict, version_of, version_rows, with_rankings

from spurious_imagenet.benchmark.metrics.intervals import interval
from spurious_imagenet.errors import DataError, UndefinedMetricError
from spurious_imagenet.leaderboard.entry import Entry, Verification
from spurious_imagenet.leaderboard.scoring._significance import better_and_worse
from spurious_imagenet.leaderboard.scoring.ranking import Contender, Ranking, rank_entries
from spurious_imagenet.leaderboard.scoring.scoring import score_entry

VERSION = with_rankings(version_of(version_rows(classes=6), gap_k=3, resamples=200))


def contender(number: int, skill: float = 0.3, seed: int | None = None, **about: object) -> Contender:
    entry = entry_of(number, **about)
    return entry, score_entry(entry, predict(VERSION, number if seed is None else seed, skill), VERSION), None


@pytest.fixture(scope="module")
def several() -> list[Contender]:
    return [contender(i, skill) for i, skill in enumerate((0.1, 0.2, 0.2, 0.3, 0.5, 0.8, 0.05))]


def places(ranking: Ranking) -> dict[str, tuple[int, int]]:
    return {r.entry: (r.rank, r.worst_rank) for p in ranking.protocols.values() for r in p.rows}


def random_resamples(rng: np.random.Generator, n: int, resamples: int, spread: float) -> NDArray[np.float32]:
    common = rng.normal(0, 0.03, resamples)
    return (rng.normal(0, spread, (n, 1)) + common + rng.normal(0, 0.01, (n, resamples))).astype(np.float32)


@pytest.mark.parametrize("resamples", [2, 40, 41, 100, 999, 1000])
@pytest.mark.parametrize("spread", [0.05, 0.01, 0.0005])
def test_significance_equals_all_pairs_by_their_quantiles(resamples: int, spread: float) -> None:
    rng = np.random.default_rng(resamples)
    for n in (1, 2, 9, 14):
        values = random_resamples(rng, n, resamples, spread)
        if n > 3:
            values[2] = values[0]
        better, worse = better_and_worse(values)
        found = [(1 + b, n - w) for b, w in zip(better, worse, strict=True)]
        assert found == naive_ranks(values.mean(axis=1).tolist(), values.astype(np.float64))


def test_better_and_worse_are_two_sides_of_the_same_pairs() -> None:
    values = random_resamples(np.random.default_rng(1), 40, 100, 0.02)
    better, worse = better_and_worse(values)
    assert better.sum() == worse.sum() > 0
    turned, turned_worse = better_and_worse(-values)
    np.testing.assert_array_equal(better, turned_worse)
    np.testing.assert_array_equal(worse, turned)


def test_resamples_that_cannot_rank_are_refused() -> None:
    for values in (np.zeros((0, 5)), np.zeros((3, 0)), np.full((2, 4), np.nan)):
        with pytest.raises(UndefinedMetricError, match="expected finite values"):
            better_and_worse(values.astype(np.float32))


@pytest.mark.parametrize("measure", ["spurious_auc", "spurious_ap", "accuracy", "spurious_gap"])
def test_the_order_of_entries_changes_nothing(several: list[Contender], measure: str) -> None:
    expected = rank_entries(several, measure)
    for seed in range(3):
        shuffled = random.Random(seed).sample(several, len(several))
        assert rank_entries(shuffled, measure) == expected


def test_ranks_are_those_of_paired_quantiles_and_rows_stand_in_order(several: list[Contender]) -> None:
    ranking = rank_entries(several).protocols["paper"]
    values = [s.score.mean.spurious_auc for _, s, _ in several]
    naive = naive_ranks(values, np.stack([s.resampled["spurious_auc"] for _, s, _ in several]).astype(float))
    by_entry = {r.entry: r for r in ranking.rows}
    for (entry, scored, _), value, place in zip(several, values, naive, strict=True):
        row = by_entry[entry.id]
        assert (row.rank, row.worst_rank) == place
        assert row.value == value
        assert row.interval.low == pytest.approx(scored.score.mean_intervals["spurious_auc"].low, abs=1e-6)
        assert 1 <= row.rank <= row.worst_rank <= len(several)
    assert [(r.rank, -r.value) for r in ranking.rows] == sorted((r.rank, -r.value) for r in ranking.rows)
    assert ranking.rows[0].rank == 1
    assert any(r.ties for r in ranking.rows)
    assert any(r.rank > 1 for r in ranking.rows)


def test_identical_entries_tie(several: list[Contender]) -> None:
    twin = contender(99, 0.3, seed=3)
    found = {r.entry: r for r in rank_entries([*several, twin]).protocols["paper"].rows}
    one, other = found[several[3][0].id], found[twin[0].id]
    assert (one.rank, one.worst_rank, one.value) == (other.rank, other.worst_rank, other.value)
    assert one.ties >= 1
    alone = rank_entries([several[3], twin]).protocols["paper"].rows
    assert [r.sentence for r in alone] == ["rank 1 to 2; 1 other entry cannot be told apart from it"] * 2


def test_an_entry_worse_than_all_changes_no_rank_above_it(several: list[Contender]) -> None:
    better = several[3:6]
    worst = contender(50, -0.5)
    before, after = places(rank_entries(better)), places(rank_entries([*better, worst]))
    assert after.pop(worst[0].id) == (4, 4)
    assert after == before


def test_gaps_rank_by_their_distance_from_zero(several: list[Contender]) -> None:
    rows = rank_entries(several, "spurious_gap").protocols["paper"].rows
    resampled = -np.abs([s.resampled["spurious_gap"] for _, s, _ in several])
    naive = naive_ranks([0.0] * len(several), resampled)
    assert {r.entry: (r.rank, r.worst_rank) for r in rows} == {
        e.id: place for (e, _, _), place in zip(several, naive, strict=True)
    }


def test_protocols_are_ranked_apart(several: list[Contender]) -> None:
    other = [contender(20, 0.9, protocol="standard"), contender(21, 0.1, protocol="standard")]
    ranking = rank_entries([*several, *other])
    assert ranking.protocols["paper"] == rank_entries(several).protocols["paper"]
    assert {r.entry for r in ranking.protocols["standard"].rows} == {e.id for e, _, _ in other}
    assert ranking.row(other[0][0].id).rank == 1


def test_effective_robustness_is_the_distance_from_the_line(several: list[Contender]) -> None:
    ranking = rank_entries(several).protocols["paper"]
    gaps = [s.score.gaps for _, s, _ in several]
    expected = residuals_of_line([g.accuracy_high for g in gaps], [g.accuracy_low for g in gaps])
    found = {r.entry: r for r in ranking.rows}
    for place, (entry, _, _) in enumerate(several):
        assert found[entry.id].effective_robustness == pytest.approx(expected[place])
    draws = [
        residuals_of_line(
            [s.resampled["accuracy_high"][r] for _, s, _ in several],
            [s.resampled["accuracy_low"][r] for _, s, _ in several],
        )
        for r in range(VERSION.info.resamples)
    ]
    own = interval(np.array(draws)[:, 0])
    row = found[several[0][0].id].effective_robustness_interval
    assert (row.low, row.high) == pytest.approx((own.low, own.high), abs=1e-6)


def test_effective_robustness_that_is_undefined_says_why(several: list[Contender]) -> None:
    two = rank_entries(several[:2]).protocols["paper"]
    assert "below three models" in two.undefined["effective_robustness"]
    same = rank_entries([contender(i, 0.3, seed=5) for i in range(3)]).protocols["paper"]
    assert "expected different ones" in same.undefined["effective_robustness"]
    assert all(r.effective_robustness is None for p in (two, same) for r in p.rows)
    plain = version_of(version_rows(), resamples=10)
    entries = [entry_of(i) for i in range(3)]
    bare = [(e, score_entry(e, predict(plain, i), plain), None) for i, e in enumerate(entries)]
    assert "no rankings" in rank_entries(bare).protocols["paper"].undefined["effective_robustness"]
    with pytest.raises(UndefinedMetricError, match="no spurious gap"):
        rank_entries(bare, "spurious_gap")


def test_a_mitigation_gains_over_the_same_weights_under_the_same_protocol(several: list[Contender]) -> None:
    weights = several[0][0].info.weights_sha256
    mended = contender(30, 0.6, weights_sha256=weights, mitigation="SpuFix")
    elsewhere = contender(31, 0.6, weights_sha256=weights, mitigation="SpuFix", protocol="standard")
    orphan = contender(32, 0.6, mitigation="SpuFix")
    ranking = rank_entries([*several, mended, elsewhere, orphan])
    gain = ranking.row(mended[0].id).gain
    assert gain is not None
    assert gain.over == several[0][0].id
    for measure, difference in gain.by.items():
        a, b = mended[1].resampled[measure], several[0][1].resampled[measure]
        assert (difference.interval.low, difference.interval.high) == pytest.approx(
            np.percentile(a.astype(float) - b, [2.5, 97.5]), abs=1e-6
        )
    auc = mended[1].score.mean.spurious_auc - several[0][1].score.mean.spurious_auc
    assert gain.by["spurious_auc"].difference == pytest.approx(auc)
    assert ranking.row(elsewhere[0].id).gain is None
    assert ranking.row(orphan[0].id).gain is None
    assert ranking.row(several[0][0].id).gain is None


def test_verified_is_what_the_verification_says(several: list[Contender]) -> None:
    said = Verification(
        entry=several[0][0].id,
        time="2026-01-02T00:00:00Z",
        images=1,
        agreeing=1,
        largest_difference=0,
        tolerance=0.01,
        weights_sha256=digest("w"),
        verified=True,
    )
    ranking = rank_entries([(*several[0][:2], said), several[1]])
    assert ranking.row(several[0][0].id).verified is True
    assert ranking.row(several[1][0].id).verified is None


def test_rankings_of_mixed_up_scores_are_refused(several: list[Contender]) -> None:
    with pytest.raises(DataError, match="twice"):
        rank_entries([several[0], several[0]])
    with pytest.raises(DataError, match="has the score of entry"):
        rank_entries([(several[0][0], several[1][1], None)])
    moved = several[1][1].score.model_copy(update={"version": "2.0.0"})
    with pytest.raises(DataError, match=r"scores of the versions \['1.0.0', '2.0.0'\]"):
        rank_entries([several[0], (several[1][0], dataclasses.replace(several[1][1], score=moved), None)])
    with pytest.raises(DataError, match="is not ranked"):
        rank_entries(several).row("0" * 64)


@pytest.mark.slow
def test_thousands_of_entries_rank_in_seconds(several: list[Contender]) -> None:
    values = random_resamples(np.random.default_rng(0), 2000, 1000, 0.02)
    info, score = info_of(0), several[0][1].score
    many = []
    for i, resampled in enumerate(values):
        entry = Entry(id=digest(i), info=info, predictions_sha256=digest(i), received="2026")
        shared = dict.fromkeys(several[0][1].resampled, resampled)
        scored = dataclasses.replace(
            several[0][1], score=score.model_copy(update={"entry": entry.id}), resampled=shared
        )
        many.append((entry, scored, None))
    start = time.process_time()
    ranking = rank_entries(many)
    assert len(ranking.protocols["paper"].rows) == 2000
    assert time.process_time() - start < 20
