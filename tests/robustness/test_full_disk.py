"""A disk that fills up: one sentence, nothing half written, and the same command goes on when there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import labelled_shard, run_spurious, tree, weights_file

from spurious_imagenet.features.store import FeatureStore


class Disk(NamedTuple):
    path: Path

    def resize(self, kib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kib}k", str(self.path)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of a few KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system can only be mounted by root: {error}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_features_go_on_when_there_is_room(disk: Disk, tmp_path: Path) -> None:
    for s in range(2):
        labelled_shard(tmp_path / "shards" / f"{s}.tar", range(40 * s, 40 * s + 40))
    spec = weights_file(tmp_path / "m.safetensors")
    arguments = ["features", "--model", spec, "--shards", tmp_path / "shards", "--backend", "eager", "--out"]
    assert run_spurious(*arguments, tmp_path / "undisturbed").code == 0
    store = disk.path / "store"
    parts = set()
    # Each size is full at another point: in store.json, in the features, the rows, the receipt of either part.
    for kib in (4, 8, 12, 16, 20, 24, 28, 32, 36, 40):
        disk.resize(kib)
        said = run_spurious(*arguments, store).the_error()
        assert "No space left on device" in said or f"the disk of {store} is full" in said
        assert said.endswith(("free space, rerun.", "nothing was left half written."))
        assert not list(disk.path.rglob(".tmp-*"))
        if (store / "store.json").exists():
            for part in FeatureStore.open(store).parts:
                part.check()
            parts.add(len(FeatureStore.open(store).parts))
    assert parts == {0, 1}
    disk.resize(1000)
    assert run_spurious(*arguments, store).code == 0
    assert tree(store) == tree(tmp_path / "undisturbed")


def test_mine_and_publish_go_on_when_there_is_room(disk: Disk, tmp_path: Path) -> None:
    spec = weights_file(tmp_path / "m.safetensors")
    shard = labelled_shard(tmp_path / "s.tar", range(40))
    store = ["--features", tmp_path / "store"]
    for arguments in (
        ["features", "--model", spec, "--shards", shard, "--backend", "eager", "--out", tmp_path / "store"],
        ["components", "--model", spec, *store, "--out", tmp_path / "bank"],
    ):
        assert run_spurious(*arguments).code == 0
    mine = ["mine", "--bank", tmp_path / "bank", *store, "--min-agree", 1, "--keep", 10, "--backend", "eager", "--out"]
    assert run_spurious(*mine, tmp_path / "undisturbed").code == 0
    for kib in (4, 8, 12, 16, 24, 32):
        disk.resize(kib)
        said = run_spurious(*mine, disk.path / "mined").the_error()
        assert said.startswith("No space left on device")
        assert not (disk.path / "mined" / "receipt.json").exists()
        assert not list(disk.path.rglob(".tmp-*"))
    disk.resize(1000)
    assert run_spurious(*mine, disk.path / "mined").code == 0
    assert tree(disk.path / "mined") == tree(tmp_path / "undisturbed")
    used = sum(file.stat().st_size for file in disk.path.rglob("*") if file.is_file())
    publish = ["publish", "--unreviewed", "--candidates", disk.path / "mined", "--out", disk.path / "published"]
    disk.resize(used // 1024 + 20)
    assert run_spurious(*publish).the_error().startswith("No space left on device")
    assert not [p for p in disk.path.iterdir() if p.name != "mined"]
    disk.resize(1000)
    assert run_spurious(*publish).code == 0
