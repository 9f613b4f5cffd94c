from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import tuning as naive
from tuning_world import CLASSES, CUED, World, make_world, ranked, write_store

from spurious_imagenet.benchmark.mitigation._tuning_data import TrainingImages, split_halves
from spurious_imagenet.benchmark.mitigation._tuning_fit import gap_of, learning_rate
from spurious_imagenet.benchmark.mitigation._tuning_stats import accuracy_change, closed_share, gap_change
from spurious_imagenet.benchmark.mitigation.load import load_mitigation
from spurious_imagenet.benchmark.mitigation.tuning import Tuning, tune, write_tuning
from spurious_imagenet.benchmark.mitigation.tuning_record import TuningConfig, TuningRecord
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import DataError, ModelError, StoreError, UndefinedMetricError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import load_classifier

QUICK = TuningConfig(per_class=20, max_steps=60, seeds=2, resamples=50)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def opened(world: World, config: TuningConfig = QUICK, train: str = "train", val: str = "val") -> Tuning:
    root = world.root
    ranks = Rankings.load(root / "rankings", "train"), Rankings.load(root / "rankings", "val")
    stores = FeatureStore.open(root / train), FeatureStore.open(root / val)
    return Tuning(load_classifier(world.spec), *stores, ranks, str(root / "rankings"), config, "cpu")


def ranks_of(world: World) -> list[int]:
    table = ranked(world.val, "val")
    known = {(c, h): r for c, h, r in zip(table["class_id"], table["sha256"], table["rank"], strict=True)}
    return [known.get((CLASSES[k], h), 0) for k, h in zip(world.val.label, world.val.sha256, strict=True)]


def naive_logits(features: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return features.astype(np.float64) @ weight.T.astype(np.float64) + bias


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=40))
def test_halves_are_those_of_the_naive_rule(images: list[tuple[int, int]]) -> None:
    label = [k for k, _ in images]
    sha256 = [f"{(7919 * h) % 997:064x}" for _, h in images]
    half = split_halves(np.array(label), np.array(sha256))
    assert half.tolist() == naive.halves(label, sha256)
    stopping = {h for h, s in zip(sha256, half, strict=True) if s == 0}
    reported = {h for h, s in zip(sha256, half, strict=True) if s == 1}
    assert not stopping & reported


def test_halves_are_halves() -> None:
    half = split_halves(np.repeat(np.arange(3), [50, 7, 1]), np.array([f"{i:064x}" for i in range(58)]))
    assert [np.bincount(part, minlength=2).tolist() for part in np.split(half, [50, 57])] == [[25, 25], [3, 4], [0, 1]]


def test_stopping_and_reported_images_are_disjoint(world: World) -> None:
    tuning = opened(world)
    stopping, reported = (set(tuning.val.table["sha256"].iloc[tuning.val.rows_of(half)]) for half in tuning.halves)
    assert not stopping & reported
    assert len(stopping) == len(reported) == 160
    one, other = tuning.folds
    for half, fold, opposite in ((stopping, one, other), (reported, other, one)):
        assert set(tuning.val.table["sha256"].iloc[fold.stopping_rows]) == half
        assert np.array_equal(fold.stopping_rows, opposite.reported_rows)
        rows = np.concatenate([np.concatenate([c.high, c.low]) for c in opposite.reported_ends])
        assert set(tuning.val.table["sha256"].iloc[rows]) <= half
        stopping_ends = np.concatenate([np.concatenate([c.high, c.low]) for c in fold.stopping.ends])
        np.testing.assert_array_equal(fold.stopping_rows[stopping_ends], rows)


def test_gaps_are_those_of_the_naive_rule(world: World) -> None:
    tuning = opened(world)
    correct = naive_logits(world.val.features, world.weight, np.zeros(4)).argmax(axis=1) == world.val.label
    own = tuning.correct(tuning.head)
    place = {h: i for i, h in enumerate(world.val.sha256)}
    assert own.tolist() == [correct[place[h]] for h in tuning.val.table["sha256"]]
    head = torch.from_numpy(np.column_stack([world.weight, np.zeros(4)]).astype(np.float32))
    of_halves = []
    for half, fold in enumerate(tuning.folds):
        case = (world.val.label.tolist(), world.val.sha256, ranks_of(world), correct)
        of_halves.append(naive.gap(*case, half, tuning.k))
        check = fold.stopping.check(0, head)
        assert check.gap == pytest.approx(of_halves[-1], abs=1e-12)
        assert check.accuracy == own[tuning.val.rows_of(half)].mean()
        assert gap_of(own, fold.reported_ends) == pytest.approx(naive.gap(*case, 1 - half, tuning.k), abs=1e-12)
    assert gap_of(own, tuning.ends) == pytest.approx(np.mean(of_halves), abs=1e-12)


def test_low_images_are_those_of_the_naive_rule(world: World) -> None:
    tuning = opened(world)
    table = ranked(world.train, "train")
    known = {(c, h): r for c, h, r in zip(table["class_id"], table["sha256"], table["rank"], strict=True)}
    rank = [known.get((CLASSES[k], h), 0) for k, h in zip(world.train.label, world.train.sha256, strict=True)]
    rows, label = tuning.train.choose("low", 20, 0, 0)
    chosen = set(zip(label.tolist(), tuning.train.table["sha256"].iloc[rows], strict=True))
    assert chosen == naive.lowest(world.train.label.tolist(), world.train.sha256, rank, 20)
    assert len(rows) == 20 * CUED


@pytest.mark.parametrize("count", [5, 20, 200, 1000])
def test_errors_come_first_and_are_filled_up(world: World, count: int) -> None:
    tuning = opened(world)
    wrong = naive_logits(world.train.features, world.weight, np.zeros(4)).argmax(axis=1) != world.train.label
    wrong_of = {h: bool(w) for h, w in zip(world.train.sha256, wrong, strict=True)}
    rows, label = tuning.train.choose("errors", count, 0, 3)
    names = tuning.train.table["sha256"].to_numpy()[rows]
    for k in range(CUED):
        images = world.train.label == k
        assert (label == k).sum() == min(count, images.sum())
        assert sum(wrong_of[h] for h in names[label == k]) == min(count, int(wrong[images].sum()))
    assert len(set(names)) == len(names)


def test_methods_see_as_many_images_and_the_same_replayed_ones(world: World) -> None:
    tuning = opened(world)
    chosen = {m: tuning.train.choose(m, 20, 20, 1) for m in ("low", "random", "errors")}
    assert {len(rows) for rows, _ in chosen.values()} == {80}
    replayed = {tuple(rows[label == 3].tolist()) for rows, label in chosen.values()}
    assert len(replayed) == 1
    assert tuning.train.choose("random", 20, 20, 2)[0].tolist() != chosen["random"][0].tolist()


def test_images_of_the_validation_store_are_not_tuned_on(world: World) -> None:
    ranks = Rankings.load(world.root / "rankings", "train")
    table = ranked(world.train, "train")
    banned = table["sha256"][table["rank"] <= 5].tolist()
    train = TrainingImages(FeatureStore.open(world.root / "train"), ranks, "r", banned)
    rows, _ = train.choose("low", 10, 10, 0)
    assert train.excluded == 5 * CUED
    assert not set(train.table["sha256"].iloc[rows]) & set(banned)


def test_baselines_take_the_steps_of_the_method_unless_they_are_given_the_limit(world: World) -> None:
    config = QUICK.model_copy(update={"baselines": True, "stop_gap": 0.5, "check_every": 1})
    low, *others = tune(opened(world, config))[0].methods
    assert all(s.steps <= max(own.steps, 1) for m in others for s, own in zip(m.seeds, low.seeds, strict=True))
    freed = tune(opened(world, config.model_copy(update={"baseline_steps": "limit"})))[0].methods
    assert freed[0].seeds == low.seeds
    assert any(s.steps > own.steps for m in freed[1:] for s, own in zip(m.seeds, low.seeds, strict=True))


def test_low_tuning_closes_the_gap_and_random_tuning_does_not(world: World) -> None:
    tuning = opened(world, QUICK.model_copy(update={"baselines": True}))
    record, head = tune(tuning)
    low, random, errors = record.methods
    assert (low.method, random.method, errors.method) == ("low", "random", "errors")
    assert low.gap.before.value > 0.6
    assert low.closed is not None
    assert low.closed > 0.8
    assert random.closed is not None
    assert random.closed < 0.45
    assert low.accuracy.after.value > low.accuracy.before.value
    assert low.images == random.images == errors.images == 80
    assert low.gap.before == random.gap.before
    # the first run's head is kept, and the record's figures are those that anyone finds with it
    logits = naive_logits(world.val.features, head.weight, head.bias)
    correct = logits.argmax(axis=1) == world.val.label
    for half, stated in ((0, low.seeds[0].stopping_gap), (1, low.seeds[0].reported_gap)):
        expected = naive.gap(world.val.label.tolist(), world.val.sha256, ranks_of(world), correct, half, record.k)
        assert stated == pytest.approx(expected, abs=1e-12)
    reported = np.array(naive.halves(world.val.label.tolist(), world.val.sha256)) == 1
    assert low.seeds[0].reported_accuracy == correct[reported].mean()
    assert low.gap.after.value == pytest.approx(np.mean([s.reported_gap for s in low.seeds]), abs=1e-12)
    assert low.accuracy.after.value == pytest.approx(np.mean([s.reported_accuracy for s in low.seeds]), abs=1e-12)
    assert low.closed == pytest.approx(1 - low.gap.after.value / low.gap.before.value)
    assert low.stopping_gap.after.value == pytest.approx(np.mean([s.stopping_gap for s in low.seeds]), abs=1e-12)
    assert sum(point.images for point in low.curve) == 240
    assert [(s.half, s.seed) for s in low.seeds] == [(h, s) for h in (0, 1) for s in range(QUICK.seeds)]
    assert (record.stopping_images, record.reported_images) == (160, 320)


def test_published_recipe_forgets_classes_without_a_cue(world: World) -> None:
    long = QUICK.model_copy(update={"stop_gap": -0.9, "seeds": 1})
    replay, _ = tune(opened(world, long))
    published, _ = tune(opened(world, long.model_copy(update={"recipe": "published"})))
    kept, forgotten = replay.methods[0].other_accuracy, published.methods[0].other_accuracy
    assert kept is not None
    assert forgotten is not None
    assert forgotten.difference.value < -0.5
    assert kept.difference.value > -0.1
    assert published.methods[0].images == 60
    assert published.replayed_classes == 0


def test_it_stops_once_the_gap_is_closed(world: World) -> None:
    record, _ = tune(opened(world, QUICK.model_copy(update={"stop_gap": 0.5, "seeds": 1})))
    run = record.methods[0].seeds[0]
    assert run.stopped_by == "gap"
    assert run.stopping_gap < 0.5
    assert all(check.gap >= 0.5 for check in run.checks[:-1])
    assert run.checks[-1].step == run.steps < 60


def test_it_keeps_the_original_head_where_every_step_costs_too_much(world: World) -> None:
    config = QUICK.model_copy(update={"seeds": 1, "step_size": 1e4, "accuracy_loss": 0.0, "stop_gap": -0.99})
    tuning = opened(world, config)
    rows, label = tuning.train.choose("low", 20, 0, 0)
    # labels that lead astray: no step can keep the accuracy
    tuning.train.choose = lambda *_: (rows, (label + 1) % CUED)  # type: ignore[method-assign]
    run = tuning.run("low", 0, tuning.folds[0])
    assert (run.step, run.stopped_by) == (0, "accuracy")
    np.testing.assert_array_equal(run.head.weight, world.weight)


def test_it_is_deterministic_and_does_not_depend_on_the_order_of_images(world: World) -> None:
    config = QUICK.model_copy(update={"baselines": True, "max_steps": 20})
    first, head = tune(opened(world, config))
    again, same = tune(opened(world, config))
    assert first == again
    np.testing.assert_array_equal(head.weight, same.weight)
    rng = np.random.default_rng(5)
    write_store(world, "train-moved", world.train, rng.permutation(len(world.train)), parts=3)
    write_store(world, "val-moved", world.val, rng.permutation(len(world.val)), parts=1)
    moved, other = tune(opened(world, config, "train-moved", "val-moved"))
    assert moved.methods == first.methods
    np.testing.assert_array_equal(head.weight, other.weight)
    np.testing.assert_array_equal(head.bias, other.bias)


def test_the_learning_rate_bounds_what_a_step_changes(world: World) -> None:
    features = world.train.features.astype(np.float16)
    rate = learning_rate(features, 2.0)
    assert (np.abs(features.astype(np.float64)).sum(axis=1) * rate).mean() == pytest.approx(2.0)
    assert learning_rate(4 * features, 2.0) == pytest.approx(rate / 4)


def test_the_written_head_gives_the_logits_of_the_tuning(world: World, tmp_path) -> None:
    tuning = opened(world, QUICK.model_copy(update={"seeds": 1}))
    record, head = tune(tuning)
    written = write_tuning(tmp_path / "tuned", tuning, record, head)
    assert TuningRecord.load(tmp_path / "tuned" / "tuning.json") == written
    loaded = load_classifier(f"head:{tmp_path}/tuned/head.safetensors")
    assert loaded.labels == tuning.classifier.labels
    assert loaded.head is not None
    assert loaded.head.temperature == 1
    np.testing.assert_array_equal(loaded.head.weight, head.weight)
    np.testing.assert_array_equal(loaded.head.bias, head.bias)
    logits = loaded.head.logits(world.val.features)
    np.testing.assert_allclose(logits, naive_logits(world.val.features, head.weight, head.bias), atol=1e-4)
    mitigation = load_mitigation(tmp_path / "tuned" / "head.safetensors", tuning.classifier)
    np.testing.assert_array_equal(mitigation.corrected(world.val.features, np.zeros_like(logits)), logits)
    with pytest.raises(StoreError, match="already exists"):
        write_tuning(tmp_path / "tuned", tuning, record, head)


def test_a_temperature_is_folded_into_the_head(world: World) -> None:
    tuning = opened(world, QUICK.model_copy(update={"seeds": 1, "max_steps": 1, "step_size": 1e-9}))
    object.__setattr__(tuning.head, "temperature", 0.5)
    run = tuning.run("low", 0, tuning.folds[0])
    assert run.head.temperature == 1
    np.testing.assert_allclose(run.head.weight, 2 * world.weight, atol=1e-6)


def test_a_tuned_head_can_be_tuned_again(world: World, tmp_path) -> None:
    tuning = opened(world, QUICK.model_copy(update={"seeds": 1, "max_steps": 5}))
    write_tuning(tmp_path / "one", tuning, *tune(tuning))
    classifier = load_classifier(f"head:{tmp_path}/one/head.safetensors")
    second = opened(world, QUICK.model_copy(update={"seeds": 1, "max_steps": 5}))
    record, head = tune(second)
    second.classifier = classifier
    write_tuning(tmp_path / "two", second, record, head)
    # its encoder is the model itself, not the first head
    assert load_classifier(f"head:{tmp_path}/two/head.safetensors").encoder_weights_sha256 == (
        tuning.classifier.weights_sha256
    )


def test_stopping_on_what_is_reported_is_said(world: World) -> None:
    record, _ = tune(opened(world, QUICK.model_copy(update={"seeds": 1, "max_steps": 10, "stop_on_reported": True})))
    assert record.config.stop_on_reported
    assert record.stopping_images == record.reported_images == len(world.val)
    assert "flatters" in record.halves
    assert record.methods[0].gap == record.methods[0].stopping_gap


def test_statistics_of_what_does_not_change() -> None:
    rng = np.random.default_rng(0)
    correct = (rng.random(60) < 0.7).astype(float)
    change = accuracy_change(correct, correct, 200)
    assert change.before == change.after
    assert (change.difference.value, change.difference.interval.low, change.difference.interval.high) == (0, 0, 0)
    assert change.before.value == correct.mean()
    assert change.before.interval.low < correct.mean() < change.before.interval.high


def test_no_gap_has_no_closed_share(world: World) -> None:
    tuning = opened(world)
    ends, ids = tuning.ends, tuning.class_ids
    right = np.ones(len(tuning.val.label))
    assert closed_share(right, right, ends, ids, 20) == (None, None)
    assert gap_change(right, right, ends, ids, 20).after.value == 0
    before = right.copy()
    before[np.concatenate([c.low for c in ends])] = 0
    share, span = closed_share(before, right, ends, ids, 20)
    assert share == 1
    assert span is not None
    assert (span.low, span.high) == (1, 1)


def test_short_classes_are_used_whole_or_refused(world: World) -> None:
    config = QUICK.model_copy(update={"per_class": 500})
    assert opened(world, config).short == {"boat": 320, "fish": 320, "koala": 320}
    with pytest.raises(DataError, match=r"3 classes have fewer ranked training images than the 500 .* boat with 320"):
        opened(world, config.model_copy(update={"short_classes": "refuse"}))


def test_classes_without_enough_validation_images_are_refused(world: World) -> None:
    with pytest.raises(UndefinedMetricError, match=r"no class has 82 ranked images in each half of .*\(boat: 40"):
        opened(world, QUICK.model_copy(update={"k": 41}))
    ranks = Rankings.load(world.root / "rankings", "val")
    few = ranks.table[(ranks.table["class_id"] != "fish") | (ranks.table["rank"] <= 12)]
    tuning = Tuning(
        load_classifier(world.spec),
        FeatureStore.open(world.root / "train"),
        FeatureStore.open(world.root / "val"),
        (Rankings.load(world.root / "rankings", "train"), Rankings(few, ranks.info)),
        "r",
        QUICK.model_copy(update={"k": 10}),
        "cpu",
    )
    assert list(tuning.refused) == ["fish"]
    for ends in (tuning.ends, *(fold.reported_ends for fold in tuning.folds)):
        assert [CLASSES[c.label] for c in ends] == ["boat", "koala"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "00" * 32}, r"1 of 960 images ranked in .* are not in .*train, the first of class boat"),
        ({"class_id": "dragon"}, r"ranks class 'dragon', which is not one of the model's 4 classes"),
    ],
)
def test_rankings_of_other_images_are_refused(world: World, change: dict[str, str], message: str) -> None:
    ranks = Rankings.load(world.root / "rankings", "train")
    table: pd.DataFrame = ranks.table.copy()
    table.loc[0, list(change)] = list(change.values())
    with pytest.raises(DataError, match=message):
        TrainingImages(FeatureStore.open(world.root / "train"), Rankings(table, ranks.info), "r")


def test_controls_are_not_tuned_on(world: World) -> None:
    ranks = Rankings.load(world.root / "rankings", "train")
    table = ranks.table.assign(control=ranks.table["class_id"] == "boat")
    train = TrainingImages(FeatureStore.open(world.root / "train"), Rankings(table, ranks.info), "r")
    assert list(train.classes) == [1, 2]
    with pytest.raises(DataError, match="no class that has a spurious concept"):
        TrainingImages(
            FeatureStore.open(world.root / "train"), Rankings(ranks.table.assign(control=True), ranks.info), "r"
        )


def test_a_model_without_a_linear_head_is_refused(world: World) -> None:
    tuning = opened(world)
    headless = load_classifier(world.spec)
    object.__setattr__(headless, "head", None)
    with pytest.raises(ModelError, match="no single linear last layer"):
        Tuning(headless, *tuning.stores, (None, None), "r", QUICK, "cpu")  # type: ignore[arg-type]
