from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from helpers import CLASSES, run_spurious, tree, weights_file
from safetensors.numpy import save_file
from spufix_helpers import DIGESTS, IMAGES, World, make_world, pixels_of, store_of

from spurious_imagenet.benchmark.mitigation.load import load_mitigation
from spurious_imagenet.benchmark.mitigation.spufix import TransferConfig, fit_scorer, transfer
from spurious_imagenet.benchmark.mitigation.spufix_alphas import alphas_of_store, write_alphas
from spurious_imagenet.benchmark.mitigation.spufix_file import SPUFIX_METADATA_KEY, Spufix
from spurious_imagenet.errors import ModelError, StoreError
from spurious_imagenet.io import sha256_file
from spurious_imagenet.models import LinearHead, load_classifier
from spurious_imagenet.models.head_file import HeadFileInfo, save_head


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("world"))
    table = world.bank.table
    spurious = table["concept_id"].isin(world.spurious().table["concept_id"])
    replace(world.bank, table=table.assign(verdict=np.where(spurious, "spurious", "core"))).save(bank_of(world))
    return world


def bank_of(world: World) -> Path:
    return world.scorer_store.path.parent / "bank"


def saved_head(world: World, path: Path, class_ids: tuple[str, ...] = CLASSES) -> LinearHead:
    rng = np.random.default_rng(0)
    head = LinearHead(
        rng.standard_normal((len(class_ids), world.scorer.feature_dim)).astype(np.float32),
        rng.standard_normal(len(class_ids)).astype(np.float32),
    )
    info = HeadFileInfo(
        encoder=world.scorer.spec,
        encoder_weights_sha256=world.scorer.weights_sha256,
        image_size=64,
        label_space="custom",
        class_ids=class_ids,
        class_names=class_ids,
    )
    save_head(path, head, info)
    return head


def test_a_correction_is_read_as_it_was_written(world: World, tmp_path: Path) -> None:
    fix = fit_scorer(world.spurious(), world.scorer, world.scorer_store)
    fix.save(tmp_path / "f.safetensors")
    again = Spufix.load(tmp_path / "f.safetensors")
    assert again.info == fix.info
    for name in ("readouts", "offsets", "class_index"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fix, name))
    record = load_mitigation(tmp_path / "f.safetensors", world.scorer).record
    assert (record.kind, record.sha256) == ("spufix", sha256_file(tmp_path / "f.safetensors"))


def test_an_empty_correction_is_the_identity(world: World, tmp_path: Path) -> None:
    fit_scorer(world.bank.select([]), world.scorer).save(tmp_path / "f.safetensors")
    features, logits = world.scorer.predict(pixels_of(world.scorer, 3))
    mitigation = load_mitigation(tmp_path / "f.safetensors", world.scorer)
    np.testing.assert_array_equal(mitigation.corrected(features, logits), logits)
    fixed = load_classifier(f"spufix:{tmp_path}/f.safetensors")
    np.testing.assert_array_equal(fixed.predict(pixels_of(world.scorer, 3))[1], logits)


def test_a_head_is_a_mitigation_too_and_opens_as_a_file(world: World, tmp_path: Path) -> None:
    head = saved_head(world, tmp_path / "h.safetensors")
    pixels = pixels_of(world.scorer, 3)
    features, logits = world.scorer.predict(pixels)
    mitigation = load_mitigation(tmp_path / "h.safetensors", world.scorer)
    assert mitigation.record.kind == "head"
    np.testing.assert_allclose(mitigation.corrected(features, logits), head.logits(features), rtol=1e-6)
    opened = load_classifier(f"file:{tmp_path}/h.safetensors")
    np.testing.assert_allclose(opened.predict(pixels)[1], head.logits(features), atol=1e-4)


def test_files_of_other_models_and_classes_are_refused(world: World, tmp_path: Path) -> None:
    fix, head = tmp_path / "f.safetensors", tmp_path / "h.safetensors"
    fit_scorer(world.spurious(), world.scorer).save(fix)
    saved_head(world, head)
    for path in (fix, head):
        with pytest.raises(ModelError, match=r"weights .*, but"):
            load_mitigation(path, world.target)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(reversed(CLASSES)))
    renamed = load_classifier(f"{world.scorer.spec}?labels={labels}")
    for path in (fix, head):
        with pytest.raises(ModelError, match="expected the same classes in the same order"):
            load_mitigation(path, renamed)
    moved = urlencode({"model": world.target.spec})
    with pytest.raises(ModelError, match="was made for"):
        load_classifier(f"spufix:{fix}?{moved}")


def test_torn_and_foreign_files_are_refused(world: World, tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    fix = fit_scorer(world.spurious(), world.scorer)
    fix.save(path)
    good = path.read_bytes()
    tensors = {"readouts": fix.readouts, "offsets": fix.offsets, "class_index": fix.class_index}
    info = fix.info.model_dump_json()
    for content in (good[:-5], good[: len(good) // 2], b"", os.urandom(200)):
        path.write_bytes(content)
        for read in (lambda: load_mitigation(path, world.scorer), lambda: load_classifier(f"spufix:{path}")):
            with pytest.raises(ModelError, match="is not a readable"):
                read()
    wrong = {
        "holds no SpuFix correction": ({"readouts": fix.readouts}, info),
        "correction is torn": (tensors | {"offsets": fix.offsets[1:]}, info),
        "not a readable SpuFix file": (tensors, "{}"),
        "has schema 9: expected 1": (tensors, info.replace('"schema_version":1', '"schema_version":9')),
        "NaN or infinite numbers": (tensors | {"offsets": np.full_like(fix.offsets, np.inf)}, info),
    }
    for said, (changed, text) in wrong.items():
        save_file(changed, path, metadata={SPUFIX_METADATA_KEY: text})
        with pytest.raises(ModelError, match=said):
            Spufix.load(path)
    for changed in ({"class_index": fix.class_index + 100}, {"readouts": fix.readouts[:, :5]}):
        together = {name: np.ascontiguousarray(tensor) for name, tensor in (tensors | changed).items()}
        save_file(together, path, metadata={SPUFIX_METADATA_KEY: info})
        with pytest.raises(ModelError, match="the correction is torn: it reads"):
            load_mitigation(path, world.scorer)
    with pytest.raises(ModelError, match="there is no"):
        load_mitigation(tmp_path / "none", world.scorer)
    weights_file(tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="holds no linear head"):
        load_mitigation(tmp_path / "w.safetensors", world.scorer)


def test_the_command_corrects_the_scoring_model(world: World, tmp_path: Path) -> None:
    out = tmp_path / "f.safetensors"
    common = ("spufix", "--bank", bank_of(world), "--model", world.scorer.spec, "--out", out)
    ran = run_spurious(*common)
    assert ran.out == f"{out}: 6 directions of 3 classes, 0 dropped.\n", ran
    ran = run_spurious(*common, "--features", world.scorer_store.path)
    changed = sum(c.changed for c in Spufix.load(out).info.classes)
    assert f"changes {changed / 72:.1%} of the 72 training images" in ran.out
    ran = run_spurious(*common, "--concept", "npca/bird/0")
    assert "1 directions of 1 classes" in ran.out
    ran = run_spurious(*common, "--verdict", "core")
    assert "rows of kind 'npca_residual'" in ran.the_error()


def test_the_command_transfers_by_features_and_by_published_alphas(world: World, tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    target = ("--model", world.target.spec, "--target-features", world.target_store.path)
    ran = run_spurious("spufix", "--bank", bank_of(world), "--features", world.scorer_store.path, *target, "--out", one)
    assert "6 directions of 3 classes, 0 dropped; changes" in ran.out, ran
    write_alphas(tmp_path / "a.parquet", list(alphas_of_store(world.spurious(), world.scorer_store)))
    ran = run_spurious("spufix", "--alphas", tmp_path / "a.parquet", *target, "--out", two)
    assert "6 directions of 3 classes" in ran.out, ran
    first, second = Spufix.load(one), Spufix.load(two)
    np.testing.assert_allclose(first.readouts, second.readouts, atol=1e-4)
    assert [d.concept_id for d in first.info.directions] == [d.concept_id for d in second.info.directions]
    assert first.info.scorer == world.scorer.spec
    assert (second.info.scorer, second.info.scorer_sha256) == (
        str(tmp_path / "a.parquet"),
        sha256_file(tmp_path / "a.parquet"),
    )
    rows = [i for i in range(IMAGES) if DIGESTS[i] != DIGESTS[0]]
    store_of(tmp_path / "fewer", world.target, world.target_features, rows)
    fewer = ("--model", world.target.spec, "--target-features", tmp_path / "fewer", "--out", two)
    ran = run_spurious("spufix", "--alphas", tmp_path / "a.parquet", *fewer, "--max-unmatched", 0.1)
    assert ran.out.endswith(", 1 images were in one store only.\n")


def test_the_command_says_what_is_missing(world: World, tmp_path: Path) -> None:
    out, bank, spec = tmp_path / "f.safetensors", bank_of(world), world.scorer.spec
    store = world.scorer_store.path
    world.bank.save(tmp_path / "unjudged")
    wrong = {
        "give either --bank": (),
        "--alphas needs --target-features": ("--alphas", "a"),
        "--target-features needs --features": ("--bank", bank, "--target-features", store),
        "--features and --concept go with --bank": ("--alphas", "a", "--features", store),
        "is not in": ("--bank", bank, "--concept", "npca/bird/99"),
        "carries no verdicts": ("--bank", tmp_path / "unjudged"),
        "has no concept with the verdict 'unclear'": ("--bank", bank, "--verdict", "unclear"),
        "a holds no α": ("--alphas", "a", "--target-features", store),
        "holds features of": ("--bank", bank, "--features", store, "--target-features", world.target_store.path),
    }
    before = tree(tmp_path)
    for said, arguments in wrong.items():
        ran = run_spurious("spufix", "--model", spec, "--out", out, *arguments)
        assert said in ran.the_error(), (said, ran)
    assert tree(tmp_path) == before


def test_alphas_of_another_head_are_not_taken_off(world: World, tmp_path: Path) -> None:
    saved_head(world, tmp_path / "h.safetensors")
    headed = load_classifier(f"head:{tmp_path / 'h.safetensors'}")
    assert headed.encoder_weights_sha256 == world.bank.info.weights_sha256
    with pytest.raises(ModelError, match="to correct another model"):
        fit_scorer(world.spurious(), headed)


def test_features_of_another_image_size_are_refused(world: World) -> None:
    larger = load_classifier(world.target.spec, image_size=96)
    with pytest.raises(StoreError, match="was made at 64 px"):
        transfer(
            alphas_of_store(world.spurious(), world.scorer_store),
            world.target_store,
            larger,
            TransferConfig(),
            scorer=world.scorer.spec,
            scorer_sha256=world.scorer.weights_sha256,
        )
