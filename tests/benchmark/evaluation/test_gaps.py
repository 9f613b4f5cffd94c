from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.gaps import (
    accuracy_in,
    control_gaps,
    distance_from_line,
    gap_by_sorting,
    pearson,
    resampled_control_gaps,
    sample_variance,
)

from spurious_imagenet.benchmark.evaluation.gaps import gap_record, predictions_of_store
from spurious_imagenet.benchmark.metrics.gaps import (
    accuracy_by_percentile,
    effective_robustness,
    gap_correlation,
    mean_gap,
    pooled_gap,
    spurious_gap,
    top_and_bottom_k,
    variance_ratio,
)
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings, RankingsInfo
from spurious_imagenet.errors import DataError, StoreError, UndefinedMetricError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig
from spurious_imagenet.models.labels import LabelSpace

# Few different values make ties at the k-th image common.
images = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40)
accuracies = st.lists(st.integers(0, 50).map(lambda i: i / 50), min_size=3, max_size=12)


def keys(n: int) -> list[str]:
    return [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]


@settings(deadline=None)
@given(images, st.integers(1, 20))
def test_gap_equals_its_definition(given_images: list[tuple[bool, int]], k: int) -> None:
    assume(len(given_images) >= 2 * k)
    correct, spuriosity = zip(*given_images, strict=True)
    ties = keys(len(correct))
    found = spurious_gap(correct, spuriosity, ties, k)
    assert found.gap == pytest.approx(gap_by_sorting(correct, spuriosity, ties, k))
    assert -1 <= found.gap <= 1


@settings(deadline=None)
@given(images, st.integers(1, 20), st.randoms())
def test_order_of_images_does_not_matter_even_among_ties(
    given_images: list[tuple[bool, int]],
    k: int,
    random,  # type: ignore[no-untyped-def]
) -> None:
    assume(len(given_images) >= 2 * k)
    rows = [(*image, key) for image, key in zip(given_images, keys(len(given_images)), strict=True)]
    before = spurious_gap(*zip(*rows, strict=True), k)
    random.shuffle(rows)
    assert spurious_gap(*zip(*rows, strict=True), k) == before


@settings(deadline=None)
@given(images, st.integers(1, 20))
def test_high_and_low_are_exactly_k_images_each_and_share_none(given_images: list[tuple[bool, int]], k: int) -> None:
    assume(len(given_images) >= 2 * k)
    spuriosity = np.array([s for _, s in given_images])
    high, low = top_and_bottom_k(spuriosity, keys(len(spuriosity)), k)
    assert len(set(high)) == len(set(low)) == k
    assert not set(high) & set(low)
    middle = np.setdiff1d(np.arange(len(spuriosity)), [*high, *low])
    assert spuriosity[low].max() <= min([*spuriosity[middle], *spuriosity[high]])
    assert spuriosity[high].min() >= max([*spuriosity[middle], *spuriosity[low]])


def test_of_a_class_of_a_thousand_the_highest_are_not_the_first_of_the_last_thousand() -> None:
    spuriosity = np.arange(1000)
    high, low = top_and_bottom_k(spuriosity, keys(1000), 100)
    assert (high == np.arange(900, 1000)).all()
    assert (low == np.arange(100)).all()


def test_of_images_that_tie_at_the_kth_place_the_lower_keys_are_the_less_spurious() -> None:
    high, low = top_and_bottom_k([0, 0, 0, 1, 1, 1], ["c", "a", "b", "f", "d", "e"], 2)
    assert list(low) == [1, 2]
    assert list(high) == [5, 3]


@settings(deadline=None)
@given(images, st.integers(1, 20), st.floats(0.1, 10), st.floats(-5, 5))
def test_scale_and_shift_of_spuriosity_change_nothing(
    given_images: list[tuple[bool, int]], k: int, scale: float, shift: float
) -> None:
    assume(len(given_images) >= 2 * k)
    correct, spuriosity = zip(*given_images, strict=True)
    ties = keys(len(correct))
    scaled = scale * np.array(spuriosity) + shift
    assert spurious_gap(correct, scaled, ties, k) == spurious_gap(correct, spuriosity, ties, k)


@settings(deadline=None)
@given(st.permutations(range(12)), st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, 6))
def test_the_sign_of_spuriosity_is_the_sign_of_the_gap(order: list[int], correct: list[bool], k: int) -> None:
    there = spurious_gap(correct, order, keys(12), k)
    back = spurious_gap(correct, -np.array(order), keys(12), k)
    assert back.gap == pytest.approx(-there.gap)


@settings(deadline=None)
@given(st.integers(0, 1), images)
def test_a_model_that_is_always_right_or_always_wrong_has_no_gap(
    right: int, given_images: list[tuple[bool, int]]
) -> None:
    spuriosity = [s for _, s in given_images]
    assert spurious_gap([bool(right)] * len(spuriosity), spuriosity, keys(len(spuriosity)), 1).gap == 0


@pytest.mark.parametrize("n", [0, 1, 19])
def test_a_class_of_fewer_than_2k_images_is_refused_by_name(n: int) -> None:
    with pytest.raises(UndefinedMetricError, match=rf"koala has {n} ranked images.*needs 20"):
        spurious_gap([True] * n, range(n), keys(n), 10, "koala")


@pytest.mark.parametrize(
    ("correct", "spuriosity", "k"),
    [([True, True], [0, np.nan], 1), ([True, True], [0, 1, 2], 1), ([True], [0, 1], 1), ([True, True], [0, 1], 0)],
)
def test_what_is_undefined_of_a_class_raises(correct: list[bool], spuriosity: list[float], k: int) -> None:
    with pytest.raises(UndefinedMetricError):
        spurious_gap(correct, spuriosity, keys(2), k)


def test_mean_over_classes_counts_classes_and_pooling_counts_images() -> None:
    high = [np.array([True, True, True, True]), np.array([True])]
    low = [np.array([False, False, False, True]), np.array([True])]
    assert mean_gap([0.75, 0.0]) == 0.375
    assert pooled_gap(high, low) == pytest.approx(0.6)
    for undefined in (lambda: mean_gap([]), lambda: mean_gap([np.nan]), lambda: pooled_gap([], [])):
        with pytest.raises(UndefinedMetricError):
            undefined()


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=60), st.sampled_from([1, 4, 5, 10]))
def test_curve_counts_every_image_once(rows: list[tuple[bool, int]], bins: int) -> None:
    correct, percentile = [r for r, _ in rows], [p / 20 for _, p in rows]
    curve = accuracy_by_percentile(correct, percentile, bins)
    assert sum(point.images for point in curve) == len(rows)
    for point in curve:
        assert (point.images, point.accuracy) == pytest.approx(accuracy_in(correct, percentile, point.low, point.high))


@pytest.mark.parametrize("percentile", [[], [np.nan], [-0.1], [1.1]])
def test_curve_of_what_is_no_percentile_raises(percentile: list[float]) -> None:
    with pytest.raises(UndefinedMetricError):
        accuracy_by_percentile([True] * len(percentile), percentile)


@settings(deadline=None)
@given(accuracies, st.data())
def test_effective_robustness_is_the_distance_from_the_least_squares_line(high: list[float], data) -> None:  # type: ignore[no-untyped-def]
    assume(len(set(high)) > 1)
    n = len(high)
    low = data.draw(st.lists(st.integers(0, 50).map(lambda i: i / 50), min_size=n, max_size=n))
    found = effective_robustness(high, low)
    assert found.effective_robustness == pytest.approx(distance_from_line(high, low), abs=1e-9)
    assert found.effective_robustness.sum() == pytest.approx(0, abs=1e-9)
    order = data.draw(st.permutations(range(n)))
    again = effective_robustness(np.array(high)[order], np.array(low)[order])
    assert again.effective_robustness == pytest.approx(found.effective_robustness[order], abs=1e-9)


@pytest.mark.parametrize(
    ("high", "low"),
    [([0.1, 0.2], [0.1, 0.2]), ([0.5, 0.5, 0.5], [0.1, 0.2, 0.3]), ([0.1, 0.2, np.nan], [0.1] * 3), ([0.1] * 3, [0.1])],
)
def test_effective_robustness_without_a_line_raises(high: list[float], low: list[float]) -> None:
    with pytest.raises(UndefinedMetricError):
        effective_robustness(high, low)


def test_equal_accuracies_that_differ_by_rounding_make_no_line() -> None:
    with pytest.raises(UndefinedMetricError, match="expected different ones"):
        effective_robustness([0.3, 0.1 + 0.2, 0.3], [0.1, 0.2, 0.3])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-10, 10), st.integers(-10, 10)), min_size=2, max_size=20), st.floats(0.1, 5))
def test_correlation_is_pearsons(pairs: list[tuple[int, int]], scale: float) -> None:
    x, y = [a / 10 for a, _ in pairs], [b / 10 for _, b in pairs]
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    r = gap_correlation(x, y)
    assert r == pytest.approx(pearson(x, y), abs=1e-9)
    assert r == pytest.approx(gap_correlation(y, x), abs=1e-12)
    assert gap_correlation(scale * np.array(x), y) == pytest.approx(r, abs=1e-9)
    assert gap_correlation(-np.array(x), y) == pytest.approx(-r, abs=1e-9)


@pytest.mark.parametrize(
    ("x", "y"), [([0.1], [0.2]), ([0.1, 0.1], [0.1, 0.2]), ([0.1, 0.2], [0.1, 0.2, 0.3]), ([], [])]
)
def test_correlation_with_a_constant_is_undefined_never_0(x: list[float], y: list[float]) -> None:
    with pytest.raises(UndefinedMetricError):
        gap_correlation(x, y)


def test_variances_are_of_class_means_and_of_model_means() -> None:
    gaps = np.random.default_rng(0).random((4, 7))
    over_classes, over_models = variance_ratio(gaps)
    assert over_classes == pytest.approx(sample_variance(list(gaps.mean(axis=0))))
    assert over_models == pytest.approx(sample_variance(list(gaps.mean(axis=1))))
    for undefined in (gaps[:1], gaps[:, :1], gaps[0], np.full((2, 2), np.nan)):
        with pytest.raises(UndefinedMetricError):
            variance_ratio(undefined)


# --- the gaps of a model ---


def ranked(classes: dict[str, int], controls: tuple[str, ...] = (), split: str = "val") -> Rankings:
    """Rank images whose hashes tell class and rank."""
    rows = []
    for class_id, n in classes.items():
        for rank in range(1, n + 1):
            rows.append(
                {
                    "split": split,
                    "name": f"{class_id}/{rank}",
                    "sha256": hashlib.sha256(f"{class_id}/{rank}".encode()).hexdigest(),
                    "class_id": class_id,
                    "class_name": class_id.upper(),
                    "control": class_id in controls,
                    "spuriosity": float(rank),
                    "rank": rank,
                    "of": n,
                    "percentile": (rank - 0.5) / n,
                }
            )
    table = pa.Table.from_pylist(rows, schema=RANKINGS_SCHEMA).to_pandas()
    return Rankings(table, RankingsInfo(model="m", weights_sha256="", feature_config_sha256="", concepts={}))


def predicted(rankings: Rankings, right: np.ndarray) -> Predictions:
    """Say of each ranked image, in the order of the table, whether the model is right."""
    rows = []
    for (_, image), correct in zip(rankings.table.iterrows(), right, strict=True):
        answer = image["class_id"] if correct else "other"
        row = {"side": "validation", "name": image["name"], "predicted_id": answer, "probability": 0.5}
        rows.append(row | {"class_id": image["class_id"], "sha256": image["sha256"]})
    return Predictions.from_rows(rows)


def test_record_counts_the_extremes_of_each_class_and_keeps_controls_apart() -> None:
    rankings = ranked({"a": 8, "b": 6, "c": 6, "d": 3}, controls=("c",))
    right = rankings.table["rank"].to_numpy() > 2
    right[rankings.table["class_id"] == "b"] = True
    record = gap_record(predicted(rankings, right), rankings, k=2, where="here")
    gaps = {c.class_id: c for c in record.classes}
    assert {name: c.gap for name, c in gaps.items()} == {"a": 1, "b": 0, "c": 1}
    assert [name for name, c in gaps.items() if c.control] == ["c"]
    assert (record.gap, record.pooled_gap, record.accuracy_high, record.accuracy_low) == (0.5, 0.5, 1, 0.5)
    assert record.refused == {"d": 3}
    assert gaps["a"].class_name == "A"
    assert gaps["a"].images == 8
    assert (record.rankings, record.split, record.k) == ("here", "val", 2)
    # Two classes resampled: both may be a, or both b.
    assert (record.gap_interval.low, record.gap_interval.high) == (0, 1)
    assert sum(point.images for point in record.curve) == 14


def scored_control(concepts: int, n: int = 60, seed: int = 4) -> tuple[Rankings, np.ndarray]:
    """A control with scores of so many concepts, half of which follow how easy its images are, beside a class "a"."""
    rankings, rng = ranked({"a": 40, "c": n}, controls=("c",)), np.random.default_rng(seed)
    right = rng.random(40 + n) < 0.6
    scores = rng.random((n, concepts)) + 0.7 * right[40:, None] * (np.arange(concepts) % 2)
    rankings.table["concept_scores"] = [None] * 40 + list(scores.round(1))
    return rankings, right


def test_a_control_has_the_mean_gap_of_single_concepts() -> None:
    rankings, right = scored_control(6)
    control = gap_record(predicted(rankings, right), rankings, k=10, resamples=4000, where="x").classes[1]
    rows = rankings.table[40:]
    case = (right[40:].tolist(), [list(s) for s in rows["concept_scores"]], rows["sha256"].tolist(), 10)
    assert control.gap == pytest.approx(np.mean(control_gaps(*case)))
    assert control.gap == pytest.approx(control.accuracy_high - control.accuracy_low)
    expected = np.quantile(resampled_control_gaps(*case, times=4000, seed=8), [0.025, 0.975])
    assert (control.interval.low, control.interval.high) == pytest.approx(expected.tolist(), abs=0.04)
    # Wider than what the images within the ends alone give: concepts differ.
    by_images = gap_record(*_with_scores(rankings, right, [1]), k=10, resamples=4000, where="x").classes[1].interval
    assert control.interval.high - control.interval.low != pytest.approx(by_images.high - by_images.low, abs=1e-3)


def _with_scores(rankings: Rankings, right: np.ndarray, kept: list[int]) -> tuple[Predictions, Rankings]:
    scores = [None if s is None else np.asarray(s)[kept] for s in rankings.table["concept_scores"]]
    return predicted(rankings, right), Rankings(rankings.table.assign(concept_scores=scores), rankings.info)


def test_scores_of_controls_change_controls_alone() -> None:
    rankings, right = scored_control(6)
    predictions, without = _with_scores(rankings, right, [])
    first, second = (gap_record(predictions, r, k=10, where="x") for r in (rankings, without))
    assert first.classes[0] == second.classes[0]
    assert first.model_copy(update={"classes": (), "rankings_sha256": ""}) == second.model_copy(
        update={"classes": (), "rankings_sha256": ""}
    )
    assert first.classes[1] != second.classes[1]
    assert first.rankings_sha256 != second.rankings_sha256
    # Rankings of older versions list none: the control's gap is that of its one ranking.
    rows = without.table[40:]
    assert second.classes[1].gap == pytest.approx(
        gap_by_sorting(right[40:].tolist(), rows["rank"].tolist(), rows["sha256"].tolist(), 10)
    )
    none = Rankings(without.table.assign(concept_scores=None), without.info)
    assert gap_record(predictions, none, k=10, where="x") == second


def test_the_interval_of_a_control_holds_the_null_as_often_as_it_says() -> None:
    """Concepts that follow the accuracy by chance, as many up as down: the mean over all concepts is 0."""
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rankings = ranked({"a": 20, "c": 80}, controls=("c",))
        right = rng.random(100) < 0.7
        slope = rng.normal(0, 1, 12)
        scores = rng.normal(0, 1, (80, 12)) + slope * right[20:, None]
        rankings.table["concept_scores"] = [None] * 20 + list(scores)
        found = gap_record(predicted(rankings, right), rankings, k=10, resamples=300, where="x").classes[1].interval
        inside += found.low <= 0 <= found.high
    assert inside >= 176  # 95 % of 200, less three standard errors and what 12 concepts cost


def test_scores_of_different_concepts_are_refused() -> None:
    rankings, right = scored_control(3)
    scores = rankings.table["concept_scores"].tolist()
    scores[-1] = scores[-1][:2]
    uneven = Rankings(rankings.table.assign(concept_scores=scores), rankings.info)
    with pytest.raises(DataError, match=r"control class c have scores of \[2, 3\] concepts"):
        gap_record(predicted(uneven, right), uneven, k=10, where="x")


def test_record_does_not_depend_on_the_order_of_rows() -> None:
    rankings = ranked({"a": 30, "b": 24})
    right = np.random.default_rng(0).random(54) < 0.6
    predictions = predicted(rankings, right)
    mixed = Rankings(rankings.table.sample(frac=1, random_state=1), rankings.info)
    shuffled = Predictions(predictions.table.sample(frac=1, random_state=2))
    assert gap_record(shuffled, mixed, k=5, where="x") == gap_record(predictions, rankings, k=5, where="x")


def test_a_class_is_resampled_alike_whatever_else_is_ranked() -> None:
    both, alone = ranked({"a": 30, "b": 24}), ranked({"b": 24})
    right = np.random.default_rng(0).random(54) < 0.6
    first = gap_record(predicted(both, right), both, k=5, where="x").classes[1]
    assert first == gap_record(predicted(alone, right[30:]), alone, k=5, where="x").classes[0]


def test_intervals_hold_what_resampling_by_hand_gives() -> None:
    rankings = ranked({"a": 40})
    right = np.random.default_rng(3).random(40) < np.linspace(0.2, 1, 40)
    record = gap_record(predicted(rankings, right), rankings, k=15, resamples=4000, where="x")
    rng = np.random.default_rng(9)
    low, high = right[:15], right[25:]
    gaps = [rng.choice(high, 15).mean() - rng.choice(low, 15).mean() for _ in range(4000)]
    found = record.classes[0].interval
    assert (found.low, found.high) == pytest.approx(np.quantile(gaps, [0.025, 0.975]), abs=0.05)
    # With a single class, resampling classes adds nothing.
    assert (record.gap_interval.low, record.gap_interval.high) == pytest.approx((found.low, found.high))


def test_curve_has_intervals_around_its_accuracies() -> None:
    rankings = ranked({"a": 300, "b": 300})
    right = np.random.default_rng(3).random(600) < 0.7
    curve = gap_record(predicted(rankings, right), rankings, k=10, where="x").curve
    assert [point.images for point in curve] == [60] * 10
    expected = 1.96 * np.sqrt(0.7 * 0.3 / 60)
    for point in curve:
        assert point.interval.low < point.accuracy < point.interval.high
        assert (point.interval.high - point.interval.low) / 2 == pytest.approx(expected, rel=0.35)


def test_hash_is_of_classes_images_and_ranks() -> None:
    rankings = ranked({"a": 6, "b": 6})
    right = np.ones(12, bool)
    first = gap_record(predicted(rankings, right), rankings, k=2, where="x").rankings_sha256
    assert gap_record(predicted(rankings, ~right), rankings, k=3, where="y").rankings_sha256 == first
    swapped = rankings.table["rank"].replace({1: 2, 2: 1})
    other = Rankings(rankings.table.assign(rank=swapped), rankings.info)
    assert gap_record(predicted(other, right), other, k=2, where="x").rankings_sha256 != first


def test_spurious_side_and_unranked_images_do_not_count() -> None:
    rankings = ranked({"a": 6})
    predictions = predicted(rankings, np.array([0, 0, 1, 1, 1, 1], bool))
    spurious = predictions.table.assign(side="spurious", predicted_id="a")
    unranked = predictions.table.assign(sha256="ff", predicted_id="other")
    more = Predictions(pd.concat([spurious, unranked, predictions.table]))
    assert gap_record(more, rankings, k=2, where="x") == gap_record(predictions, rankings, k=2, where="x")


def test_ranked_images_without_prediction_are_counted() -> None:
    rankings = ranked({"a": 6, "b": 6})
    predictions = predicted(rankings, np.ones(12, bool))
    fewer = Predictions(predictions.table.iloc[:9])
    with pytest.raises(DataError, match=r"3 of 12 images ranked in here have no prediction.*class b"):
        gap_record(fewer, rankings, k=2, where="here")


def test_an_image_is_matched_within_its_class_alone() -> None:
    rankings = ranked({"a": 6})
    predictions = predicted(rankings, np.ones(6, bool))
    with pytest.raises(DataError, match="6 of 6"):
        gap_record(Predictions(predictions.table.assign(class_id="b")), rankings, k=2, where="here")


def test_rankings_of_several_splits_are_refused() -> None:
    val, train = ranked({"a": 6}), ranked({"a": 6}, split="train")
    both = Rankings(pd.concat([val.table, train.table]), val.info)
    with pytest.raises(DataError, match=r"\['train', 'val'\]"):
        gap_record(predicted(val, np.ones(6, bool)), both, k=2, where="here")


@pytest.mark.parametrize(
    ("classes", "controls", "k"), [({"a": 6, "b": 4}, (), 4), ({"a": 6}, ("a",), 2), ({"a": 6}, (), 0)]
)
def test_no_class_with_a_gap_is_undefined(classes: dict[str, int], controls: tuple[str, ...], k: int) -> None:
    rankings = ranked(classes, controls)
    with pytest.raises(UndefinedMetricError):
        gap_record(predicted(rankings, np.ones(sum(classes.values()), bool)), rankings, k=k, where="here")


# --- predictions of a feature store ---


def stored(path: Path, rows: list[dict[str, object]], class_ids: tuple[str, ...] = ("a", "b", "c")) -> FeatureStore:
    config = StoreConfig(
        model="file:x", weights_sha256="", label_space="custom", class_ids=class_ids, feature_dim=2, preprocess={}
    )
    store = FeatureStore.create(path, config)
    for place, shard in enumerate((rows[:2], rows[2:])):
        store.write_part(
            shard=f"{place}.tar",
            shard_sha256="",
            shard_bytes=0,
            features=np.zeros((len(shard), 2), np.float16),
            rows=pa.Table.from_pylist(shard, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
    return store


def row(key: str, label: int, top: list[int], probability: list[float]) -> dict[str, object]:
    digest = hashlib.sha256(key.encode()).digest()
    fill = [-1] * (5 - len(top)), [0.0] * (5 - len(top))
    return {
        "key": key,
        "sha256": digest,
        "class_id": "abcdefg"[label],
        "label": label,
        "top5_index": top + fill[0],
        "top5_probability": probability + fill[1],
    }


def test_predictions_of_a_store_are_those_of_its_rows(tmp_path: Path) -> None:
    rows = [
        row("one", 0, [0, 2, 1], [0.5, 0.3, 0.2]),
        row("two", 1, [2, 0, 1], [0.6, 0.3, 0.1]),
        row("three", 2, [1, 2, 0], [0.75, 0.25, 0.0]),
        {**row("none", 0, [1, 2, 0], [0.75, 0.25, 0.0]), "label": -1, "class_id": None},
    ]
    predictions = predictions_of_store(stored(tmp_path / "s", rows))
    table = predictions.table
    assert list(table["name"]) == ["one", "two", "three"]
    assert list(table["class_id"]) == ["a", "b", "c"]
    assert list(table["predicted_id"]) == ["a", "c", "b"]
    assert list(table["probability"]) == pytest.approx([0.5, 0.1, 0.25])
    assert list(predictions.correct) == [True, False, False]
    assert list(table["top5_id"].iloc[1]) == ["c", "a", "b"]
    assert table["sha256"].iloc[0] == hashlib.sha256(b"one").hexdigest()
    predictions.save(tmp_path / "p.parquet")
    assert list(Predictions.load(tmp_path / "p.parquet").table["top5_id"].iloc[2]) == ["b", "c", "a"]


def test_a_class_below_the_fifth_has_probability_0(tmp_path: Path) -> None:
    rows = [row("one", 6, [0, 1, 2, 3, 4], [0.5, 0.2, 0.1, 0.1, 0.05])]
    assert predictions_of_store(stored(tmp_path / "s", rows, tuple("abcdefg"))).table["probability"].iloc[0] == 0


def test_a_store_of_other_classes_or_without_any_is_refused(tmp_path: Path) -> None:
    labelled = [row("one", 0, [0], [0.5])]
    store = stored(tmp_path / "s", labelled)
    assert len(predictions_of_store(store, LabelSpace("x", ("a", "b", "c"), ("A", "B", "C")))) == 1
    with pytest.raises(StoreError, match="expected the 2 of 'x'"):
        predictions_of_store(store, LabelSpace("x", ("a", "b"), ("A", "B")))
    with pytest.raises(StoreError, match="bare encoder"):
        predictions_of_store(stored(tmp_path / "t", labelled, ()))
    unlabelled = [{**labelled[0], "label": -1}]
    with pytest.raises(DataError, match="no labelled image"):
        predictions_of_store(stored(tmp_path / "u", unlabelled))
    unpredicted = [row("one", 0, [], [])]
    with pytest.raises(DataError, match="without a predicted class"):
        predictions_of_store(stored(tmp_path / "v", unpredicted))
