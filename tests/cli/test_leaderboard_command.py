from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from evaluation_helpers import SPURIOUS, dataset_folder
from helpers import labelled_shard, run_spurious
from leaderboard_helpers import random_submission

from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.write import write_submission


@pytest.fixture
def board(tmp_path: Path) -> Path:
    data = dataset_folder(tmp_path / f"data-{os.getpid()}-{tmp_path.name}")
    labelled_shard(tmp_path / "val" / "a.tar", range(24))
    made = run_spurious(
        *("leaderboard", "init", tmp_path / "board", "--dataset", data, "--val", tmp_path / "val"),
        *("--version", "1.0.0", "--name", "Fruit", "--resamples", 20),
    )
    said = "Fruit 1.0.0, 12 spurious images of 2 classes, 24 validation images of 4 classes, no spurious gaps."
    assert said in made.out, made
    return tmp_path / "board"


def _submission(board: Path, seed: int, **changes: object) -> Path:
    path = board.with_name(f"submission-{seed}.zip")
    write_submission(random_submission(Store(board).version(), seed, **changes), path)
    return path


def test_from_a_dataset_to_a_rescored_board(board: Path, tmp_path: Path) -> None:
    good = [_submission(board, seed) for seed in (1, 2)]
    bad = _submission(board, 3, dataset_version="9.9.9")
    ran = run_spurious("leaderboard", "add", board, good[0], bad, good[1])
    assert ran.the_error() == "1 of 3 submissions were refused, for the reasons above."
    assert "9.9.9" in ran.err
    assert ran.out.count("spurious AUC") == 2
    assert run_spurious("leaderboard", "add", board, *good).code == 0
    images = Store(board).version().side("spurious")
    first = images.iloc[0]
    (tmp_path / "gone.txt").write_text(
        f"\ufeff{first['class_id']}\t{first['sha256'].upper()}\n\n{images.iloc[1]['sha256']}\n"
    )
    options = ("--images", tmp_path / "gone.txt", "--reason", "They show fruit.", "--version", "1.0.1")
    ran = run_spurious("leaderboard", "retire", board, *options)
    assert "version 1.0.1 with 10 spurious images" in ran.out
    assert "2 entries scored, 0 had a score" in ran.out
    assert "0 entries scored, 2 had a score" in run_spurious("leaderboard", "rescore", board).out
    for version in ("1.0.0", "1.0.1"):
        shown = json.loads(run_spurious("leaderboard", "show", board, "--version", version, "--json").out)
        assert [row["score"]["version"] for row in shown] == [version, version]
        values = [row["score"]["mean"]["spurious_auc"] for row in shown]
        assert values == sorted(values, reverse=True)
    gone = shown[0]["entry"]["id"]
    assert "withdrawn" in run_spurious("leaderboard", "withdraw", board, gone[:10], "--reason", "Wrong weights.").out
    ran = run_spurious("leaderboard", "show", board)
    assert "1 entry was withdrawn." in ran.out
    assert gone[:8] not in ran.out
    assert shown[1]["entry"]["id"][:8] in ran.out


def test_each_protocol_has_ranks_and_ties_of_its_own(board: Path) -> None:
    skills = {1: 0.0, 2: 2.0, 3: 0.0}
    good = [_submission(board, seed, skill=skill) for seed, skill in skills.items()]
    good.append(_submission(board, 4, protocol="paper"))
    assert run_spurious("leaderboard", "add", board, *good).code == 0
    out = run_spurious("leaderboard", "show", board).out
    assert [line.split()[-1] for line in out.splitlines() if "protocol" in line] == ["paper", "standard"]
    shown = json.loads(run_spurious("leaderboard", "show", board, "--json").out)
    places = {row["entry"]["info"]["model"]: (row["place"]["rank"], row["place"]["worst_rank"]) for row in shown}
    assert places == {"model 4": (1, 1), "model 2": (1, 1), "model 1": (2, 3), "model 3": (2, 3)}
    assert out.count("2-3 ") == 2


def test_wrong_uses_are_one_sentence(board: Path, tmp_path: Path) -> None:
    board_of = ("leaderboard", "retire", board)
    options = ("--reason", "bad", "--version", "1.0.1")
    assert "cannot be read" in run_spurious(*board_of, "--images", tmp_path / "no.txt", *options).the_error()
    (tmp_path / "images.txt").write_text("f" * 64)
    ran = run_spurious(*board_of, "--images", tmp_path / "images.txt", *options)
    assert "1 of 1 images are not spurious images of version 1.0.0" in ran.the_error()
    (tmp_path / "images.txt").write_text(Store(board).version().side("spurious")["sha256"].iloc[0])
    (tmp_path / "list.csv").write_text("class_id,sha256\n")
    ran = run_spurious(*board_of, "--images", tmp_path / "list.csv", *options)
    assert "line 1: got 'class_id,sha256', expected a SHA-256 in 64 hexadecimal digits" in ran.the_error()
    options = ("--reason", "bad", "--version", "newer")
    assert "newer" in run_spurious(*board_of, "--images", tmp_path / "images.txt", *options).the_error()
    assert (
        "no entry whose id begins" in run_spurious("leaderboard", "withdraw", board, "0", "--reason", "x").the_error()
    )
    assert "is not a leaderboard" in run_spurious("leaderboard", "show", tmp_path / "nowhere").the_error()
    assert "no version '3.0.0'" in run_spurious("leaderboard", "rescore", board, "--version", "3.0.0").the_error()
    ran = run_spurious("leaderboard", "add", board, tmp_path / "nothing.zip")
    assert ran.the_error() == "1 of 1 submissions were refused, for the reasons above."
    assert len(SPURIOUS) == 12


def test_text_of_submitters_is_shown_as_text(board: Path) -> None:
    assert run_spurious("leaderboard", "add", board, _submission(board, 1, model="[red]m[/red]")).code == 0
    assert "[red]m" in run_spurious("leaderboard", "show", board).out
