from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import atomic_path, canonical_json
from spurious_imagenet.runs import RunFolder

IDENTITY: dict[str, Any] = {"schema_version": 1, "model": "timm:resnet50", "settings": {"steps": 200}}
OTHER = IDENTITY | {"model": "timm:vit"}
#: A unit as a folder, as a file in a folder of its own, and as a file beside the others.
UNITS = ("cards/{:05d}", "{:05d}/metadata.parquet", "unfinished/votes-{:09d}.parquet")


def start(run: RunFolder, identity: dict[str, Any] = IDENTITY, **more: Any) -> None:
    run.start(identity, holds="masks", refusal="holds masks of other concepts: use the same.", **more)


@pytest.mark.parametrize("unit", UNITS)
def test_a_rerun_goes_on_with_the_units_that_are_missing(tmp_path: Path, unit: str) -> None:
    run = RunFolder(tmp_path / "out", unit)
    start(run)
    assert (run.path / "config.json").read_text() == canonical_json(IDENTITY)
    assert run.missing([7, 3, 1000]) == [7, 3, 1000]
    run.place(3).parent.mkdir(parents=True, exist_ok=True)
    run.place(3).touch()
    again = RunFolder(tmp_path / "out", unit)
    start(again)
    assert again.missing([7, 3, 1000]) == [7, 1000]
    assert again.place(3) == tmp_path / "out" / unit.format(3)


def test_leftovers_go_and_finished_units_stay(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, "cards/{:05d}")
    start(run, folders=("cards", "classes"))
    run.place(0).mkdir()
    left = [tmp_path / ".tmp-a", tmp_path / "cards" / ".tmp-00001-ab", tmp_path / "classes" / ".tmp-0.html-ab"]
    for path in left:
        path.mkdir()
        (path / "half").touch()
    start(run, folders=("cards", "classes"))
    assert not any(path.exists() for path in left)
    assert run.missing([0, 1]) == [1]


def test_a_folder_of_leftovers_alone_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / ".tmp-config.json-0a1b").write_text("{")
    start(RunFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("other", [OTHER, IDENTITY | {"settings": {"steps": 100}}, {"schema_version": 1}])
def test_another_identity_is_refused_and_nothing_touched(tmp_path: Path, other: dict[str, Any]) -> None:
    run = RunFolder(tmp_path)
    start(run)
    (tmp_path / ".tmp-half").touch()
    with pytest.raises(StoreError) as refused:
        start(run, other)
    assert str(refused.value) == f"{tmp_path} holds masks of other concepts: use the same."
    assert (tmp_path / "config.json").read_text() == canonical_json(IDENTITY)
    assert (tmp_path / ".tmp-half").exists()


def test_another_identity_may_take_a_folder_in_which_nothing_was_made(tmp_path: Path) -> None:
    run, made = RunFolder(tmp_path), ("*.parquet", "unfinished/*.parquet")
    start(run, made=made)
    start(run, OTHER, made=made)
    assert (tmp_path / "config.json").read_text() == canonical_json(OTHER)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "votes.parquet").touch()
    with pytest.raises(StoreError, match="other concepts"):
        start(run, made=made)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(StoreError, match=f"^{tmp_path} is not empty and holds no masks: expected a new directory.$"):
        start(RunFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


KILLED = """
import os, signal, sys
from pathlib import Path
from spurious_imagenet.io import atomic_path
from spurious_imagenet.runs import RunFolder
run = RunFolder(Path(sys.argv[1]), "{:05d}.txt")
run.start({"made": "here"}, holds="texts", refusal="is of others.")
for number in run.missing(range(5)):
    with atomic_path(run.place(number)) as temporary:
        temporary.write_text("whole")
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_gone_on_with(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, env=dict(os.environ))
    assert killed.returncode < 0
    assert any(path.name.startswith(".tmp-") for path in tmp_path.iterdir())
    run = RunFolder(tmp_path, "{:05d}.txt")
    run.start({"made": "here"}, holds="texts", refusal="is of others.")
    assert run.missing(range(5)) == [2, 3, 4]
    for number in run.missing(range(5)):
        with atomic_path(run.place(number)) as temporary:
            temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{n:05d}.txt" for n in range(5)), "config.json"]
