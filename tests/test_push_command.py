"""``spurious publish --push`` from candidates and rankings to a Hub, and back from there by its id alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_store_helpers import bank_for, empty_store
from helpers import Ran, jpeg, random_bank, run_spurious, spread_weights_file, write_tar
from hub_helpers import contents
from hub_stand_in import WRITER, HubStandIn

from spurious_imagenet.benchmark.evaluation.record import EvalRecord
from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.builders.mining import MineConfig, mine
from spurious_imagenet.builders.rankings import RankConfig, rank
from spurious_imagenet.features.store import ROW_SCHEMA

CLASSES = ("n01440764", "n02", "n03")


class World(NamedTuple):
    root: Path
    scorer: str
    candidates: Path
    ranked: Path

    @property
    def given(self) -> tuple[object, ...]:
        return ("--candidates", self.candidates, "--unreviewed", "--bank", self.root / "bank")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("pushed")
    write_tar(root / "shards" / "0.tar", [(f"{i:02d}.jpg", jpeg(i, (32, 32))) for i in range(60)])
    for i in range(12):
        path = root / "val" / CLASSES[i % 3] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(1000 + i, (32, 32)))
    scorer = spread_weights_file(root / "scorer.safetensors", classes=CLASSES, size=32)
    config = FeaturesConfig(model=scorer, shards=(str(root / "shards"),), backend="eager", workers=1)
    random_bank(extract_features(config, root / "store").store, root / "bank", names=CLASSES)
    sizes = {"min_agree": 1, "top": 30, "keep": 30, "near_duplicate_bits": 0, "backend": "eager", "agree": ()}
    mined = mine(MineConfig(bank=str(root / "bank"), features=str(root / "store"), **sizes), root / "candidates")
    return World(root, scorer, mined.path, _ranked(root))


def _ranked(root: Path) -> Path:
    store = empty_store(root / "ranked-store", 4, CLASSES[:2])
    images = [(class_id, path.read_bytes(), path.stem) for class_id in CLASSES[:2] for path in _images(root, class_id)]
    rows = [
        {"key": name, "class_id": c, "label": CLASSES.index(c), "top5_index": [0] * 5}
        | {"sha256": hashlib.sha256(data).digest()}
        for c, data, name in images
    ]
    store.write_part(
        shard="0.tar",
        shard_sha256="0" * 64,
        shard_bytes=0,
        features=np.random.default_rng(0).standard_normal((len(rows), 4)).astype(np.float16),
        rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
        rejects=(),
        versions={},
    )
    bank_for(store, np.eye(4, dtype=np.float32)[:2], classes=[0, 1]).save(root / "ranked-bank")
    features = {"val": (str(root / "ranked-store"),)}
    return rank(RankConfig(bank=str(root / "ranked-bank"), features=features, k=1), root / "ranked").path


def _images(root: Path, class_id: str) -> list[Path]:
    return sorted((root / "val" / class_id).iterdir())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStandIn]:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the stand-in has no Xet storage
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with HubStandIn() as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.endpoint)
        yield running


def stranger(hub: HubStandIn, home: Path, *arguments: object, code: str | None = None) -> Ran:
    """Run the command, or code, in a process that knows the Hub's address only."""
    own = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": WRITER}
    ran = subprocess.run(
        [sys.executable, "-c", code or "from spurious_imagenet.cli import main; main()", *map(str, arguments)],
        env={k: v for k, v in os.environ.items() if not k.startswith("HF_")} | own | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert WRITER not in ran.stdout + ran.stderr
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def stands(hub: HubStandIn, repo: str, revision: str = "main") -> dict[str, bytes]:
    return {path: data for path, data in hub.files(repo, revision).items() if path != ".gitattributes"}


_LOAD = """
import hashlib, json, sys
from datasets import Image, get_dataset_config_names, load_dataset

repo, split, revision = sys.argv[1:4]
def rows(config, **how):
    found = load_dataset(repo, config, split=split, revision=revision, **how)
    for name, feature in list(found.features.items()):
        found = found.cast_column(name, Image(decode=False)) if isinstance(feature, Image) else found
    return json.loads(json.dumps(list(found), default=lambda b: hashlib.sha256(b).hexdigest()))

said = {}
for config in get_dataset_config_names(repo, revision=revision):
    held, streamed = rows(config), rows(config, streaming=True)
    assert held == streamed
    wanted = held[0]["class_id"]  # null where nothing is retired, and datasets loads no empty result
    own = [r for r in held if r["class_id"] == wanted]
    assert wanted is None or rows(config, filters=[("class_id", "==", wanted)]) == own
    said[config] = held
print(json.dumps(said))
"""


def as_loaded(folder: Path, config: str) -> list[dict[str, object]]:
    manifest = json.loads((folder / "dataset.json").read_text())
    rows = [
        r for f in manifest["files"] if f["config"] == config for r in pq.read_table(folder / f["path"]).to_pylist()
    ]
    found: list[dict[str, object]] = json.loads(json.dumps(rows, default=lambda b: hashlib.sha256(b).hexdigest()))
    return found


@pytest.mark.slow
def test_spurious_images_go_up_and_are_loaded_traced_and_evaluated_from_there(
    world: World, hub: HubStandIn, tmp_path: Path
) -> None:
    repo, first, home = "org/cues", tmp_path / "first", tmp_path / "home"
    ran = run_spurious("publish", *world.given, "--out", first, "--push", repo)
    assert ran.code == 0, ran.err
    assert f"{hub.endpoint}/datasets/{repo}/commit/" in ran.out
    assert ran.out.endswith(f"{len(contents(first))} files written, 0 deleted, tag v1.0.0.\n")
    assert stands(hub, repo) == stands(hub, repo, "v1.0.0") == contents(first)
    assert f'load_dataset("{repo}"' in (first / "README.md").read_text("utf-8")

    loaded = stranger(hub, home, repo, "test", "v1.0.0", code=_LOAD)
    assert loaded.code == 0, loaded.err
    assert json.loads(loaded.out) == {c: as_loaded(first, c) for c in ("spurious", "concepts", "retired")}

    row = pq.read_table(first / "data").to_pylist()[0]
    given = ("--shards", world.root / "shards", "--model", world.scorer, "--bank", world.root / "bank", "--json")
    traced = stranger(hub, home, "trace", row["sha256"][:12], "--dataset", f"{repo}@v1.0.0", *given)
    assert traced.code == 0, traced.err
    states = {link["link"]: link["state"] for link in json.loads(traced.out)["links"]}
    assert {link for link, state in states.items() if state == "verified"} == {
        *("image", "votes", "shard", "alpha", "vote", "weights")
    }
    common = ("--val", world.root / "val", "--model", world.scorer, "--protocol", "standard", "--resamples", 20)
    asked = ("evaluate", *common, "--dataset")
    there = stranger(hub, home, *asked, f"{repo}@v1.0.0", "--out", tmp_path / "hub.json")
    here = run_spurious(*asked, first, "--out", tmp_path / "folder.json")
    assert (there.code, here.code) == (0, 0), (there.err, here.err)
    records = [EvalRecord.load(tmp_path / f"{name}.json") for name in ("hub", "folder")]
    assert records[0].mean == records[1].mean
    assert records[0].dataset_sha256 == records[1].dataset_sha256
    assert hub.leaks == []


@pytest.mark.slow
def test_a_version_goes_up_as_a_pull_request_and_gets_its_tag_once_it_is_merged(
    world: World, hub: HubStandIn, tmp_path: Path
) -> None:
    repo, first, second = "org/cues", tmp_path / "first", tmp_path / "second"
    assert run_spurious("publish", *world.given, "--out", first, "--push", repo).code == 0
    gone = pq.read_table(first / "data").to_pylist()[0]
    listed = tmp_path / "retire.csv"
    listed.write_text(f"class_id,sha256,reason\n{gone['class_id']},{gone['sha256']},the fish is there\n")
    new = ("--previous", first, "--retire", listed, "--version", "1.1.0", "--out", second)
    hub.fail("POST", "/commit/", 502, after=True)  # the request is opened, and the answer is lost
    error = run_spurious("publish", *world.given, *new, "--push", repo, "--pull-request").the_error()
    again = f"publish --check {second} --push {repo} --pull-request"
    assert error.endswith(f"spurious {again}")
    ran = run_spurious(*again.split())
    assert ran.code == 0, ran.err
    assert f"{hub.endpoint}/datasets/{repo}/discussions/1: 0 files written" in ran.out
    assert "once it is merged, the same push without --pull-request sets the version's tag" in ran.out
    refs = hub.dataset(repo).refs
    assert set(refs) == {"refs/heads/main", "refs/tags/v1.0.0", "refs/pr/1"}
    assert stands(hub, repo) == contents(first)
    assert stands(hub, repo, "refs/pr/1") == contents(second)

    refs["refs/heads/main"] = refs["refs/pr/1"]  # somebody merges it
    ran = run_spurious("publish", "--check", second, "--push", repo)
    assert ran.out.endswith("0 files written, 0 deleted, tag v1.1.0.\n")
    assert stands(hub, repo, "v1.1.0") == contents(second)
    told = stranger(hub, tmp_path / "home", "trace", gone["sha256"], "--dataset", repo).the_error()
    assert "retracted in version 1.1.0, the fish is there" in told


@pytest.mark.slow
def test_rankings_go_up_and_are_joined_with_images_from_there(world: World, hub: HubStandIn, tmp_path: Path) -> None:
    repo, folder = "org/ranked", tmp_path / "ranked"
    ran = run_spurious("publish", "--rankings", world.ranked, "--out", folder, "--push", repo)
    assert ran.code == 0, ran.err
    assert stands(hub, repo, "v1.0.0") == contents(folder)
    loaded = stranger(hub, tmp_path / "home", repo, "val", "main", code=_LOAD)
    assert loaded.code == 0, loaded.err
    found = json.loads(loaded.out)
    assert found == {c: as_loaded(folder, c) for c in ("rankings", "low", "high", "middle") if c in found}
    assert {"rankings", "low", "high"} <= set(found)
    code = (
        "import sys, datasets, spurious_imagenet, hashlib\n"
        "low = datasets.load_dataset(sys.argv[1], 'low', split='val')\n"
        "joined = spurious_imagenet.join_images(low, sys.argv[2])\n"
        "for row in joined.cast_column('image', datasets.Image(decode=False)):\n"
        "    data = row['image']['bytes'] or open(row['image']['path'], 'rb').read()\n"
        "    print(hashlib.sha256(data).hexdigest() == row['sha256'])\n"
    )
    joined = stranger(hub, tmp_path / "home", repo, world.root / "val", code=code)
    assert (joined.code, joined.out.split()) == (0, ["True"] * len(found["low"])), joined.err


def test_a_hub_that_is_not_there_is_said_by_every_command(world: World, tmp_path: Path) -> None:
    with HubStandIn() as gone:
        pass
    told = stranger(gone, tmp_path, "trace", "abcd", "--dataset", "org/cues").the_error()
    assert told.startswith("dataset org/cues cannot be read: ")
