"""A sweep that is killed again and again ends in the records of one that nothing disturbed."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
from evaluation_helpers import SPURIOUS, count_decodes, dataset_folder
from helpers import labelled_shard, tree, weights_file

from spurious_imagenet.benchmark.evaluation import _output_cache as output_cache
from spurious_imagenet.benchmark.evaluation.sweep import SweepConfig, SweepModel, run_sweep

# A server that has imported torch once: each child starts in a moment, with no thread of this process in it.
SLOW_IMPORTS = [
    "pytest",
    "timm",
    "datasets",
    "sklearn.metrics",
    "spurious_imagenet.cli",
    "spurious_imagenet.benchmark.evaluation.sweep",
]
SPAWN = multiprocessing.get_context("forkserver")


def _sweep(config: SweepConfig) -> None:
    output_cache.PART_IMAGES = 32
    run_sweep(config)


def _config(root: Path, out: str) -> SweepConfig:
    models = tuple(SweepModel.model_validate(f"file:{root / f'm{i}.safetensors'}") for i in range(5))
    return SweepConfig(
        models=models,
        dataset=str(root / "data"),
        val=str(root / "val.tar"),
        out=root / out,
        backend="eager",
        workers=1,
        resamples=20,
    )


def _run(config: SweepConfig, kill_after: float | None = None) -> tuple[int | None, float]:
    """Return how a sweep ended, and how long it took from its first output: the start takes as long as it takes."""
    child = SPAWN.Process(target=_sweep, args=(config,))
    child.start()
    while not (config.out / "outputs").exists() and child.is_alive():
        time.sleep(0.005)
    begin = time.monotonic()
    if kill_after is not None:
        time.sleep(kill_after)
        child.kill()
    child.join(120)
    assert child.exitcode is not None, time.monotonic() - begin
    return child.exitcode, time.monotonic() - begin


def _parts(out: Path) -> set[Path]:
    return {p.parent.relative_to(out) for p in out.glob("outputs/*/parts/[!.]*/receipt.json")}


@pytest.mark.slow
def test_records_are_the_same_bytes_after_three_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        weights_file(tmp_path / f"m{i}.safetensors", seed=i)
    dataset_folder(tmp_path / "data")
    labelled_shard(tmp_path / "val.tar", range(48))
    SPAWN.set_forkserver_preload(SLOW_IMPORTS)
    plain = _config(tmp_path, "plain")
    code, whole = _run(plain)
    assert code == 0
    killed = plain.model_copy(update={"out": tmp_path / "killed"})
    rng = random.Random(4)
    before: set[Path] = set()
    for _ in range(3):
        assert _run(killed, kill_after=rng.uniform(0.02, 0.25) * whole)[0] == -signal.SIGKILL
        assert before <= _parts(killed.out)
        before = _parts(killed.out)
    assert 0 < len(before) < len(_parts(plain.out))
    times = {part: (killed.out / part / "receipt.json").stat().st_mtime_ns for part in before}
    assert _run(killed)[0] == 0
    assert {part: (killed.out / part / "receipt.json").stat().st_mtime_ns for part in before} == times
    assert tree(killed.out) == tree(plain.out)
    assert len(list(plain.out.glob("*.json"))) == 10
    counted = count_decodes(monkeypatch)
    result = run_sweep(killed)
    assert (result.made, len(result.records), result.failures, counted) == (0, 10, (), {})


def test_a_sweep_decodes_each_image_once_a_model_and_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        weights_file(tmp_path / f"m{i}.safetensors", seed=i)
    twice = [*SPURIOUS, ("bird", "npca/bird/8", SPURIOUS[0][2])]
    dataset_folder(tmp_path / "data", twice)
    labelled_shard(tmp_path / "val.tar", range(16))
    counted = count_decodes(monkeypatch)
    monkeypatch.setattr(output_cache, "PART_IMAGES", 1)
    config = _config(tmp_path, "out").model_copy(update={"resamples": 5})
    assert run_sweep(config).made == 10
    assert len(counted) == 16 + 12
    assert set(counted.values()) == {5 * 2}  # five models, two transforms of each image
