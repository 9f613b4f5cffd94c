"""Runs that are killed and run again leave what a run leaves that nothing disturbed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import labelled_shard, tree, weights_file

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.errors import StoreError
from spurious_imagenet.io import is_unused, write_json

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "crashes.py"


def test_killed_runs_end_in_the_same_bytes() -> None:
    command = [sys.executable, str(BENCHMARK), "--kills", "6", "--mine-kills", "5"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    features, mining = re.findall(r"^spurious (?:features|mine): .*\n.*\n.*$", ran.stdout, re.MULTILINE)
    for text, kills, unit in ((features, 6, "shard"), (mining, 5, "chunk")):
        assert f"{kills} kills" in text
        runs = re.search(r"byte for byte: yes \((\d+) of (\d+)\)", text)
        assert runs is not None, text
        assert runs[1] == runs[2]
        assert re.search(rf"{unit}s started twice: at most [01] a kill", text)
        assert int(re.search(rf"(\d+) of the kills inside a {unit}", text)[1]) >= 1
    for kind in ("after a batch inside a unit", "before a step", "with a file half written", "at a random time"):
        assert kind in features
        assert kind in mining
    assert "while scoring" in mining


def test_a_run_killed_before_its_first_file_is_no_stranger(tmp_path: Path) -> None:
    shard = labelled_shard(tmp_path / "s.tar", range(4))
    config = FeaturesConfig(model=weights_file(tmp_path / "m.safetensors"), shards=(str(shard),), backend="eager")
    extract_features(config, tmp_path / "undisturbed")
    out = tmp_path / "killed"
    out.mkdir()
    (out / ".tmp-store.json-0a1b2c3d").write_text("{")
    extract_features(config, out)
    assert tree(out) == tree(tmp_path / "undisturbed")


def test_leftovers_inside_a_store_are_removed(tmp_path: Path) -> None:
    shards = tuple(str(labelled_shard(tmp_path / f"{s}.tar", range(4))) for s in range(2))
    spec = weights_file(tmp_path / "m.safetensors")
    config = FeaturesConfig(model=spec, shards=shards, backend="eager")
    extract_features(config, tmp_path / "undisturbed")
    extract_features(config.model_copy(update={"shards": shards[:1]}), tmp_path / "killed")
    (tmp_path / "killed" / ".tmp-store.json-0a1b2c3d").write_text("{")
    half = tmp_path / "killed" / "parts" / ".tmp-1-deadbeef-0a1b2c3d"
    half.mkdir()
    (half / "features.npy").write_bytes(b"\x93NUMPY")
    (half / "receipt.json").write_text("{}")  # whole or not: it was never renamed
    result = extract_features(config, tmp_path / "killed")
    assert (result.made, result.found) == (1, 1)
    assert tree(tmp_path / "killed") == tree(tmp_path / "undisturbed")


def test_a_directory_is_unused_only_without_files_of_others(tmp_path: Path) -> None:
    assert is_unused(tmp_path / "missing")
    assert is_unused(tmp_path)
    (tmp_path / ".tmp-x-1").mkdir()
    assert is_unused(tmp_path)
    write_json(tmp_path / "a.json", {})
    assert not is_unused(tmp_path)
    assert not is_unused(tmp_path / "a.json")
    with pytest.raises(StoreError, match="not empty and not a feature store"):
        extract_features(
            FeaturesConfig(
                model=weights_file(tmp_path / "m.safetensors"),
                shards=(str(labelled_shard(tmp_path / "s.tar", [1])),),
                backend="eager",
            ),
            tmp_path,
        )
