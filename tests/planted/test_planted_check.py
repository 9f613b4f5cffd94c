"""The check of a run over a planted world: right where the run is right, and wrong where it is wrong."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from spurious_imagenet.cli.planted import app
from spurious_imagenet.concepts.bank import BankInfo, ConceptBank
from spurious_imagenet.errors import DataError, StoreError, UndefinedMetricError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig
from spurious_imagenet.io import sha256_file, write_json
from spurious_imagenet.planted import PlantedTruth, TruePair
from spurious_imagenet.planted._world import TRUTH_SCHEMA
from spurious_imagenet.planted.check import CueAuc, MinedPurity, cue_auc, mined_purity
from spurious_imagenet.planted.report import FoundBars, check_report

PAIRS = (TruePair("c0", "grass", 0.6), TruePair("c1", "waves", 0.5))
CONFIG = StoreConfig(
    model="file:m",
    weights_sha256="w",
    label_space="planted-world",
    class_ids=("c0", "c1"),
    feature_dim=3,
    preprocess={},
)
#: What each pool image shows, and its features: (grass, waves, object).
POOL = [
    (None, ["grass"], (5.0, 0.0, 0.0)),
    (None, ["grass"], (4.0, 0.0, 0.0)),
    ("c1", ["grass"], (4.5, 0.0, 1.0)),
    ("c0", ["grass"], (6.0, 0.0, 1.0)),
    (None, ["waves"], (0.0, 5.0, 0.0)),
    (None, ["waves"], (0.0, 1.0, 0.0)),
    ("c0", [], (0.5, 2.0, 1.0)),
    ("c1", [], (0.0, 0.5, 1.0)),
    (None, [], (0.1, 0.0, 0.0)),
]


def _digest(i: int) -> bytes:
    return hashlib.sha256(str(i).encode()).digest()


def _truth(pool: list[tuple[object, ...]] = POOL) -> PlantedTruth:
    rows = [("pool", f"pool/{i}.jpg", "", _digest(i).hex(), c, cues, False) for i, (c, cues, _) in enumerate(pool)]
    rows.append(("train", "train/x.jpg", "", _digest(99).hex(), "c0", ["grass"], True))
    table = pd.DataFrame(rows, columns=TRUTH_SCHEMA.names, dtype=object).set_index("sha256")
    return PlantedTruth(table, PAIRS)


def _store(path: Path, images: list[int], features: NDArray[np.float16] | None = None) -> FeatureStore:
    store = FeatureStore.create(path, CONFIG)
    for part, chosen in enumerate((images[::2], images[1::2])):
        rows = [
            {"key": str(i), "sha256": _digest(i), "top5_index": [0] * 5, "top5_probability": [0.2] * 5} for i in chosen
        ]
        values = np.array([POOL[i][2] for i in chosen], dtype=np.float16) if features is None else features[chosen]
        store.write_part(
            shard=f"s{part}.tar",
            shard_sha256="",
            shard_bytes=0,
            features=values,
            rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
            rejects=[],
            versions={},
        )
    return store


def _bank(classes: tuple[str, ...] = ("c0", "c1"), kind: str = "npca") -> ConceptBank:
    rows, directions = [], []
    for class_id in classes:
        for component, direction in enumerate(((0, 0, 1), (0, 1, 0), (1, 0, 0), (-1, -1, -1))):
            rows.append((f"{class_id}/{component}", kind, 0, class_id, class_id, component, ""))
            directions.append(direction)
    table = pd.DataFrame(
        rows, columns=["concept_id", "kind", "class_index", "class_id", "class_name", "component", "name"]
    )
    info = BankInfo(model="file:m", weights_sha256="w", feature_dim=3, feature_config_sha256=CONFIG.sha256)
    return ConceptBank(np.array(directions, dtype=np.float32), np.zeros(len(rows), dtype=np.float32), table, info)


ALL = list(range(len(POOL)))


def test_auc_names_the_component_that_ranks_cue_only_images_first(tmp_path: Path) -> None:
    grass, waves = cue_auc(_bank(), _store(tmp_path / "s", ALL), _truth())
    assert (grass.concept_id, grass.component, grass.auc) == ("c0/2", 2, 1.0)
    assert (waves.concept_id, waves.component) == ("c1/1", 1)
    # Two cue-only images (5 and 1) against the seven without waves, of which one scores 2: 13 of 14 pairs are right.
    assert waves.auc == pytest.approx(13 / 14)
    assert len(grass.aucs) == 4


def test_auc_equals_counted_pairs_on_random_features(tmp_path: Path) -> None:
    features = np.random.default_rng(3).normal(size=(len(POOL), 3)).astype(np.float16)
    got = cue_auc(_bank(), _store(tmp_path / "s", ALL, features), _truth())
    for found, cue in zip(got, ("grass", "waves"), strict=True):
        for component, direction in enumerate(_bank().directions[:4]):
            score = features.astype(np.float32) @ direction
            pos = [s for s, (c, cues, _) in zip(score, POOL, strict=True) if c is None and cue in cues]
            neg = [s for s, (_, cues, _) in zip(score, POOL, strict=True) if cue not in cues]
            counted = np.mean([(p > n) + 0.5 * (p == n) for p in pos for n in neg])
            assert found.aucs[component] == pytest.approx(counted)
        assert found.auc == max(found.aucs)


def test_only_the_class_s_own_first_ten_npca_components_count(tmp_path: Path) -> None:
    store, bank = _store(tmp_path / "s", ALL), _bank()
    late = bank.table.assign(component=[10 if c == 2 else c for c in bank.table["component"]])
    grass, _ = cue_auc(ConceptBank(bank.directions, bank.offsets, late, bank.info), store, _truth())
    assert grass.auc < 1
    with pytest.raises(DataError, match="no NPCA components of c1"):
        cue_auc(_bank(classes=("c0",)), store, _truth())
    with pytest.raises(DataError, match="no NPCA components of c0"):
        cue_auc(_bank(kind="neuron"), store, _truth())


def test_features_that_are_not_of_the_pool_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks 2 of the 9 images"):
        cue_auc(_bank(), _store(tmp_path / "few", ALL[:-2]), _truth())
    with pytest.raises(DataError, match="holds 9 images, 8 of them"):
        cue_auc(_bank(), _store(tmp_path / "more", ALL), _truth(POOL[:-1]))
    bank = _bank()
    foreign = bank.info.model_copy(update={"weights_sha256": "other"})
    with pytest.raises(StoreError, match="weights"):
        cue_auc(ConceptBank(bank.directions, bank.offsets, bank.table, foreign), _store(tmp_path / "s", ALL), _truth())


def test_auc_without_cue_only_images_is_undefined(tmp_path: Path) -> None:
    pool = [("c0", cues, f) if "grass" in cues else (c, cues, f) for c, cues, f in POOL]
    with pytest.raises(UndefinedMetricError, match="'grass' is undefined"):
        cue_auc(_bank(), _store(tmp_path / "s", ALL), _truth(pool))


def _found(auc: float = 0.99) -> list[CueAuc]:
    return [CueAuc(PAIRS[0], "c0/2", 2, auc, (auc,)), CueAuc(PAIRS[1], "c1/1", 1, auc, (auc,))]


def _candidates(rows: list[tuple[str, int, str]]) -> pd.DataFrame:
    content = [(concept, _digest(i).hex(), status) for concept, i, status in rows]
    return pd.DataFrame(content, columns=["concept_id", "sha256", "status"])


def test_purity_counts_kept_images_that_show_the_cue_without_the_object() -> None:
    rows = [("c0/2", i, "kept") for i in (0, 1, 2, 3, 8)]  # 3 shows the class's object too, 8 no cue
    rows += [("c0/2", 4, "too-few-votes"), ("c0/0", 6, "kept"), ("c1/1", 4, "kept")]
    grass, waves = mined_purity(_candidates(rows), _truth(), _found())
    assert (grass.kept, grass.pure, grass.purity) == (5, 3, 0.6)
    assert (waves.kept, waves.pure, waves.purity) == (1, 1, 1.0)


def test_nothing_kept_is_undefined_and_misses_the_bar() -> None:
    mined = mined_purity(_candidates([("c0/2", 0, "kept")]), _truth(), _found())
    with pytest.raises(UndefinedMetricError, match="no image was kept for c1"):
        _ = mined[1].purity
    report = check_report(_found(), mined)
    assert report.pairs[1].purity is None
    assert report.purity_share == 0.5
    assert not report.passed


def test_candidates_of_elsewhere_are_refused() -> None:
    with pytest.raises(DataError, match="not of the world's pool"):
        mined_purity(_candidates([("c0/2", 99, "kept")]), _truth(), _found())  # a training image
    with pytest.raises(DataError, match=r"lack the columns \['status'\]"):
        mined_purity(_candidates([]).drop(columns="status"), _truth(), _found())


def test_the_report_judges_both_shares() -> None:
    pure = [MinedPurity(f.pair, f.concept_id, 10, 9) for f in _found()]
    assert check_report(_found(), pure).passed
    assert not check_report(_found(auc=0.94), pure).passed
    half = [CueAuc(PAIRS[0], "c0/2", 2, 0.95, (0.95,)), CueAuc(PAIRS[1], "c1/1", 1, 0.9, (0.9,))]
    assert check_report(half, pure).auc_share == 0.5
    assert check_report(half, pure, FoundBars(share=0.5)).passed
    impure = [MinedPurity(f.pair, f.concept_id, 10, 8) for f in _found()]
    assert not check_report(_found(), impure).passed
    with pytest.raises(DataError, match="not of the same components"):
        check_report(_found(), pure[::-1])
    with pytest.raises(DataError):
        check_report([], [])


def _on_disk(root: Path, kept: list[tuple[str, int, str]]) -> list[str]:
    truth = _truth()
    (root / "world/truth").mkdir(parents=True)
    rows = truth.table.reset_index().to_dict("records")
    for row in rows:
        file = root / "world" / row["file"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file, "JPEG")
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), root / "world/truth/truth.parquet")
    pairs = [{"class_id": p.class_id, "cue": p.cue, "share": p.share} for p in PAIRS]
    (root / "world/truth/world.json").write_text(json.dumps({"pairs": pairs}))
    _bank().save(root / "bank")
    _store(root / "pool", ALL)
    (root / "candidates").mkdir()
    table = root / "candidates" / "candidates.parquet"
    _candidates(kept).to_parquet(table)
    write_json(root / "candidates" / "receipt.json", {"outputs_sha256": {table.name: sha256_file(table)}})
    paths = {"world": "world", "bank": "bank", "features": "pool", "candidates": "candidates", "out": "report"}
    return ["check", *(a for option, name in paths.items() for a in (f"--{option}", str(root / name)))]


def test_the_command_reports_and_exits_by_the_verdict(tmp_path: Path) -> None:
    good = [("c0/2", 0, "kept"), ("c0/2", 1, "kept"), ("c1/1", 4, "kept")]
    run = CliRunner().invoke(app, _on_disk(tmp_path / "a", good))
    # The waves' best AUC is 13/14, below the bar, so one of two pairs is missed.
    assert run.exit_code == 1
    assert "1 of 2 planted cues were found" in run.stdout.replace("\n", " ")
    assert "Required: 2 of 2 each; FAILED." in run.stdout.replace("\n", " ")
    written = json.loads((tmp_path / "a/report/check.json").read_text())
    assert (written["auc_share"], written["purity_share"], written["passed"]) == (0.5, 1.0, False)
    assert "| c0 | grass | 60% | 2 | 1.0000 | 2 | 1.000 |" in (tmp_path / "a/report/check.md").read_text()


def test_the_sheet_frames_what_shows_the_cue_alone_green_and_all_else_red(tmp_path: Path) -> None:
    mined = [("c0/2", 0, "kept"), ("c0/2", 3, "kept"), ("c0/2", 1, "near-duplicate")]
    CliRunner().invoke(app, _on_disk(tmp_path / "a", mined))
    truth = PlantedTruth.load(tmp_path / "a/world")
    with Image.open(tmp_path / "a/report/found.png") as image:
        sheet = image.convert("RGB")
    left = 250 + 2 * 102 + 12
    assert sheet.height == 30 + len(PAIRS) * 102
    framed = [sheet.getpixel((left + i * 102 + 1, 30 + 50)) for i in range(3)]
    for colour, i in zip(framed, (0, 3), strict=False):
        row = truth.table.loc[_digest(i).hex()]
        alone = "grass" in row["cues"] and row["class_id"] != "c0"
        assert colour == ((40, 150, 70) if alone else (200, 40, 40)), i
    assert framed[2] == (255, 255, 255)  # no third image was kept


def test_the_command_exits_with_0_when_all_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    better = [*POOL]
    better[6] = ("c0", [], (0.5, 0.0, 1.0))  # the one image that scored above a cue-only one
    monkeypatch.setattr(sys.modules[__name__], "POOL", better)
    good = [("c0/2", 0, "kept"), ("c0/2", 1, "kept"), ("c1/1", 4, "kept")]
    run = CliRunner().invoke(app, _on_disk(tmp_path / "a", good))
    assert run.exit_code == 0, run.output
    assert "passed" in run.stdout


def test_the_truth_survives_its_file(tmp_path: Path) -> None:
    _on_disk(tmp_path, [])
    truth = PlantedTruth.load(tmp_path / "world")
    assert truth.pairs == PAIRS
    assert len(truth.pool()) == len(POOL)
    assert truth.table["class_id"].iloc[0] is None
    assert list(truth.table["cues"].iloc[0]) == ["grass"]
