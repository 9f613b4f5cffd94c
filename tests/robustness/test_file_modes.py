"""Whatever is written has the permissions that the umask gives, whichever library writes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CLASSES, jpeg, random_bank, run_spurious, weights_file
from PIL import Image

from spurious_imagenet.benchmark.mitigation.spufix_file import Spufix, SpufixInfo
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.io import atomic_directory, atomic_path, write_json
from spurious_imagenet.leaderboard.store.object_store import ObjectStore
from spurious_imagenet.models.head import LinearHead
from spurious_imagenet.models.head_file import HeadFileInfo, save_head
from spurious_imagenet.models.open_clip_models import save_open_clip


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _check(root: Path, umask: int) -> int:
    """Compare every mode below a folder with the umask's; return the number of files."""
    files = 0
    for path in root.rglob("*"):
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
        files += path.is_file()
    return files


def _head(root: Path) -> None:
    info = HeadFileInfo(
        encoder="timm:x",
        encoder_weights_sha256="0" * 64,
        image_size=8,
        label_space="custom",
        class_ids=("a", "b"),
        class_names=("a", "b"),
    )
    save_head(root / "head.safetensors", LinearHead(np.ones((2, 3), np.float32), np.ones(2, np.float32)), info)


def _spufix(root: Path) -> None:
    names = {"model": "m", "weights_sha256": "0", "label_space": "custom", "labels_sha256": "0", "scorer": "s"}
    info = SpufixInfo(code_version="0", image_size=8, scorer_sha256="0", directions=(), **names)
    empty = np.zeros((0, 3), np.float32)
    Spufix(empty, np.zeros(0, np.float32), np.zeros(0, np.int64), info).save(root / "spufix.safetensors")


def _private(root: Path) -> None:
    """Write as a library does that makes a private file of its own and moves it to the place."""
    with atomic_path(root / "file") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    with atomic_directory(root / "folder") as folder:
        (folder / "inner").mkdir(mode=0o700)
        os.close(os.open(folder / "inner/file", os.O_CREAT | os.O_WRONLY, 0o700))


WRITERS: dict[str, Callable[[Path], object]] = {
    "weights": lambda root: weights_file(root / "m.safetensors"),
    "head": _head,
    "spufix": _spufix,
    "open_clip": lambda root: save_open_clip(torch.nn.Linear(2, 2), root),
    "json": lambda root: write_json(root / "a.json", {}),
    "predictions": lambda root: Predictions.from_rows([]).save(root / "p.parquet"),
    "a private file": _private,
    "a board's store": lambda root: ObjectStore(str(root)).write_once("a/b.json", b"{}"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_keeps_to_the_umask(name: str, umask: int, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    assert _check(tmp_path, umask) >= 1


@pytest.mark.parametrize("umask", [0o022], indirect=True, ids=oct)
def test_the_commands_keep_to_the_umask(umask: int, tmp_path: Path) -> None:
    for c, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "images" / name / f"{i}.jpg").write_bytes(jpeg(10 * c + i))
    model = weights_file(tmp_path / "m.safetensors")
    shards, store, bank = (tmp_path / name for name in ("shards", "store", "bank"))
    commands = [
        ["shards", tmp_path / "images", shards],
        ["features", "--model", model, "--shards", shards, "--out", store],
        ["components", "--model", model, "--features", store, "--out", bank],
        ["npfv", "--bank", bank, "--out", tmp_path / "npfv", "--steps", "2", "--top", "2", "--choose", "1"],
        ["boards", "--bank", bank, "--features", store, "--out", tmp_path / "boards", "--components", "1"],
    ]
    for command in commands:
        ran = run_spurious(*command)
        assert ran.code == 0, ran.err
    assert _check(tmp_path, umask) > 10


def test_a_bank_keeps_its_offsets(tmp_path: Path) -> None:
    """Offsets that are every second number of a longer array were once stored as its first half."""
    model = weights_file(tmp_path / "m.safetensors")
    (tmp_path / "images/apple").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "images/apple/a.jpg")
    run_spurious("shards", tmp_path / "images", tmp_path / "shards")
    run_spurious("features", "--model", model, "--shards", tmp_path / "shards", "--out", tmp_path / "store")
    made = random_bank(FeatureStore.open(tmp_path / "store"), tmp_path / "first")
    longer = np.arange(2 * len(made), dtype=np.float32)
    ConceptBank(np.asfortranarray(made.directions), longer[::2], made.table, made.info).save(tmp_path / "bank")
    found = ConceptBank.load(tmp_path / "bank")
    np.testing.assert_array_equal(found.offsets, longer[::2])
    np.testing.assert_array_equal(found.directions, made.directions)
