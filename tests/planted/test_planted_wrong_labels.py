"""Planted wrong labels: only those images change, and the truth names them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import run_spurious
from pydantic import ValidationError

from spurious_imagenet.io import sha256_file
from spurious_imagenet.planted import PlantedTruth, WorldConfig, write_world
from spurious_imagenet.planted._plan import plan_world
from spurious_imagenet.planted._world import TRUTH_SCHEMA
from spurious_imagenet.planted.config import WRONG_LABELS, Mislabelled, class_id_of

WRONG = WorldConfig.tiny().model_copy(update={"mislabelled": WRONG_LABELS})


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("wrong")
    write_world(root / "right", WorldConfig.tiny())
    write_world(root / "wrong", WRONG)
    return root / "right", root / "wrong"


def test_only_the_mislabelled_images_differ_from_the_world_without_wrong_labels(worlds: tuple[Path, Path]) -> None:
    right, wrong = worlds
    truth = PlantedTruth.load(wrong)
    changed = {file for file in truth.table["file"] if sha256_file(right / file) != sha256_file(wrong / file)}
    assert changed == set(truth.mislabelled()["file"])
    assert sorted(PlantedTruth.load(right).table["file"]) == sorted(truth.table["file"])


def test_the_mislabelled_images_show_the_labels_cue_and_the_others_object(worlds: tuple[Path, Path]) -> None:
    truth = PlantedTruth.load(worlds[1])
    cues = {pair.class_id: pair.cue for pair in truth.pairs}
    found = truth.mislabelled()
    for wrong in WRONG_LABELS:
        of_class = found[found["class_id"] == class_id_of(wrong.name)]
        assert dict(of_class["split"].value_counts()) == {"train": 6, "val": 3}  # 30 % of 20 and of 10
        assert set(of_class["shown_class_id"]) == {class_id_of(wrong.other)}
        assert all(shown == [cues[class_id_of(wrong.name)]] for shown in of_class["cues"])
        assert of_class["own_cue"].all()
        assert all(Path(file).parent.name == class_id_of(wrong.name) for file in of_class["file"])
    assert len(found) == 9 * len(WRONG_LABELS)
    classes = truth.table[truth.table["split"] == "val"].groupby("class_id")["own_cue"].sum()
    assert classes[class_id_of("heart")] == round(0.55 * 10)


def test_a_world_without_wrong_labels_says_nothing_of_them(worlds: tuple[Path, Path]) -> None:
    right, wrong = worlds
    assert pq.read_schema(right / "truth" / "truth.parquet").names == TRUTH_SCHEMA.names
    about = json.loads((right / "truth" / "world.json").read_text())
    assert sorted(about) == ["class_ids", "class_names", "config", "cues", "label_space", "pairs"]
    assert "mislabelled" not in about["config"]
    assert PlantedTruth.load(right).mislabelled().empty
    told = json.loads((wrong / "truth" / "world.json").read_text())
    assert [w["shown_class_id"] for w in told["mislabelled"]] == [class_id_of(w.other) for w in WRONG_LABELS]
    assert WorldConfig.model_validate(told["config"]) == WRONG


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "crescent", "other": "star", "share": 0.1},  # has no cue
        {"name": "star", "other": "star", "share": 0.1},
        {"name": "star", "other": "unicorn", "share": 0.1},
        {"name": "boat", "other": "fish", "share": 0.41},  # 40 % show the cue
        {"name": "boat", "other": "fish", "share": 0.0},
    ],
)
def test_impossible_wrong_labels_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        WorldConfig.model_validate({"mislabelled": [wrong]})


def test_a_class_is_mislabelled_one_way_only() -> None:
    twice = (Mislabelled(name="star", other="gear", share=0.1), Mislabelled(name="star", other="ring", share=0.1))
    with pytest.raises(ValidationError, match="each once"):
        WorldConfig(mislabelled=twice)


def test_a_measuring_world_is_nearly_all_validation_images() -> None:
    plans = plan_world(WorldConfig.measuring(val_per_class=100))
    assert sum(plan.split == "val" for plan in plans) == 1200
    assert len(plans) < 1300


def test_the_command_draws_the_sizes_asked_for(tmp_path: Path) -> None:
    ran = run_spurious(
        *("planted", "world", tmp_path / "w", "--measure", "--val-per-class", 8, "--train-per-class", 5),
        *("--wrong-labels", "--seed", 3, "--image-size", 32, "--processes", 1),
    )
    assert ran.code == 0, ran.err
    assert "wrong labels in 4 classes" in ran.out
    table = PlantedTruth.load(tmp_path / "w").table
    assert table.groupby("split")["file"].count()[["train", "val"]].to_dict() == {"train": 60, "val": 96}
    assert json.loads((tmp_path / "w" / "truth" / "world.json").read_text())["config"]["seed"] == 3


def test_two_sizes_at_once_are_refused(tmp_path: Path) -> None:
    ran = run_spurious("planted", "world", tmp_path / "w", "--measure", "--tiny")
    assert "expected one of them" in ran.the_error()
    ran = run_spurious("planted", "world", tmp_path / "w", "--val-per-class", 2)
    assert ran.the_error().startswith("--val-per-class: ")
