from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from helpers import CLASSES, jpeg, labelled_shard, run_spurious, spread_weights_file, tree, weights_file, write_tar
from PIL import Image
from safetensors.torch import load_file
from torchvision import transforms

from spurious_imagenet.builders.features import ExtractionProgress, FeaturesConfig, extract_features
from spurious_imagenet.builders.features.extract import store_config
from spurious_imagenet.errors import ConfigError, DataError, StoreError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.images import DecodeLimits
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.file_models import read_state_dict
from spurious_imagenet.models.timm_models import create_timm_model
from spurious_imagenet.models.weights_file import read_weights_info, save_weights

SIZES = ((64, 64), (100, 80), (75, 140), (300, 64))


@pytest.fixture(autouse=True)
def _same_torch_threads() -> Iterator[None]:
    """Converted backends leave torch one thread; eager's last bits depend on how many it has."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Pool(NamedTuple):
    spec: str
    shards: list[str]
    images: dict[str, bytes]
    store: FeatureStore


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Three shards of 13 images (an odd number of batches of 4), of several sizes, and their store."""
    root = tmp_path_factory.mktemp("pool")
    spec = spread_weights_file(root / "model.safetensors")
    images, shards = {}, []
    for s in range(3):
        members = []
        for i in range(13):
            seed = 100 * s + i
            images[f"{s}-{i:02d}"] = jpeg(seed, SIZES[i % len(SIZES)])
            members.append((f"{s}-{i:02d}.jpg", images[f"{s}-{i:02d}"]))
        shards.append(str(write_tar(root / f"pool-{s}.tar", members)))
    return Pool(spec, shards, images, run(spec, shards, root / "store"))


def run(spec: str, shards: Sequence[str], out: Path, **options: object) -> FeatureStore:
    options = {"backend": "eager", "batch_size": 4, "workers": 2} | options
    return extract_features(FeaturesConfig(model=spec, shards=tuple(shards), **options), out).store


def columns(store: FeatureStore) -> dict[str, list]:
    found: dict[str, list] = {}
    for part in store.parts:
        for name, values in part.rows().to_pydict().items():
            found.setdefault(name, []).extend(values)
    return found


def features(store: FeatureStore) -> np.ndarray:
    return np.concatenate([part.features() for part in store.parts])


def plain_loop(spec: str, images: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """What anyone would write: Pillow, torchvision's transform, one image at a time through timm's model."""
    path = Path(spec.removeprefix("file:"))
    info = read_weights_info(path)
    model = create_timm_model(info.arch, info.image_size, pretrained=False, num_classes=len(info.class_ids)).eval()
    model.load_state_dict(load_file(path))
    config = model.pretrained_cfg
    transform = transforms.Compose(
        [
            transforms.Resize(info.image_size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(info.image_size),
            transforms.ToTensor(),
            transforms.Normalize(config["mean"], config["std"]),
        ]
    )
    found, probabilities = [], []
    with torch.no_grad():
        for data in images:
            image = transform(Image.open(io.BytesIO(data)).convert("RGB"))[None]
            found.append(model.forward_head(model.forward_features(image), pre_logits=True)[0].numpy())
            probabilities.append(model(image).softmax(dim=1)[0].numpy())
    return np.stack(found), np.stack(probabilities)


def test_features_and_top5_are_those_of_a_plain_torch_loop(pool: Pool) -> None:
    rows = columns(pool.store)
    expected, probabilities = plain_loop(pool.spec, [pool.images[key] for key in rows["key"]])
    got = features(pool.store).astype(np.float32)
    error = np.abs(got - expected).max(axis=1) / np.abs(expected).max(axis=1)
    unresized = np.array([(w, h) == (64, 64) for w, h in zip(rows["width"], rows["height"], strict=True)])
    assert error[unresized].max() < 1e-3, "float16 has 11 bits: half a unit in the last place is 5e-4"
    assert error.max() < 5e-3, "a resize may differ by a grey level in few pixels"
    top = np.array(rows["top5_index"])[:, : len(CLASSES)]
    given = np.array(rows["top5_probability"])[:, : len(CLASSES)]
    assert (np.diff(given, axis=1) <= 0).all()
    np.testing.assert_allclose(np.take_along_axis(probabilities, top, axis=1), given, atol=0.03)
    assert len(set(top[:, 0].tolist())) == len(CLASSES)  # or the comparison says little
    assert [row[len(CLASSES) :] for row in rows["top5_index"]] == [[-1]] * len(top)


@pytest.mark.parametrize("threads", [1, 2])
def test_workers_do_not_change_a_byte(pool: Pool, tmp_path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    made = []
    for workers in (1, 2, 4):
        run(pool.spec, pool.shards, tmp_path / str(workers), workers=workers)
        made.append(tree(tmp_path / str(workers)))
    assert made[0] == made[1] == made[2]
    assert threads > 1 or made[0] == tree(pool.store.path)


def test_openvino_gives_the_same_bytes_whatever_the_workers(pool: Pool, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    for workers in (1, 4):
        run(pool.spec, pool.shards[:2], tmp_path / str(workers), backend="openvino", workers=workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "4")
    eager = np.concatenate([pool.store.part(url).features() for url in pool.shards[:2]])
    made = FeatureStore.open(tmp_path / "1")
    np.testing.assert_allclose(
        np.concatenate([made.part(url).features() for url in pool.shards[:2]]), eager, rtol=2e-3, atol=1e-3
    )


class Backwards:
    """An engine that takes the units in another order."""

    def map(self, work: Callable[[str], object], units: Sequence[str]) -> Iterator[object]:
        return (work(unit) for unit in reversed(units))


def test_order_of_shards_and_engine_do_not_change_a_byte(pool: Pool, tmp_path: Path) -> None:
    run(pool.spec, pool.shards[::-1], tmp_path / "reversed")
    config = FeaturesConfig(model=pool.spec, shards=tuple(pool.shards), backend="eager", batch_size=4, workers=2)
    extract_features(config, tmp_path / "backwards", engine=Backwards())
    assert tree(tmp_path / "reversed") == tree(tmp_path / "backwards") == tree(pool.store.path)


def test_shards_may_be_added_one_by_one(pool: Pool, tmp_path: Path) -> None:
    for count in (1, 2, 3):
        run(pool.spec, pool.shards[:count], tmp_path / "store")
    assert tree(tmp_path / "store") == tree(pool.store.path)


def test_rows_locate_the_bytes_of_their_images(pool: Pool) -> None:
    seen = 0
    for part in pool.store.parts:
        shard = Path(part.receipt.shard).read_bytes()
        assert part.receipt.shard_sha256 == hashlib.sha256(shard).hexdigest()
        assert part.receipt.shard_bytes == len(shard)
        for row in part.rows().to_pylist():
            data = shard[row["offset"] : row["offset"] + row["size"]]
            assert data == pool.images[row["key"]]
            assert hashlib.sha256(data).digest() == row["sha256"]
            assert Image.open(io.BytesIO(data)).size == (row["width"], row["height"])
            assert (row["meta_size"], row["class_id"], row["label"]) == (0, None, -1)  # an unlabelled pool
            seen += 1
        assert part.receipt.samples == part.receipt.scored == len(part) == 13
        part.check()
    assert seen == len(pool.images) == len(pool.store)


def test_labels_come_from_json_or_cls_and_unknown_ones_are_kept_by_name(tmp_path: Path) -> None:
    notes = {
        "a": [("json", b'{"class_id": "cup"}')],
        "b": [("json", b'{"wnid": "dog", "class_id": "cup"}')],
        "c": [("cls", b"1\n")],
        "d": [("json", b'{"class_id": "unicorn"}'), ("cls", b"1")],  # the name says more than the number
        "e": [("cls", b"4")],  # the model has 4 classes
        "f": [("json", b"not json"), ("cls", b"3")],
        "g": [],
    }
    members = []
    for n, (key, files) in enumerate(notes.items()):
        members += [(f"{key}.jpg", jpeg(n)), *((f"{key}.{kind}", data) for kind, data in files)]
    shard = write_tar(tmp_path / "labelled.tar", members)
    store = run(weights_file(tmp_path / "m.safetensors"), [str(shard)], tmp_path / "store", max_label_problems=0.2)
    (problem,) = store.parts[0].receipt.label_problems
    assert (problem.key, problem.reason) == ("e", ".cls is outside of the model's classes: 4, expected 0 to 3")
    rows = columns(store)
    assert dict(zip(rows["key"], zip(rows["class_id"], rows["label"], strict=True), strict=True)) == {
        "a": ("cup", 2),
        "b": ("dog", 3),
        "c": ("bird", 1),
        "d": ("unicorn", -1),
        "e": (None, -1),
        "f": ("dog", 3),
        "g": (None, -1),
    }
    data = shard.read_bytes()
    offset, size = rows["meta_offset"][0], rows["meta_size"][0]
    assert json.loads(data[offset : offset + size]) == {"class_id": "cup"}


def test_the_same_model_from_another_path_resumes(pool: Pool, tmp_path: Path) -> None:
    shutil.copy(pool.spec.removeprefix("file:"), tmp_path / "elsewhere.safetensors")
    spec = f"file:{tmp_path}/elsewhere.safetensors"
    config = FeaturesConfig(model=spec, shards=tuple(pool.shards), backend="eager")
    assert store_config(load_classifier(spec), config).sha256 == pool.store.config.sha256
    result = extract_features(config, pool.store.path)
    assert (result.made, result.found, result.failures) == (0, 3, [])


def test_the_config_hash_tells_apart_what_changes_features(pool: Pool) -> None:
    config = FeaturesConfig(model=pool.spec, shards=("x.tar",))
    classifier = load_classifier(pool.spec)
    described = store_config(classifier, config)
    smaller = load_classifier(pool.spec, image_size=32)
    others = [
        store_config(smaller, config),
        store_config(classifier, config.model_copy(update={"precision": "bfloat16"})),
        store_config(classifier, config.model_copy(update={"limits": DecodeLimits(min_side=1)})),
        described.model_copy(update={"weights_sha256": "0" * 64}),
    ]
    assert len({described.sha256, *(other.sha256 for other in others)}) == 5
    assert described.model_copy(update={"model": "file:elsewhere"}).sha256 == described.sha256


def test_features_beyond_float16_are_rejected_by_name(pool: Pool, tmp_path: Path) -> None:
    source = Path(pool.spec.removeprefix("file:"))
    state = read_state_dict(source)
    info = read_weights_info(source)
    scales = [name for name in state if name.endswith(("bn2.weight", "bn2.bias", "downsample.1.weight"))]
    model = create_timm_model(info.arch, info.image_size, pretrained=False, num_classes=len(CLASSES))
    model.load_state_dict(state | {name: state[name] * 3e6 for name in scales})
    save_weights(tmp_path / "loud.safetensors", model, info)
    spec = f"file:{tmp_path}/loud.safetensors"
    with pytest.raises(DataError, match="13 of 13 samples were rejected"):
        run(spec, pool.shards[:1], tmp_path / "store")
    (part,) = FeatureStore.open(tmp_path / "store").parts
    assert len(part) == len(part.features()) == 0
    assert {r.reason for r in part.receipt.rejects} == {"the model's features are not finite in float16"}


def test_progress_counts_every_image_once(pool: Pool, tmp_path: Path) -> None:
    seen: list[ExtractionProgress] = []
    config = FeaturesConfig(model=pool.spec, shards=tuple(pool.shards), backend="eager", batch_size=4)
    extract_features(config, tmp_path / "store", progress=seen.append)
    assert (seen[-1].images, seen[-1].rejects, seen[-1].shards_done, seen[-1].shards) == (39, 0, 3, 3)
    assert all(a.images <= b.images and a.shards_done <= b.shards_done for a, b in pairwise(seen))


def test_a_store_is_refused_where_something_else_is(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and not a feature store"):
        run(pool.spec, pool.shards[:1], tmp_path)
    torn = tmp_path / "torn"
    shutil.copytree(pool.store.path, torn)
    (torn / "store.json").unlink()
    with pytest.raises(StoreError, match="not empty and not a feature store"):  # of which model are its parts?
        run(pool.spec, pool.shards, torn)
    with pytest.raises(StoreError, match=r"store\.json is missing"):
        FeatureStore.open(torn)


def test_a_part_of_another_configuration_is_refused(pool: Pool, tmp_path: Path) -> None:
    store = run(pool.spec, pool.shards[:1], tmp_path / "a", image_size=32)
    mixed = tmp_path / "b"
    shutil.copytree(pool.store.path, mixed)
    shutil.rmtree(mixed / "parts" / store.parts[0].path.name)
    shutil.copytree(store.parts[0].path, mixed / "parts" / store.parts[0].path.name)
    with pytest.raises(StoreError, match="made with another configuration than its store"):
        run(pool.spec, pool.shards, mixed)


OWN_MODELS = """
import torch
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier
from spurious_imagenet.models.labels import LabelSpace
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

LABELS = LabelSpace("own", ("a", "b", "c", "d"), ("a", "b", "c", "d"))
FLAT = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]

def custom():
    model = torch.nn.Sequential(*FLAT, torch.nn.Linear(3, 4))
    return Classifier.from_module(model, Compose([Resize(32), CenterCrop(32), ToTensor()]), LABELS)

def headless():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), *FLAT)
    return Classifier.from_module(model, Preprocess(size=32, resize=32), LABELS)
"""


@pytest.mark.parametrize(("factory", "why"), [("custom", "custom transform"), ("headless", "no penultimate features")])
def test_a_model_that_a_store_cannot_hold_is_refused(pool: Pool, tmp_path: Path, factory: str, why: str) -> None:
    (tmp_path / "own_models.py").write_text(OWN_MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.delitem(sys.modules, "own_models", raising=False)
        with pytest.raises(ConfigError, match=why):
            run(f"python:own_models:{factory}", pool.shards[:1], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_command_says_what_it_did(pool: Pool, tmp_path: Path) -> None:
    shard = labelled_shard(tmp_path / "s.tar", range(6))
    arguments = ["features", "--model", pool.spec, "--shards", shard, "--out", tmp_path / "store", "--backend", "eager"]
    first, second = run_spurious(*arguments), run_spurious(*arguments)
    assert (first.code, second.code) == (0, 0)
    assert "6 images scored, 0 rejected in 1 shards (1 made now, 0 found)." in first.out
    assert "6 images scored, 0 rejected in 1 shards (0 made now, 1 found)." in second.out
