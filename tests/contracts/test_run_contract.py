"""What every command that fills a folder keeps to: a rerun goes on, and one with other options is refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import pytest
from helpers import Ran, labelled_shard, run_spurious, spread_weights_file, tree

from spurious_imagenet import builders
from spurious_imagenet.concepts import ConceptBank

ROLES = ("core", "spurious", "unclear")


@dataclass(frozen=True)
class Run:
    """A command, with ROOT for the folder of the world, and an option that makes it another run."""

    stage: str
    arguments: str
    other: str
    summaries: frozenset[str] = frozenset()
    """Files that each rerun makes anew of the units, with the same bytes."""


RUNS = {
    "features": Run("features", "--model MODEL --shards ROOT/s.tar --backend eager", "--image-size 48"),
    "masks": Run("visualise", "--bank ROOT/bank --features ROOT/features --share 0.3", "--share 0.4"),
    "npfv": Run("visualise", "--bank ROOT/bank --top 2 --choose 1 --steps 2", "--steps 3"),
    "boards": Run(
        "boards",
        "--bank ROOT/bank --features ROOT/features --components 1 --attack-steps 1",
        "--attack-steps 2",
        frozenset({"boards.parquet", "index.html", *(f"classes/{k:05d}.html" for k in range(4))}),
    ),
    "mine": Run("mining", "--bank ROOT/bank --features ROOT/features --min-agree 1 --keep 2 --top 4", "--top 5"),
    "sensitivity": Run(
        "sensitivity",
        "--masks ROOT/masks --bank ROOT/bank --model MODEL --backend eager --resamples 20 --images 3",
        "--images 2",
        frozenset({"sensitivity.json", "sensitivity.csv"}),
    ),
}


def test_every_stage_that_fills_a_folder_has_its_contract() -> None:
    folder, makers = Path(next(iter(builders.__path__))), ("RunFolder(", "FeatureStore.create(")
    texts = {file: file.read_text("utf-8") for file in folder.rglob("*.py")}
    stages = {file.relative_to(folder).parts[0] for file, text in texts.items() if any(m in text for m in makers)}
    assert stages == {run.stage for run in RUNS.values()}


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    spec = spread_weights_file(root / "model.safetensors")
    labelled_shard(root / "s.tar", range(24))
    assert started("features", root, root / "features").code == 0
    made = run_spurious("components", "--model", spec, "--features", root / "features", "--out", root / "c", "--top", 2)
    assert made.code == 0, made.err
    bank = ConceptBank.load(root / "c")
    bank = bank.select((bank.table["kind"] == "npca").to_numpy())
    bank.table["verdict"] = [ROLES[i % 3] for i in range(len(bank))]
    bank.save(root / "bank")
    assert started("masks", root, root / "masks").code == 0
    return root


def started(name: str, root: Path, out: Path, more: str = "") -> Ran:
    said = f"{RUNS[name].arguments} {more}".replace("ROOT", str(root)).replace(
        "MODEL", f"file:{root}/model.safetensors"
    )
    return run_spurious(name, *said.split(), "--out", out)


def times(out: Path) -> dict[str, int]:
    return {str(file.relative_to(out)): file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}


@pytest.fixture(scope="session")
def finished(root: Path) -> dict[str, Path]:
    for name in RUNS:
        assert (ran := started(name, root, root / "out" / name)).code == 0, ran.err
    return {name: root / "out" / name for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
class TestRunFolder:
    def test_a_rerun_clears_what_a_killed_one_left_and_changes_no_unit(
        self, name: str, root: Path, finished: dict[str, Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        copytree(finished[name], out)
        before = tree(out)
        (out / ".tmp-left").mkdir()
        (out / ".tmp-left" / "half").write_bytes(b"half")
        assert (ran := started(name, root, out)).code == 0, ran.err
        assert tree(out) == before
        settled = times(out)
        assert started(name, root, out).code == 0
        assert {file for file, time in times(out).items() if settled[file] != time} <= RUNS[name].summaries

    def test_another_run_is_refused_and_nothing_touched(self, name: str, root: Path, finished: dict[str, Path]) -> None:
        before = times(finished[name])
        ran = started(name, root, finished[name], RUNS[name].other)
        assert str(finished[name]) in ran.the_error()
        assert times(finished[name]) == before

    def test_a_folder_of_something_else_is_refused_and_nothing_touched(
        self, name: str, root: Path, finished: dict[str, Path], tmp_path: Path
    ) -> None:
        del finished
        (tmp_path / "notes.txt").write_text("mine")
        assert str(tmp_path) in started(name, root, tmp_path).the_error()
        assert tree(tmp_path) == {"notes.txt": b"mine"}
