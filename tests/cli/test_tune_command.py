from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import run_spurious, tree, weights_file
from tuning_world import CLASSES, World, make_world, write_rankings

from spurious_imagenet.benchmark.mitigation.tuning_record import TuningRecord

QUICK = ("--per-class", 20, "--max-steps", 30, "--seeds", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_it_writes_a_head_and_a_record_and_prints_a_table(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # else a narrow terminal of the tests' own makes a list of it
    ran = run_spurious("tune", *world.arguments, *QUICK, "--baselines", "--out", tmp_path / "tuned")
    assert ran.code == 0, ran
    assert sorted(tree(tmp_path)) == ["tuned", "tuned/head.safetensors", "tuned/tuning.json"]
    record = TuningRecord.load(tmp_path / "tuned" / "tuning.json")
    assert [m.method for m in record.methods] == ["low", "random", "errors"]
    for method in record.methods:
        row = next(line for line in ran.out.splitlines() if line.startswith(f"{method.method} "))
        assert f"{method.gap.before.value:.1%}" in row
        assert f"{method.gap.after.value:.1%}" in row
        assert f"{method.accuracy.after.value:.1%}" in row
    assert "320 images reported on, 160 to stop each tuning by" in ran.out
    assert "the first run, not the best one" in ran.out


def test_it_says_what_was_short_and_what_flatters(world: World, tmp_path: Path) -> None:
    options = ("--per-class", 400, "--max-steps", 10, "--seeds", 1, "--stop-on-reported", "--device", "cpu")
    ran = run_spurious("tune", *world.arguments, *options, "--out", tmp_path / "tuned")
    assert ran.code == 0, ran
    assert "3 classes have fewer than 400 ranked training images and gave all they have: boat (320)" in ran.out
    assert "these numbers flatter" in ran.out


def test_bad_input_is_one_sentence_and_nothing_is_written(world: World, tmp_path: Path) -> None:
    other = weights_file(tmp_path / "other.safetensors", classes=CLASSES, seed=7)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    write_rankings(tmp_path / "val-only", {"val": world.val})
    cases = [
        (("--model", other), "holds features of"),
        (("--rankings", tmp_path / "val-only"), "has no ranked images of split 'train': it has ['val']"),
        (("--rankings", tmp_path), "is not a rankings folder"),
        (("--features", world.root / "val"), "images ranked in"),
        (("--val-features", tmp_path), "is not a feature store"),
        (("--out", tmp_path / "full"), "already exists"),
        (("--seeds", 0), "--seeds"),
        (("--per-class", 900, "--short-classes", "refuse"), "fewer ranked training images than the 900"),
        (("--k", 50), "no class has 100 ranked images in each half"),
    ]
    before = tree(tmp_path)
    for options, message in cases:
        ran = run_spurious("tune", *world.arguments, *QUICK, "--out", tmp_path / "new", *options)
        assert message in ran.the_error(), (options, ran)
        assert tree(tmp_path) == before


def test_stores_of_different_preprocessing_are_refused(world: World, tmp_path: Path) -> None:
    file = world.root / "val" / "store.json"
    content = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(content) | {"preprocess": {"size": 64, "crop": 0.5}}))
        ran = run_spurious("tune", *world.arguments, *QUICK, "--out", tmp_path / "new")
    finally:
        file.write_text(content)
    assert "were made with different preprocessing" in ran.the_error()
