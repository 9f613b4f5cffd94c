from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import CLASSES, Ran, labelled_shard, run_spurious, spread_weights_file, tree, weights_file
from PIL import Image
from reference import sensitivity as naive

from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_counts, class_rng
from spurious_imagenet.builders.sensitivity import _measure as measure_module
from spurious_imagenet.builders.sensitivity._summary import correlation
from spurious_imagenet.builders.visualise.align_masks import align
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import UndefinedMetricError
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.models.inference import softmax

ROLES = ("spurious", "core", None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of three neurons per class, one of them spurious and one core; and what two models make of them."""
    root = tmp_path_factory.mktemp("sensitivity")
    spec = spread_weights_file(root / "first.safetensors")
    spread_weights_file(root / "second.safetensors", seed=5)
    shards = [labelled_shard(root / "a.tar", range(20)), labelled_shard(root / "b.tar", range(20, 37))]
    made = ["--shards", shards[0], "--shards", shards[1], "--backend", "eager"]
    assert run_spurious("features", "--model", spec, *made, "--out", root / "features").code == 0
    found = run_spurious("neurons", "--model", spec, "--features", root / "features", "--out", root / "n", "--top", 3)
    assert found.code == 0, found.err
    bank = ConceptBank.load(root / "n")
    bank.table["verdict"] = [ROLES[i % 3] for i in range(len(bank))]
    bank.save(root / "bank")
    masks = ["--bank", root / "bank", "--features", root / "features", "--share", 0.5]
    assert run_spurious("masks", *masks, "--out", root / "masks").code == 0
    ran = measured(root, root / "out")
    assert ran.code == 0, ran.err
    return root


def measured(root: Path, out: Path, *options: object, models: tuple[str, ...] = ("first", "second")) -> Ran:
    specs = [part for m in models for part in ("--model", f"file:{root / m}.safetensors")]
    wanted = ["--masks", root / "masks", "--bank", root / "bank", "--out", out, "--images", 4, "--image-size", 56]
    return run_spurious("sensitivity", *wanted, *specs, "--backend", "eager", "--resamples", 200, *options)


def rows_of(out: Path, model: str) -> list[dict[str, object]]:
    (folder,) = (out / "models").glob(f"{model}-*")
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def listing(masks: Path) -> dict[tuple[object, object], dict[str, object]]:
    rows = [r | {"at": f.parent} for f in masks.glob("*/metadata.parquet") for r in pq.read_table(f).to_pylist()]
    return {(r["concept_id"], r["sha256"]): r for r in rows}


def naive_versions(whole: np.ndarray, sha256: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, int(sha256[:16], 16)])
    blurred = np.rint(naive.blur(whole, len(whole) / 32)).astype(np.uint8)
    return {"grey": naive.grey(whole), "blur": blurred, "patch-rotate": naive.patch_rotate(whole, 7, rng)}


def model_at_56(run: Path, name: str) -> Classifier:
    return load_classifier(f"file:{run / name}.safetensors", image_size=56)


@pytest.mark.parametrize("model", ["first", "second"])
def test_each_answer_is_the_models_to_the_image_corrupted_where_the_mask_is(run: Path, model: str) -> None:
    classifier, listed = model_at_56(run, model), listing(run / "masks")
    own = load_classifier(f"file:{run / 'first'}.safetensors").preprocess
    roles = dict(ConceptBank.load(run / "bank").table[["concept_id", "verdict"]].to_numpy())
    answered = rows_of(run / "out", model)
    assert len(answered) == 12 * 4
    assert {r["rank"] for r in answered} == {1, 2, 3, 4}
    for row in answered[::7]:
        source = listed[row["concept_id"], row["sha256"]]
        data = Path(str(source["shard"])).read_bytes()[source["offset"] : source["offset"] + source["size"]]
        image = np.asarray(Image.open(io.BytesIO(data)))
        whole = classifier.preprocess.apply(image)
        mask = np.asarray(Image.open(source["at"] / str(source["file_name"])))
        cores = [
            np.asarray(Image.open(r["at"] / str(r["file_name"])))
            for (concept, sha256), r in listed.items()
            if sha256 == row["sha256"] and roles[concept] == "core" and r["class_id"] == source["class_id"]
        ]
        if roles[row["concept_id"]] == "spurious":
            mask = naive.without_core(mask, cores)
            assert row["core_removed"] == bool(cores)
        size = image.shape[1], image.shape[0]
        mask = align(mask, own.view(*size), classifier.preprocess.view(*size), 56)
        assert row["covered"] == pytest.approx(mask.mean() / 255, rel=1e-5)
        target = classifier.labels.index(str(source["class_id"]))
        for kind, version in {"clean": whole, **naive_versions(whole, str(row["sha256"]))}.items():
            pixels = whole if kind == "clean" else naive.blend(whole, version, mask)
            _, logits = classifier.predict(pixels[None])
            assert row[f"probability_{kind}"] == pytest.approx(softmax(logits)[0, target], abs=5e-3), kind
    assert any(r["core_removed"] for r in answered)


def test_the_record_sums_up_the_answers(run: Path) -> None:
    record = json.loads((run / "out" / "sensitivity.json").read_text())
    assert [m["name"] for m in record["models"]] == ["first", "second"]
    for model in record["models"]:
        answered = rows_of(run / "out", model["name"])
        for drop in model["concepts"]:
            own = [r for r in answered if r["concept_id"] == drop["concept_id"]]
            clean, corrupted = ([bool(r[f"correct_{k}"]) for r in own] for k in ("clean", drop["corruption"]))
            assert drop["drop"] == pytest.approx(np.mean(clean) - np.mean(corrupted))
            assert drop["accuracy"] == np.mean(clean)
            counts = bootstrap_counts(len(own), 200, class_rng(0, drop["concept_id"], 0))
            low, high = np.quantile(naive.bootstrapped_drop(clean, corrupted, counts), [0.025, 0.975])
            assert (drop["interval"]["low"], drop["interval"]["high"]) == pytest.approx((low, high))
        for mean in model["means"]:
            drops = [d for d in model["concepts"] if (d["role"], d["corruption"]) == (mean["role"], mean["corruption"])]
            assert len(drops) == mean["concepts"] == 4
            assert mean["drop"] == pytest.approx(np.mean([d["drop"] for d in drops]))
            assert mean["interval"]["low"] <= mean["drop"] + 0.02
            assert mean["interval"]["high"] >= mean["drop"] - 0.02
    assert len(record["models"][0]["means"]) == 9
    drops = [[d["drop"] for d in m["concepts"]] for m in record["models"]]
    assert record["agreement"][0]["corruption"] == "all"
    assert record["agreement"][0]["r"] == pytest.approx(naive.pearson(*drops))
    assert {a["concepts"] for a in record["agreement"]} == {12}


def test_the_table_has_a_row_a_model_concept_and_corruption(run: Path) -> None:
    with (run / "out" / "sensitivity.csv").open() as file:
        found = list(csv.DictReader(file))
    record = json.loads((run / "out" / "sensitivity.json").read_text())
    assert len(found) == 2 * 12 * 3
    assert [float(r["drop"]) for r in found] == [d["drop"] for m in record["models"] for d in m["concepts"]]


def test_a_killed_run_goes_on_to_the_same_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = measure_module.Measurer.measure, []

    def cut(self: measure_module.Measurer, found: object) -> object:
        done.append(1)
        if len(done) == 6:
            raise KeyboardInterrupt
        return real(self, found)

    monkeypatch.setattr(measure_module.Measurer, "measure", cut)
    assert measured(run, tmp_path / "out").code == 130
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 5
    assert not (tmp_path / "out" / "sensitivity.json").exists()
    assert measured(run, tmp_path / "out", "--workers", 3).code == 0
    assert len(done) == 6 + 3
    assert tree(tmp_path / "out") == tree(run / "out")


def test_models_are_added_without_measuring_the_others_again(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "out", tmp_path / "out")
    weights_file(run / "third.safetensors", seed=2)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    ran = measured(run, tmp_path / "out", models=("second", "third"))
    assert ran.code == 0, ran.err
    assert before.items() <= {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}.items()
    record = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert [m["name"] for m in record["models"]] == ["second", "third"]


def test_what_does_not_belong_together_is_refused(run: Path, tmp_path: Path) -> None:
    assert "other masks, verdicts or settings" in measured(run, run / "out", "--seed", 1).the_error()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("")
    assert "holds no sensitivities" in measured(run, tmp_path / "full").the_error()
    assert "is not a folder of masks" in measured(run, tmp_path / "a", "--masks", tmp_path).the_error()
    shutil.copytree(run / "masks", tmp_path / "masks")
    shutil.rmtree(tmp_path / "masks" / "00002")
    assert "is unfinished: 3 of its 12" in measured(run, tmp_path / "a", "--masks", tmp_path / "masks").the_error()
    stranger = weights_file(tmp_path / "few.safetensors", classes=CLASSES[:2])
    few = run_spurious(
        "sensitivity", "--masks", run / "masks", "--bank", run / "bank", "--model", stranger, "--out", tmp_path / "b"
    )
    assert "has no output for class 'cup'" in few.the_error()


def test_masks_and_images_that_changed_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "masks", tmp_path / "masks")
    for file in (tmp_path / "masks").rglob("00000.png"):
        file.write_bytes(file.read_bytes()[:40])
    assert "cannot be read" in measured(run, tmp_path / "a", "--masks", tmp_path / "masks").the_error()
    shard = run / "b.tar"
    whole = shard.read_bytes()
    try:
        damaged = bytearray(whole)
        for row in listing(run / "masks").values():
            if row["shard"] == str(shard):
                damaged[row["offset"] + row["size"] // 2] ^= 1
        shard.write_bytes(bytes(damaged))
        assert "has changed since its mask was made" in measured(run, tmp_path / "c").the_error()
    finally:
        shard.write_bytes(whole)


def test_a_correlation_without_value_says_why() -> None:
    with pytest.raises(UndefinedMetricError, match="all alike"):
        correlation([0.1, 0.2, 0.3], [0.5, 0.5, 0.5])
    with pytest.raises(UndefinedMetricError, match="at least 3"):
        correlation([0.1, 0.2], [0.5, 0.4])
    values = np.random.default_rng(0).standard_normal((2, 9))
    assert correlation(*values) == pytest.approx(naive.pearson(*values.tolist()))
    assert correlation(values[0], 3 * values[0] - 1) == pytest.approx(1)
