from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from feature_store_helpers import bank_for, empty_store
from helpers import run_spurious, tree

from spurious_imagenet.builders.publish import RankingsConfig, check_dataset, diff_datasets, publish_rankings
from spurious_imagenet.builders.rankings import RankConfig, rank
from spurious_imagenet.datasets.rankings import Rankings
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.features.store import ROW_SCHEMA

CLASSES, DIM, EACH = ("ape", "bee"), 4, 130


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rankings")
    store = empty_store(root / "store", DIM, CLASSES)
    names = [(c, f"{c}/{i:03d}") for c in CLASSES for i in range(EACH)]
    rows = [
        {"key": name, "class_id": c, "label": CLASSES.index(c), "top5_index": [0] * 5}
        | {"sha256": hashlib.sha256(name.encode()).digest()}
        for c, name in names
    ]
    store.write_part(
        shard="0.tar",
        shard_sha256="0" * 64,
        shard_bytes=0,
        features=np.random.default_rng(0).standard_normal((len(names), DIM)).astype(np.float16),
        rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
        rejects=(),
        versions={},
    )
    bank_for(store, np.eye(DIM, dtype=np.float32)[:2], classes=[0, 1]).save(root / "bank")
    return rank(RankConfig(bank=str(root / "bank"), features={"val": (str(root / "store"),)}), root / "ranked").path


@pytest.fixture(scope="module")
def published(ranked: Path) -> Path:
    publish_rankings(RankingsConfig(rankings=str(ranked)), ranked.parent / "published")
    return ranked.parent / "published"


@pytest.mark.parametrize("streaming", [False, True])
def test_all_ranked_images_and_each_end_load(published: Path, tmp_path: Path, streaming: bool) -> None:
    def load(config: str | None, **how: object) -> list[dict]:
        how |= {"split": "val", "streaming": streaming, "cache_dir": str(tmp_path)}
        return list(datasets.load_dataset(str(published), config, **how))

    every = load(None)
    assert len(every) == 2 * EACH
    for end in ("low", "middle", "high"):
        assert load(end) == [row for row in every if row["ranked_split"] == end]
        assert load("rankings", filters=[("ranked_split", "==", end)]) == load(end)
    assert len(load("low")) == 20
    assert {tuple(row) for row in load("high", columns=["sha256"])} == {("sha256",)}


def test_the_folder_is_still_one_of_rankings(ranked: Path, published: Path) -> None:
    before, after = Rankings.load(ranked), Rankings.load(published)
    assert after.info == before.info
    assert after.table.equals(before.table)
    assert check_dataset(published) == []


def test_publishing_twice_gives_the_same_bytes(ranked: Path, published: Path, tmp_path: Path) -> None:
    ran = run_spurious("publish", "--rankings", ranked, "--out", tmp_path / "again")
    assert ran.code == 0, ran
    assert tree(tmp_path / "again") == tree(published)


def test_the_croissant_file_is_clean_and_dated_by_what_was_ranked(
    ranked: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")

    def day(folder: Path) -> str:
        issues = mlcroissant.Dataset(jsonld=str(folder / "croissant.json")).metadata.ctx.issues
        assert issues.errors == issues.warnings == set()
        return str(json.loads((folder / "croissant.json").read_text())["datePublished"])

    assert day(published) == time.strftime("%Y-%m-%d", time.gmtime((ranked / "rankings.json").stat().st_mtime))
    shutil.copytree(ranked, tmp_path / "old")
    os.utime(tmp_path / "old" / "rankings.json", (0, 1_700_000_000))
    for name, given, expected in (("a", None, "2023-11-14"), ("b", "86400", "1970-01-02")):
        if given:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
        publish_rankings(RankingsConfig(rankings=str(tmp_path / "old")), tmp_path / name)
        assert day(tmp_path / name) == expected
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH is 'soon': expected seconds since 1970"):
        publish_rankings(RankingsConfig(rankings=str(ranked)), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_new_version_carries_the_changelog_on(ranked: Path, published: Path, tmp_path: Path) -> None:
    config = RankingsConfig(rankings=str(ranked), version="1.1.0", previous=str(published), change="Same again.")
    made = publish_rankings(config, tmp_path / "new")
    assert [(c.version, c.text) for c in made.changes] == [("1.1.0", "Same again."), ("1.0.0", "First version.")]
    found = diff_datasets(published, tmp_path / "new")
    assert (found.added, found.removed, found.changed, found.files) == ((), (), {}, {})


def test_what_is_no_rankings_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rankings"):
        publish_rankings(RankingsConfig(rankings=str(tmp_path)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
