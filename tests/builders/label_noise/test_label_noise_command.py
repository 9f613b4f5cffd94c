"""``spurious label-noise`` on a small real chain: shards, features, rankings, flags, review, core crops."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from evaluation_helpers import dataset_folder
from helpers import CLASSES, labelled_shard, random_bank, run_spurious, spread_weights_file, tree
from PIL import Image

from spurious_imagenet.builders.label_noise._flags import FLAGGED_SCHEMA
from spurious_imagenet.features.store import FeatureStore


@dataclass(frozen=True)
class Chain:
    root: Path
    specs: tuple[str, str]

    def noise(self, out: str, *more: object) -> tuple[object, ...]:
        return ("label-noise", "--rankings", self.root / "rankings", "--out", self.root / out, *more)

    def stores(self) -> tuple[object, ...]:
        return ("--features", self.root / "f0", "--features", self.root / "f1")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root = tmp_path_factory.mktemp("noise")
    shard = labelled_shard(root / "val" / "val-0.tar", range(96))
    specs = tuple(spread_weights_file(root / f"m{i}.safetensors", seed=i) for i in range(2))
    for i, spec in enumerate(specs):
        ran = run_spurious(
            "features", "--model", spec, "--shards", shard, "--out", root / f"f{i}", "--backend", "eager"
        )
        assert ran.code == 0, ran.err
    bank = random_bank(FeatureStore.open(root / "f0"), root / "bank")
    table = bank.table.assign(verdict=["core" if c == 0 else "spurious" for c in bank.table["component"]])
    type(bank)(bank.directions, bank.offsets, table, bank.info).save(root / "judged")
    ran = run_spurious("rank", "--bank", root / "judged", "--features", root / "f0", "--out", root / "rankings")
    assert ran.code == 0, ran.err
    return Chain(root, (specs[0], specs[1]))


def test_flags_review_and_crops(chain: Chain) -> None:
    ran = run_spurious(
        *chain.noise("out", *chain.stores(), "--bank", chain.root / "judged", "--crops", 2, "--review", 6)
    )
    assert ran.code == 0, ran.err
    out = chain.root / "out"
    table = pq.read_table(out / "flagged.parquet")
    assert table.schema.equals(FLAGGED_SCHEMA)
    rows = table.to_pylist()
    assert rows
    assert all(r["percentile"] > 0.5 and r["suggested_id"] != r["class_id"] and r["agree"] >= 1 for r in rows)
    assert [r["score"] for r in rows] == sorted((r["score"] for r in rows), reverse=True)
    with (out / "flagged.csv").open(encoding="utf-8") as file:
        assert [line["sha256"] for line in csv.DictReader(file)] == [r["sha256"] for r in rows]
    report = json.loads((out / "label-noise.json").read_text(encoding="utf-8"))
    assert report["flagged"] == len(rows) == sum(report["flagged_by_class"].values())
    assert len(report["models"]) == 2
    assert {crop["class_id"] for crop in report["crops"]} == set(report["flagged_by_class"])
    for crop in report["crops"]:
        with Image.open(out / crop["file"]) as board:
            assert board.size[1] > board.size[0] > 200
    assert "# Labels that may be wrong" in (out / "label-noise.md").read_text(encoding="utf-8")
    made = run_spurious(
        *("review", "create", "--items", out / "items.jsonl", "--form", "label"),
        *("--labelers", "ann,ben", "--out", chain.root / "review"),
    )
    assert made.code == 0, made.err
    assert "6 items" in made.out


@pytest.mark.slow
def test_records_and_stores_flag_the_same_images(chain: Chain) -> None:
    dataset = dataset_folder(chain.root / "dataset")
    ran = run_spurious(
        *("evaluate", "--model", chain.specs[0], "--dataset", dataset, "--val", chain.root / "val" / "val-0.tar"),
        *("--protocol", "standard", "--backend", "eager", "--out", chain.root / "records" / "m0.json"),
    )
    assert ran.code == 0, ran.err
    records = ("--records", *list((chain.root / "records").glob("*.json")))
    by_record = run_spurious(*chain.noise("by-record", *records, "--review", 0))
    by_store = run_spurious(*chain.noise("by-store", "--features", chain.root / "f0", "--review", 0))
    assert (by_record.code, by_store.code) == (0, 0), by_record.err + by_store.err
    columns = ["sha256", "suggested_id", "agree"]
    first, second = (pq.read_table(chain.root / f / "flagged.parquet") for f in ("by-record", "by-store"))
    assert first.select(columns).sort_by("sha256").equals(second.select(columns).sort_by("sha256"))
    assert first["score"].to_pylist() == pytest.approx(second["score"].to_pylist(), abs=1e-2)


def test_the_same_run_gives_the_same_bytes(chain: Chain) -> None:
    for out in ("one", "two"):
        assert run_spurious(*chain.noise(out, *chain.stores(), "--review", 3)).code == 0
    assert tree(chain.root / "one") == tree(chain.root / "two")


def test_real_labels_by_name(chain: Chain) -> None:
    names = [f"val-0-{i:04d}" for i in range(96)]
    content = {name: [CLASSES[i % 4]] for i, name in enumerate(names)}
    real = chain.root / "real.json"
    real.write_text(json.dumps(content))
    ran = run_spurious(*chain.noise("real", *chain.stores(), "--real", real, "--review", 0))
    assert ran.code == 0, ran.err
    assert "all ranked images: 0.0% of 96 show several classes." in ran.out
    report = json.loads((chain.root / "real" / "label-noise.json").read_text(encoding="utf-8"))["real"]
    assert report["flagged_without_label"] == 0
    assert report["flagged"] > 0


def test_bad_input_is_one_sentence(chain: Chain) -> None:
    without = run_spurious(*chain.noise("bad"))
    assert "no predictions are given: expected `--records` or `--features`" in without.the_error()
    twice = run_spurious(*chain.noise("bad", "--features", chain.root / "f0", *chain.stores(), *chain.stores()))
    assert "is given twice" in twice.the_error()
    crops = run_spurious(*chain.noise("bad", *chain.stores(), "--crops", 1))
    assert "expected `--bank` with `--crops`" in crops.the_error()
    share = run_spurious(*chain.noise("bad", *chain.stores(), "--top-share", 0))
    assert share.the_error().startswith("--top-share: ")
    unjudged = run_spurious(*chain.noise("bad", *chain.stores(), "--bank", chain.root / "bank"))
    assert "has no verdicts" in unjudged.the_error()
    other = chain.root / "other"
    labelled_shard(other / "o.tar", range(500, 504))
    missing = run_spurious(*chain.noise("bad", *chain.stores(), "--images", other))
    assert "ranked images are not in" in missing.the_error()
    assert not (chain.root / "bad").exists()
