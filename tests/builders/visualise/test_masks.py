from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import CLASSES, Ran, labelled_shard, run_spurious, spread_weights_file, tree
from PIL import Image

from spurious_imagenet.builders.visualise import masks as masks_module
from spurious_imagenet.builders.visualise.activation_maps import activation_map
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import load_classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of 37 labelled images in two shards, their neuron bank, and masks of the top 30 %."""
    root = tmp_path_factory.mktemp("masks")
    spec = spread_weights_file(root / "w.safetensors")
    shards = [labelled_shard(root / "a.tar", range(20)), labelled_shard(root / "b.tar", range(20, 37))]
    made = ["--shards", str(shards[0]), "--shards", str(shards[1]), "--backend", "eager"]
    assert run_spurious("features", "--model", spec, *made, "--out", root / "features").code == 0
    found = run_spurious(
        "neurons", "--model", spec, "--features", root / "features", "--out", root / "bank", "--top", 3
    )
    assert found.code == 0, found.err
    ran = write(root, root / "masks")
    assert ran.code == 0, ran.err
    assert "36 masks" in ran.out
    return root


def write(root: Path, out: Path, *options: object) -> Ran:
    return run_spurious(
        "masks", "--bank", root / "bank", "--features", root / "features", "--out", out, "--share", 0.3, *options
    )


def listing(out: Path) -> list[dict[str, object]]:
    return [
        row | {"file": file.parent / str(row["file_name"])}
        for file in sorted(out.glob("*/metadata.parquet"))
        for row in pq.read_table(file).to_pylist()
    ]


def test_every_concept_has_masks_of_the_class_images_that_score_highest(run: Path) -> None:
    bank, store = ConceptBank.load(run / "bank"), FeatureStore.open(run / "features")
    features = np.concatenate([p.features() for p in store.parts]).astype(np.float32)
    rows = [r | {"part": p.path.name} for p in store.parts for r in p.rows().to_pylist()]
    found = listing(run / "masks")
    assert len({r["concept_id"] for r in found}) == 12
    for i, concept in enumerate(bank.table.itertuples()):
        own = [j for j, r in enumerate(rows) if r["class_id"] == concept.class_id]
        score = features[own] @ bank.directions[i]
        best = np.argsort(-score, kind="stable")[: math.ceil(0.3 * len(own))]
        listed = sorted((r for r in found if r["concept_id"] == concept.concept_id), key=lambda r: r["rank"])
        assert [(r["part"], r["key"]) for r in listed] == [(rows[own[j]]["part"], rows[own[j]]["key"]) for j in best]
        assert [r["score"] for r in listed] == score[best].tolist()
        assert [r["rank"] for r in listed] == list(range(1, len(best) + 1))
        assert {(r["component"], r["class_id"], r["kind"]) for r in listed} == {
            (concept.component, concept.class_id, "neuron")
        }


def test_a_mask_is_the_activation_map_of_the_image_it_names(run: Path) -> None:
    bank, classifier = ConceptBank.load(run / "bank"), load_classifier(f"file:{run / 'w.safetensors'}")
    direction = dict(zip(bank.table["concept_id"], bank.directions, strict=True))
    for row in listing(run / "masks")[::5]:
        data = Path(str(row["shard"])).read_bytes()[row["offset"] : row["offset"] + row["size"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        image = Image.open(io.BytesIO(data))
        assert (row["width"], row["height"]) == image.size
        pixels = torch.from_numpy(classifier.preprocess.apply(np.asarray(image))).permute(2, 0, 1)[None] / 255
        expected = activation_map(classifier, direction[row["concept_id"]], pixels)[0]
        mask = Image.open(row["file"])
        assert mask.mode == "L"
        assert np.abs(np.asarray(mask) / 255 - expected).max() < 0.51 / 255 + 1e-4


def test_a_killed_run_goes_on_to_the_same_files(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, written = masks_module._listing, []

    def cut(plan: object, names: list[str]) -> object:
        written.append(1)
        if len(written) == 3:
            raise KeyboardInterrupt
        return listed(plan, names)

    monkeypatch.setattr(masks_module, "_listing", cut)
    assert write(run, tmp_path / "masks").code == 130
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["00000", "00001", "config.json"]
    (tmp_path / "masks" / ".tmp-00002-killed").mkdir()
    monkeypatch.setattr(masks_module, "_listing", listed)
    before = (tmp_path / "masks" / "00000").stat().st_ino
    assert write(run, tmp_path / "masks").code == 0
    assert (tmp_path / "masks" / "00000").stat().st_ino == before
    assert tree(tmp_path / "masks") == tree(run / "masks")


def test_concepts_can_be_chosen_and_other_settings_need_another_place(run: Path, tmp_path: Path) -> None:
    one = ConceptBank.load(run / "bank").table["concept_id"][4]
    assert write(run, tmp_path / "one", "--concept", one).code == 0
    assert {r["concept_id"] for r in listing(tmp_path / "one")} == {one}
    assert write(run, tmp_path / "first", "--components", 1).code == 0
    assert {r["rank"] for r in listing(tmp_path / "first")} == {1, 2, 3}
    assert len({r["concept_id"] for r in listing(tmp_path / "first")}) == len(CLASSES)
    assert "other concepts, features or settings" in write(run, tmp_path / "one", "--components", 1).the_error()
    assert "no concept 'nobody'" in write(run, tmp_path / "new", "--concept", "nobody").the_error()


def test_the_folder_opens_as_a_dataset_with_the_masks_as_images(run: Path, tmp_path: Path) -> None:
    import datasets

    opened = datasets.load_dataset("imagefolder", data_dir=str(run / "masks"), cache_dir=str(tmp_path))["train"]
    found = {(r["concept_id"], r["rank"]): np.asarray(r["image"]) for r in opened}
    for row in listing(run / "masks"):
        np.testing.assert_array_equal(found[row["concept_id"], row["rank"]], np.asarray(Image.open(row["file"])))


def test_an_image_that_changed_and_another_model_are_refused(run: Path, tmp_path: Path) -> None:
    stranger = spread_weights_file(tmp_path / "other.safetensors", seed=8)
    assert "not of file:" in write(run, tmp_path / "x", "--model", stranger).the_error()
    shard = run / "b.tar"
    whole = shard.read_bytes()
    try:
        damaged = bytearray(whole)
        for row in listing(run / "masks"):
            if row["shard"] == str(shard):
                damaged[row["offset"] + row["size"] // 2] ^= 1
        shard.write_bytes(bytes(damaged))
        assert "has changed since its features were made" in write(run, tmp_path / "y").the_error()
    finally:
        shard.write_bytes(whole)
