from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feature_store_helpers import bank_for
from helpers import CLASSES, labelled_shard, run_spurious
from PIL import Image
from reference.alignment import ridge

from spurious_imagenet.benchmark.evaluation.gaps import predictions_of_store
from spurious_imagenet.builders.cues.alignment import fit_alignment
from spurious_imagenet.builders.cues.bank import Cue, aligned_bank, cue_bank, read_cues
from spurious_imagenet.builders.cues.gaps import cue_gaps, with_gaps
from spurious_imagenet.builders.cues.suggest import mass_on_object, suggest
from spurious_imagenet.builders.visualise.masks import MASK_SCHEMA
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError, DataError, ModelError, StoreError, UndefinedMetricError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig
from spurious_imagenet.models import LabelSpace, load_classifier
from spurious_imagenet.models.open_clip_models import create_open_clip, save_open_clip, text_embeddings

CLASS_IDS = ("a", "b")
LABELS = LabelSpace("custom", CLASS_IDS, ("apple", "bee"))


def _store(
    path: Path,
    features: np.ndarray,
    weights: str = "ab",
    labels: np.ndarray | None = None,
    correct: np.ndarray | None = None,
) -> FeatureStore:
    """Make a store of two parts whose images have hashes of their numbers."""
    config = StoreConfig(
        model=f"file:{weights}",
        weights_sha256=weights * 32,
        label_space="custom",
        class_ids=CLASS_IDS,
        feature_dim=features.shape[1],
        preprocess={"size": 8},
    )
    store = FeatureStore.create(path, config)
    label = np.zeros(len(features), int) if labels is None else labels
    right = np.ones(len(features), bool) if correct is None else correct
    for number, rows in enumerate(np.array_split(np.arange(len(features)), 2)):
        table = [
            {
                "key": f"k{i}",
                "sha256": hashlib.sha256(str(i).encode()).digest(),
                "class_id": CLASS_IDS[label[i]],
                "label": int(label[i]),
                "top5_index": [int(label[i] if right[i] else 1 - label[i]), -1, -1, -1, -1],
                "top5_probability": [0.9, 0, 0, 0, 0],
            }
            for i in rows
        ]
        store.write_part(
            shard=f"{number}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=features[rows].astype(np.float16),
            rows=pa.Table.from_pylist(table, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
    return store


def _held_out(count: int) -> np.ndarray:
    return np.array([hashlib.sha256(str(i).encode()).digest()[-1] < 26 for i in range(count)])


def test_an_alignment_is_the_ridge_regression_of_what_is_not_held_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(600, 5)).astype(np.float16).astype(np.float64)
    target = (
        (source @ rng.normal(size=(5, 3)) + 2 + 0.1 * rng.normal(size=(600, 3))).astype(np.float16).astype(np.float64)
    )
    found = fit_alignment(_store(tmp_path / "s", source), _store(tmp_path / "t", target, "cd"))
    out = _held_out(600)
    assert (found.images, found.held_out) == (int((~out).sum()), int(out.sum()))
    penalty = (~out).sum() * found.ridge * source[~out].var(0).mean()
    weight, bias = ridge(source[~out], target[~out], penalty)
    np.testing.assert_allclose(found.weight, weight, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.bias, bias, rtol=1e-6, atol=1e-9)
    residual = target[out] - source[out] @ weight.T - bias
    assert found.r2 == pytest.approx(1 - residual.var(0).sum() / target[out].var(0).sum(), abs=2e-3)
    assert found.r2 > 0.95


def test_an_alignment_does_not_depend_on_the_order_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(400, 4)), rng.normal(size=(400, 3))
    first = _store(tmp_path / "s", source)
    there = fit_alignment(first, _store(tmp_path / "t", target, "cd"))
    # The other store holds some images that the first one lacks.
    wider = _store(tmp_path / "u", np.concatenate([target, rng.normal(size=(50, 3))]), "cd")
    again = fit_alignment(first, wider)
    np.testing.assert_allclose(again.weight, there.weight, rtol=1e-6, atol=1e-9)


def test_an_aligned_cue_orders_images_as_the_text_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    target = rng.normal(size=(500, 3))
    source = target @ np.linalg.qr(rng.normal(size=(6, 3)))[0].T  # the same, seen by another model
    ours, theirs = _store(tmp_path / "s", source), _store(tmp_path / "t", target, "cd")
    text = np.array([[0.6, 0.8, 0.0]], np.float32)
    bank = cue_bank([Cue("a", "grass")], text, LABELS, theirs.config, "{}")
    carried = aligned_bank(bank, fit_alignment(ours, theirs), ours.config)
    assert carried.info.weights_sha256 == ours.config.weights_sha256
    assert carried.table["name"].tolist() == ["grass"]
    scores = carried.score(source.astype(np.float32))[:, 0]
    assert np.corrcoef(scores, target @ text[0])[0, 1] > 0.999


def test_too_few_shared_images_are_refused(tmp_path: Path) -> None:
    ones = np.ones((30, 2))
    with pytest.raises(DataError, match="share 30 images"):
        fit_alignment(_store(tmp_path / "s", ones), _store(tmp_path / "t", ones, "cd"))


def test_gaps_tell_the_cue_that_a_model_leans_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(200, 2))
    labels = np.repeat([0, 1], 100)
    correct = (labels == 1) | (features[:, 0] > np.quantile(features[:100, 0], 0.3))  # class a leans on feature 0
    store = _store(tmp_path / "s", features, labels=labels, correct=correct)
    bank = cue_bank(
        [Cue("a", "x"), Cue("a", "y"), Cue("b", "x")],
        np.eye(2, dtype=np.float32)[[0, 1, 0]],
        LABELS,
        store.config,
        "{}",
    )
    gaps = cue_gaps(bank, [store], {"m": predictions_of_store(store)}, k=20)
    assert [g.has_gap for g in gaps] == [True, False, False]
    assert gaps[0].gap == 1.0
    assert gaps[0].models == {"m": 1.0}
    written = with_gaps(bank.select([2, 0]), gaps).table
    assert written["has_gap"].tolist() == [False, True]
    assert written["gap"].tolist() == [0.0, 1.0]
    with pytest.raises(UndefinedMetricError, match="the most is 100"):
        cue_gaps(bank, [store], {"m": predictions_of_store(store)}, k=60)


def test_gaps_refuse_features_of_another_model(tmp_path: Path) -> None:
    store = _store(tmp_path / "s", np.ones((10, 2)))
    bank = bank_for(store, np.eye(2))
    other = _store(tmp_path / "t", np.ones((10, 2)), "cd")
    with pytest.raises(StoreError, match="weights"):
        cue_gaps(bank, [other], {"m": predictions_of_store(other)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class_id\na\n", "expected class_id and text"),
        ("class_id,text\na,\n", "row 2 has an empty field"),
        ("", "expected class_id and text"),
    ],
)
def test_a_bad_cues_file_is_one_sentence(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "cues.csv").write_text(text)
    with pytest.raises(DataError, match=expected):
        read_cues(tmp_path / "cues.csv")


def test_cues_are_numbered_within_their_class(tmp_path: Path) -> None:
    (tmp_path / "cues.csv").write_text('# what I suspect\nclass_id,text\na,bird feeder\nb,"red, flower"\na,hand\n')
    cues = read_cues(tmp_path / "cues.csv")
    store = _store(tmp_path / "s", np.ones((4, 2)))
    bank = cue_bank(cues, np.ones((3, 2), np.float32), LABELS, store.config, "{}")
    assert bank.table["concept_id"].tolist() == ["text/a/0", "text/b/0", "text/a/1"]
    with pytest.raises(ConfigError, match="given twice"):
        cue_bank([*cues, cues[0]], np.ones((4, 2), np.float32), LABELS, store.config, "{}")
    with pytest.raises(ModelError):
        cue_bank([Cue("zebra", "grass")], np.ones((1, 2), np.float32), LABELS, store.config, "{}")


def test_mass_on_an_object_against_counting() -> None:
    rng = np.random.default_rng(4)
    map_, mask = rng.integers(0, 256, (8, 8), dtype=np.uint8), rng.random((8, 8)) < 0.4
    inside = sum(int(map_[i, j]) for i in range(8) for j in range(8) if mask[i, j])
    share, contrast = mass_on_object(map_, mask)
    total = int(map_.astype(int).sum())
    assert share == pytest.approx(inside / total)
    assert contrast == pytest.approx((inside / mask.sum()) / ((total - inside) / (64 - mask.sum())))
    assert mass_on_object(np.full((8, 8), 7, np.uint8), mask)[1] == pytest.approx(1)
    with pytest.raises(DataError):
        mass_on_object(np.zeros((8, 8), np.uint8), mask)


def _masks(root: Path, keys: list[str]) -> Path:
    """Write maps as ``spurious masks`` does: concept 0 lights the left half, concept 1 the right."""
    preprocess = {"size": 16, "resize": 16, "mean": [0, 0, 0], "std": [1, 1, 1]}
    (root / "00000").mkdir(parents=True)
    (root / "config.json").write_text(json.dumps({"preprocess": preprocess, "weights_sha256": "ab" * 32}))
    rows = []
    for concept in (0, 1):
        (root / "00000" / f"neuron-{concept}").mkdir()
        for rank, key in enumerate(keys):
            lit = np.zeros((16, 16), np.uint8)
            lit[:, 8 * concept : 8 * concept + 8] = 200
            name = f"neuron-{concept}/{rank:05d}.png"
            Image.fromarray(lit).save(root / "00000" / name)
            rows.append(
                dict.fromkeys(MASK_SCHEMA.names, 0)
                | {"file_name": name, "concept_id": f"neuron/a/{concept}", "kind": "neuron", "class_id": "a"}
                | {"component": concept, "part": "p", "key": key, "shard": "s", "sha256": f"{rank:064x}"}
                | {"width": 32, "height": 32}
            )
    pq.write_table(pa.Table.from_pylist(rows, schema=MASK_SCHEMA), root / "00000" / "metadata.parquet")
    return root


def _object_mask(path: Path) -> None:
    marked = np.zeros((32, 32), np.uint8)
    marked[:, :16] = 1  # the object is on the left
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(marked).save(path)


def test_a_concept_on_the_object_is_suggested_core_and_one_off_it_spurious(tmp_path: Path) -> None:
    masks = _masks(tmp_path / "masks", ["x/1", "x/2"])
    _object_mask(tmp_path / "objects" / "x" / "1.png")  # by key
    _object_mask(tmp_path / "objects" / f"{1:064x}.png")  # by hash
    verdicts, found = suggest(masks, tmp_path / "objects")
    assert [(s.verdict, s.images) for s in found] == [("core", 2), ("spurious", 2)]
    assert found[0].share == 1
    assert found[1].contrast == 0
    assert [v.verdict for v in verdicts] == ["core", "spurious"]
    with pytest.raises(DataError, match="object mask of no image"):
        suggest(masks, tmp_path / "objects", object_value=9)
    with pytest.raises(ConfigError, match="not in order"):
        suggest(masks, tmp_path / "objects", spurious_below=2, core_above=1)


def test_a_mask_whose_key_two_images_have_is_refused_and_a_hash_tells_them_apart(tmp_path: Path) -> None:
    masks, objects = _masks(tmp_path / "masks", ["0001", "0001", "0002"]), tmp_path / "objects"
    _object_mask(objects / "0001.png")
    with pytest.raises(DataError, match=r"0001\.png may be of image 0{64} in s or of 0{63}1 in s"):
        suggest(masks, objects)
    (objects / "0001.png").rename(objects / f"{1:064x}.png")
    _object_mask(objects / "0002.png")
    seen: list[tuple[int, int]] = []
    _, found = suggest(masks, objects, on_coverage=lambda *counts: seen.append(counts))
    assert [s.images for s in found] == [2, 2]
    assert seen == [(2, 3)]


def test_a_key_from_a_tar_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    masks = _masks(tmp_path / "masks", ["../secret"])
    _object_mask(tmp_path / "secret.png")
    (tmp_path / "objects").mkdir()
    with pytest.raises(DataError, match="object mask of no image"):
        suggest(masks, tmp_path / "objects")


@pytest.fixture(scope="module")
def vision_language(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small OpenCLIP model with random weights in a folder; its spec."""
    pytest.importorskip("open_clip")
    root = tmp_path_factory.mktemp("clip")
    vision = {
        "timm_model_name": "test_resnet",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "linear",
    }
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = {"embed_dim": 8, "vision_cfg": {**vision, "image_size": 32}, "text_cfg": text}
    norm = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (root / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": norm}))
    (root / "labels.txt").write_text("".join(f"{c}\t{c}\n" for c in CLASSES))
    save_open_clip(create_open_clip(f"local-dir:{root}", load_weights=False)[0].eval(), root)
    return f"open_clip:local-dir:{root}?labels={root}/labels.txt&templates=simple"


def test_texts_are_unit_vectors_where_the_images_are(vision_language: str) -> None:
    classifier = load_classifier(vision_language)
    embedded = text_embeddings(classifier, ["grass", "a bird feeder"])
    assert embedded.shape == (2, classifier.feature_dim)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, rtol=1e-5)
    assert not np.allclose(embedded[0], embedded[1])
    with pytest.raises(ConfigError, match="no place"):
        text_embeddings(classifier, ["grass"], "a photo")


def test_the_commands_make_cues_that_rank_and_say_which_have_no_gap(vision_language: str, tmp_path: Path) -> None:
    labelled_shard(tmp_path / "val.tar", range(48))
    run_spurious(
        "features",
        "--model",
        vision_language,
        "--shards",
        tmp_path / "val.tar",
        "--out",
        tmp_path / "f",
        "--backend",
        "eager",
    )
    done = run_spurious(
        *("cues", "--model", vision_language, "--text", "grass", "--text", "sky", "--class", CLASSES[0]),
        *("--features", tmp_path / "f", "--k", "3", "--out", tmp_path / "bank"),
    )
    assert "2 cues of 1 classes" in done.out
    assert "without one" in done.out
    bank = ConceptBank.load(tmp_path / "bank")
    assert set(bank.table["kind"]) == {"text"}
    assert pd.api.types.is_bool_dtype(bank.table["has_gap"].dropna().astype(bool))
    run_spurious(
        "rank",
        "--bank",
        tmp_path / "bank",
        "--features",
        f"val={tmp_path / 'f'}",
        "--k",
        "2",
        "--out",
        tmp_path / "ranks",
    )
    assert (tmp_path / "ranks" / "rankings.json").is_file()


def test_a_model_without_texts_is_refused(tmp_path: Path) -> None:
    from helpers import weights_file

    classifier = load_classifier(weights_file(tmp_path / "w.safetensors"))
    with pytest.raises(ModelError, match="embeds no text"):
        text_embeddings(classifier, ["grass"])


def test_a_number_sign_within_a_text_is_no_remark(tmp_path: Path) -> None:
    (tmp_path / "cues.csv").write_text("# remark\nclass_id,text\na,sign #1 on a door\n")
    assert read_cues(tmp_path / "cues.csv") == [Cue("a", "sign #1 on a door")]


def test_a_class_with_few_images_takes_no_gap_from_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    store = _store(tmp_path / "s", rng.normal(size=(105, 2)), labels=np.repeat([0, 1], [100, 5]))
    directions = np.eye(2, dtype=np.float32)[[0, 0, 1]]
    bank = cue_bank([Cue("a", "x"), Cue("b", "x"), Cue("b", "y")], directions, LABELS, store.config, "{}")
    gaps = cue_gaps(bank, [store], {"m": predictions_of_store(store)}, k=10)
    assert [g.concept_id for g in gaps] == ["text/a/0"]


def test_an_alpha_channel_is_no_part_of_an_object_mask(tmp_path: Path) -> None:
    masks = _masks(tmp_path / "masks", ["x"])
    marked = np.zeros((32, 32, 4), np.uint8)
    marked[..., 3] = 255
    marked[:, :16, 0] = 9
    (tmp_path / "objects").mkdir()
    Image.fromarray(marked).save(tmp_path / "objects" / "x.png")
    assert [s.verdict for s in suggest(masks, tmp_path / "objects")[1]] == ["core", "spurious"]
    (tmp_path / "objects" / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be read"):
        suggest(masks, tmp_path / "objects")
