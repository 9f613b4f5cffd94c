"""One flipped bit changes the pixels of most images in silence; only hashes notice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import labelled_shard, run_spurious, tree, weights_file

from spurious_imagenet.builders.features import FeaturesConfig, FeaturesResult, extract_features
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import load_classifier

FLIPS = 200


class Scored(NamedTuple):
    spec: str
    shards: list[Path]
    store: Path

    def run(self, *, verify: bool) -> FeaturesResult:
        shards = tuple(map(str, self.shards))
        return extract_features(
            FeaturesConfig(model=self.spec, shards=shards, backend="eager", verify=verify), self.store
        )


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scored:
    """Two shards and their store; the model is loaded once for all runs of a test."""
    spec = weights_file(tmp_path / "m.safetensors")
    classifier = load_classifier(spec)
    monkeypatch.setattr("spurious_imagenet.builders.features.extract.load_classifier", lambda *_, **__: classifier)
    shards = [labelled_shard(tmp_path / f"pool-{s}.tar", range(10 * s, 10 * s + 10)) for s in range(2)]
    made = Scored(spec, shards, tmp_path / "store")
    assert made.run(verify=False).made == 2
    return made


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flip_in_a_shard_is_noticed(scored: Scored) -> None:
    rng = np.random.default_rng(0)
    before, noticed = parts_of(scored), 0
    for verify in [True, False] * (FLIPS // 2):
        shard = scored.shards[rng.integers(len(scored.shards))]
        intact = shard.read_bytes()
        shard.write_bytes(flipped(intact, int(rng.integers(8 * len(intact)))))
        with pytest.raises(StoreError, match=f"{shard} has changed since it was scored"):
            scored.run(verify=verify)
        noticed += 1
        shard.write_bytes(intact)
        assert scored.run(verify=False).found == 2
    assert noticed == FLIPS // 2 * 2
    assert parts_of(scored) == before


def test_a_flip_that_leaves_the_time_of_change_is_noticed_with_verify(scored: Scored) -> None:
    shard = scored.shards[0]
    at = shard.stat().st_mtime_ns
    shard.write_bytes(flipped(shard.read_bytes(), 8 * 700))
    os.utime(shard, ns=(at, at))
    assert scored.run(verify=False).found == 2, "size and time are as they were"
    with pytest.raises(StoreError, match=f"{shard} has changed since it was scored"):
        scored.run(verify=True)


def parts_of(scored: Scored) -> dict[str, bytes]:
    """All files but those that say when a shard was changed last, which it was."""
    return {name: data for name, data in tree(scored.store).items() if not name.endswith("shard.json")}


@pytest.mark.parametrize("name", ["features.npy", "rows.parquet"])
def test_every_flip_in_a_part_is_noticed(scored: Scored, name: str) -> None:
    rng = np.random.default_rng(1)
    part = FeatureStore.open(scored.store).parts[1].path / name
    intact = part.read_bytes()
    for _ in range(FLIPS // 4):
        part.write_bytes(flipped(intact, int(rng.integers(8 * len(intact)))))
        with pytest.raises(StoreError, match=f"{name} has changed since it was written"):
            scored.run(verify=True)
    part.write_bytes(intact)
    assert scored.run(verify=True).found == 2


def test_a_torn_receipt_is_an_error_that_names_it(scored: Scored) -> None:
    receipt = FeatureStore.open(scored.store).parts[0].path / "receipt.json"
    receipt.write_bytes(receipt.read_bytes()[:-40])
    with pytest.raises(StoreError, match=r"receipt\.json is not a part's receipt"):
        scored.run(verify=False)


@pytest.mark.parametrize("change", [lambda b: b[:-512], lambda b: b + bytes(512)], ids=["shorter", "longer"])
def test_another_size_is_noticed_without_verify(scored: Scored, change: Callable[[bytes], bytes]) -> None:
    shard = scored.shards[1]
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(StoreError, match=f"{shard} has .* bytes, but .* when it was scored"):
        scored.run(verify=False)


def test_a_shard_that_has_gone_is_an_error(scored: Scored) -> None:
    scored.shards[0].rename(scored.shards[0].with_suffix(".gone"))
    with pytest.raises(DataError, match="were not found"):
        scored.run(verify=False)


def test_the_command_line_says_which_shard(scored: Scored) -> None:
    shard = scored.shards[0]
    shard.write_bytes(flipped(shard.read_bytes(), 8 * 700))
    ran = run_spurious(
        "features", "--model", scored.spec, "--shards", shard.parent, "--out", scored.store, "--backend", "eager",
        "--verify",
    )  # fmt: skip
    part = next(p for p in FeatureStore.open(scored.store).parts if p.shard == str(shard))
    assert ran.the_error() == (
        f"{shard} has changed since it was scored: its SHA-256 is not the receipt's; put the shard back that was "
        f"scored, or delete {part.path} and rerun to score this one in its place."
    )


def test_a_torn_part_is_an_error_that_names_it(scored: Scored) -> None:
    part = FeatureStore.open(scored.store).parts[0]
    for name, read in (("features.npy", part.features), ("rows.parquet", part.rows)):
        whole = (part.path / name).read_bytes()
        for torn in (whole[:-40], whole[:5], b""):
            (part.path / name).write_bytes(torn)
            with pytest.raises(StoreError, match=f"{name} cannot be read"):
                read()
        (part.path / name).unlink()
        with pytest.raises(StoreError, match=f"{name} cannot be read"):
            read()
        (part.path / name).write_bytes(whole)
        assert len(read()) == 10
    np.save(part.path / "features.npy", part.features()[:9])
    with pytest.raises(StoreError, match=r"features\.npy holds 9 images: expected 10"):
        part.features()
