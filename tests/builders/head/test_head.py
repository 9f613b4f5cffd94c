from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import CLASSES, labelled_shard, run_spurious, spread_weights_file, tree, weights_file
from reference.logistic import objective
from sklearn.linear_model import LogisticRegression

from spurious_imagenet.builders.head import fit as head_module
from spurious_imagenet.builders.head.accuracy import head_accuracy
from spurious_imagenet.builders.head.fit import HeadConfig, HeadFit, _Labelled, _split, fit_head
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig
from spurious_imagenet.models import load_classifier

DIM = 6
CENTRES = np.random.default_rng(0).standard_normal((3, DIM))


def blobs(path: Path, counts: tuple[int, ...], seed: int, unlabelled: int = 0) -> FeatureStore:
    """Three overlapping classes on features of very different scales, one of which never changes."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(3), counts)
    features = CENTRES[label] + 1.5 * rng.standard_normal((len(label), DIM))
    features *= np.array([1, 20, 0.05, 3, 1, 0])
    features[:, 5] = 4
    names = [*(f"class-{k}" for k in label), *[None] * unlabelled]
    features = np.vstack([features, rng.standard_normal((unlabelled, DIM))]).astype(np.float16)
    config = StoreConfig(
        model="file:none",
        weights_sha256="ab" * 32,
        label_space="other",
        class_ids=("unrelated",),
        feature_dim=DIM,
        preprocess={},
    )
    store = FeatureStore.create(path, config)
    order = rng.permutation(len(names))
    for i, rows in enumerate(np.array_split(order, 4)):
        table = pa.Table.from_pylist([{"key": str(r), "class_id": names[r], "label": -1} for r in rows], ROW_SCHEMA)
        store.write_part(
            shard=f"{i}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=features[rows],
            rows=table,
            rejects=(),
            versions={},
        )
    return store


def read(store: FeatureStore) -> tuple[np.ndarray, np.ndarray]:
    names = np.concatenate([p.rows(["class_id"]).column("class_id").fill_null("").to_numpy() for p in store.parts])
    features = np.concatenate([p.features() for p in store.parts]).astype(float)
    label = np.array([int(n[-1]) if n else -1 for n in names])
    return features[label >= 0], label[label >= 0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return blobs(tmp_path_factory.mktemp("head") / "train", (60, 40, 20), seed=1, unlabelled=5)


@pytest.fixture(scope="module")
def fit(store: FeatureStore) -> HeadFit:
    return fit_head(store, HeadConfig())


def test_the_classes_are_those_of_the_rows_whatever_the_encoders_are(fit: HeadFit) -> None:
    assert fit.class_ids == ("class-0", "class-1", "class-2")
    assert (fit.images, fit.unlabelled) == (120, 5)
    assert not fit.head.weight[:, 5].any()  # a feature that never changes says nothing


def test_the_head_is_the_minimum_of_its_objective(store: FeatureStore, fit: HeadFit) -> None:
    features, label = read(store)
    assert fit.penalty is not None
    own = objective(features, label.tolist(), fit.head.weight, fit.head.bias, fit.penalty)
    varying = features[:, :5]
    scaled = (varying - varying.mean(axis=0)) / varying.std(axis=0)
    other = LogisticRegression(C=1 / (fit.penalty * len(label)), tol=1e-9, max_iter=5000).fit(scaled, label)
    weight = np.hstack([other.coef_ / varying.std(axis=0), np.zeros((3, 1))])
    bias = other.intercept_ - weight[:, :5] @ varying.mean(axis=0)
    best = objective(features, label.tolist(), weight, bias, fit.penalty)
    assert own == pytest.approx(best, rel=2e-3)


def test_blocks_and_what_is_kept_in_memory_do_not_change_the_head(
    store: FeatureStore, fit: HeadFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_module, "_BLOCK_BYTES", 17 * 2 * DIM)
    monkeypatch.setattr(head_module, "_KEPT_BYTES", 0)
    streamed = fit_head(store, HeadConfig())
    assert streamed.penalty == fit.penalty
    features, _ = read(store)
    logits = fit.head.logits(features)
    np.testing.assert_allclose(streamed.head.logits(features), logits, atol=0.02 * float(np.ptp(logits)))


def test_unseen_images_are_classified_and_held_out_ones_foretell_how_well(
    fit: HeadFit, store: FeatureStore, tmp_path: Path
) -> None:
    unseen = blobs(tmp_path / "val", (300, 300, 300), seed=2)
    features, label = read(unseen)
    accuracy = head_accuracy(fit.head, fit.class_ids, unseen).accuracy
    assert accuracy == (fit.head.logits(features).argmax(axis=1) == label).mean()
    assert accuracy > 0.6
    assert fit.holdout_accuracy is not None
    assert abs(fit.holdout_accuracy - accuracy) < 0.35  # of 12 images
    paper = fit_head(store, HeadConfig(recipe="paper"))
    assert (paper.penalty, paper.holdout_accuracy) == (None, None)
    again = fit_head(store, HeadConfig(recipe="paper"))
    np.testing.assert_array_equal(again.head.weight, paper.head.weight)
    assert 0.4 < head_accuracy(paper.head, paper.class_ids, unseen).accuracy <= accuracy + 0.05


def test_what_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images of 1 classes"):
        fit_head(blobs(tmp_path / "one", (5, 0, 0), seed=0), HeadConfig())
    with pytest.raises(DataError, match="every class has a single image"):
        fit_head(blobs(tmp_path / "single", (1, 1, 1), seed=0), HeadConfig())
    three = blobs(tmp_path / "three", (4, 4, 4), seed=0)
    with pytest.raises(DataError, match="no image of the head's 1 classes"):
        head_accuracy(fit_head(three, HeadConfig()).head, ("class-9",), three)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path | str]:
    """An encoder of other classes, its features of a labelled shard, and a head on them."""
    root = tmp_path_factory.mktemp("run")
    encoder = spread_weights_file(root / "encoder.safetensors", classes=("x", "y", "z"))
    labelled_shard(root / "train.tar", range(48))
    made = ("features", "--backend", "eager", "--shards", root / "train.tar")
    assert run_spurious(*made, "--model", encoder, "--out", root / "features").code == 0
    ran = run_spurious(
        *("head", "--model", encoder, "--features", root / "features", "--out", root / "head.safetensors"),
        *("--test", root / "features"),
    )
    assert ran.code == 0, ran.err
    assert "4 classes, fitted to 48 images (0 without a label)" in ran.out
    return {"root": root, "encoder": encoder, "head": f"head:{root / 'head.safetensors'}"}


def test_stored_features_read_through_a_head_are_those_of_another_pass(run: dict[str, Path]) -> None:
    root = run["root"]
    again = ("features", "--model", run["head"], "--backend", "eager")
    reused = run_spurious(*again, "--reuse", root / "features", "--out", root / "reused")
    passed = run_spurious(*again, "--shards", root / "train.tar", "--out", root / "passed")
    assert (reused.code, passed.code) == (0, 0), reused.err + passed.err
    a, b = FeatureStore.open(root / "reused"), FeatureStore.open(root / "passed")
    assert a.config == b.config
    assert a.config.class_ids == CLASSES
    np.testing.assert_array_equal(a.parts[0].features(), b.parts[0].features())
    one, two = a.parts[0].rows().to_pydict(), b.parts[0].rows().to_pydict()
    likely = [np.array(rows.pop("top5_probability")) for rows in (one, two)]
    np.testing.assert_allclose(*likely, atol=5e-3)
    first = [[top[0] for top in rows.pop("top5_index")] for rows in (one, two)]
    assert first[0] == first[1]
    assert one == two
    # Each store can be gone on with by the other way.
    before = tree(root / "reused")
    assert run_spurious(*again, "--shards", root / "train.tar", "--out", root / "reused").code == 0
    assert tree(root / "reused") == before
    ran = run_spurious(
        "components", "--model", run["head"], "--features", root / "reused", "--out", root / "bank", "--top", 3
    )
    assert ran.code == 0, ran.err
    assert "16 concepts of 4 classes" in ran.out


def test_features_of_another_model_are_not_reused(run: dict[str, Path], tmp_path: Path) -> None:
    stranger = weights_file(tmp_path / "other.safetensors", seed=3, classes=("x", "y", "z"))
    refused = run_spurious(
        "features", "--model", stranger, "--reuse", run["root"] / "features", "--out", tmp_path / "out"
    )
    assert "expected a head on that model" in refused.the_error()
    other_size = run_spurious(
        *("features", "--model", run["head"], "--image-size", 96, "--reuse", run["root"] / "features"),
        *("--out", tmp_path / "out"),
    )
    assert "other preprocessing" in other_size.the_error()
    assert (
        "no shards to run over"
        in run_spurious("features", "--model", run["head"], "--out", tmp_path / "out").the_error()
    )


def test_a_head_knows_its_encoder(run: dict[str, Path], tmp_path: Path) -> None:
    classifier = load_classifier(str(run["head"]))
    encoder = load_classifier(str(run["encoder"]))
    assert classifier.encoder_weights_sha256 == encoder.weights_sha256 != classifier.weights_sha256
    assert classifier.labels.class_ids == CLASSES
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    features, logits = classifier.predict(pixels)
    np.testing.assert_array_equal(features, encoder.predict(pixels)[0])
    np.testing.assert_allclose(classifier.linear_head().logits(features), logits, rtol=1e-4, atol=1e-4)
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes((run["root"] / "encoder.safetensors").read_bytes())
    assert load_classifier(f"{run['head']}?encoder=file:{moved}").weights_sha256 == classifier.weights_sha256
    other = weights_file(tmp_path / "other.safetensors", seed=3, classes=("x", "y", "z"))
    asked = run_spurious(
        *("features", "--model", f"{run['head']}?encoder={other}", "--shards", run["root"] / "train.tar"),
        *("--out", tmp_path / "out"),
    )
    assert "was fitted to features of" in asked.the_error()


def test_a_file_that_is_no_head_is_refused(run: dict[str, Path], tmp_path: Path) -> None:
    for name, content, message in (
        ("encoder.safetensors", (run["root"] / "encoder.safetensors").read_bytes(), "holds no linear head"),
        ("text.safetensors", json.dumps({"weight": 1}).encode(), "not a readable head file"),
    ):
        (tmp_path / name).write_bytes(content)
        ran = run_spurious(
            *("features", "--model", f"head:{tmp_path / name}", "--shards", run["root"] / "train.tar"),
            *("--out", tmp_path / "o"),
        )
        assert message in ran.the_error()


def test_a_bare_encoder_makes_features_for_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    created = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **kwargs: created(name, **kwargs | {"num_classes": 0}))
    labelled_shard(tmp_path / "train.tar", range(24))
    bare = "timm:test_resnet?pretrained=false&image_size=64"
    out = tmp_path / "features"
    ran = run_spurious("features", "--model", bare, "--shards", tmp_path / "train.tar", "--out", out)
    assert ran.code == 0, ran.err
    rows = FeatureStore.open(out).parts[0].rows()
    assert set(rows.column("label").to_pylist()) == {-1}
    assert rows.column("top5_index").to_pylist()[0] == [-1] * 5
    assert run_spurious("head", "--model", bare, "--features", out, "--out", tmp_path / "h.safetensors").code == 0
    assert len(load_classifier(f"head:{tmp_path / 'h.safetensors'}").labels) == 4


def test_images_of_the_same_bytes_count_once_and_on_one_side(tmp_path: Path) -> None:
    """Every image is there two or three times, and some as an image of another class too."""
    rng = np.random.default_rng(4)
    digests, label = [hashlib.sha256(bytes([i])).digest() for i in range(60)], np.arange(60) % 3
    features = (CENTRES[label] + 1.5 * rng.standard_normal((60, DIM))).astype(np.float16)

    def stored(name: str, images: np.ndarray, labels: np.ndarray) -> FeatureStore:
        config = StoreConfig(
            model="file:none",
            weights_sha256="ab" * 32,
            label_space="other",
            class_ids=("unrelated",),
            feature_dim=DIM,
            preprocess={},
        )
        store = FeatureStore.create(tmp_path / name, config)
        rows = [{"class_id": f"class-{k}", "sha256": digests[i]} for i, k in zip(images, labels, strict=True)]
        store.write_part(
            shard="x.tar",
            shard_sha256="ab" * 32,
            shard_bytes=1,
            features=features[images],
            rows=pa.Table.from_pylist(rows, ROW_SCHEMA),
            rejects=(),
            versions={},
        )
        return store

    once = np.arange(60)
    twice = np.concatenate([once, once[::-1], once[:10]])
    alone = fit_head(stored("once", once, label), HeadConfig())
    doubled = fit_head(stored("twice", twice, label[twice]), HeadConfig())
    assert (alone.images, alone.repeated, doubled.images, doubled.repeated) == (60, 0, 60, 70)
    assert np.array_equal(alone.head.weight, doubled.head.weight)
    assert alone.holdout_accuracy == doubled.holdout_accuracy
    predicted = alone.head.logits(features).argmax(axis=1)
    right = int(np.flatnonzero(predicted == label)[0])
    test = stored("test", np.array([right] * 3 + [59]), np.array([label[right]] * 3 + [(predicted[59] + 1) % 3]))
    assert head_accuracy(alone.head, alone.class_ids, test).accuracy == 0.5

    both = np.concatenate([once, once[:40]])
    mixed = stored("mixed", both, np.concatenate([label, (label[:40] + 1) % 3]))
    train, held = _split(_Labelled(mixed), HeadConfig(holdout=0.4))
    assert len(held)
    assert not set(both[train]) & set(both[held])
