"""Images are decoded once, whatever is measured from them; stored outputs are refused where they do not belong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from evaluation_helpers import SPURIOUS, count_decodes, spurious_dataset
from helpers import CLASSES, jpeg, labelled_shard, spread_weights_file, weights_file, write_tar
from sklearn.metrics import average_precision_score, roc_auc_score

from spurious_imagenet import evaluate, load_classifier
from spurious_imagenet.benchmark.evaluation import _output_cache as output_cache
from spurious_imagenet.benchmark.evaluation._forward_cache import EvalOptions
from spurious_imagenet.benchmark.evaluation.evaluate import measure
from spurious_imagenet.benchmark.evaluation.gaps import gap_record
from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_counts, class_rng
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings, RankingsInfo
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.errors import DataError, ModelError, StoreError
from spurious_imagenet.images import Protocol
from spurious_imagenet.models import LinearHead
from spurious_imagenet.models.head_file import HeadFileInfo, save_head
from spurious_imagenet.models.spec import short_name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("once")
    labelled_shard(root / "val.tar", range(40))
    return spread_weights_file(root / "w.safetensors"), root / "val.tar"


def _head_file(path: Path, spec: str, weight: np.ndarray, bias: np.ndarray) -> Path:
    encoder = load_classifier(spec)
    info = HeadFileInfo(
        encoder=spec,
        encoder_weights_sha256=encoder.weights_sha256,
        image_size=encoder.preprocess.size,
        label_space=encoder.labels.name,
        class_ids=encoder.labels.class_ids,
        class_names=encoder.labels.class_names,
    )
    save_head(path, LinearHead(weight, bias), info)
    return path


def test_no_image_is_decoded_twice(world: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, val = world
    # One image stands for two concepts of two classes, another is a validation image, too.
    rows = [*SPURIOUS, (CLASSES[1], "npca/bird/9", SPURIOUS[0][2]), (CLASSES[0], "npca/apple/9", jpeg(3))]
    head = load_classifier(spec).linear_head()
    files = [_head_file(tmp_path / f"{i}.safetensors", spec, head.weight * (i - 1), head.bias) for i in range(2)]
    counted = count_decodes(monkeypatch)
    how = {"device": "cpu", "backend": "eager", "outputs": tmp_path / "outputs", "mitigations": files}
    first = evaluate(spec, spurious_dataset(rows), val, protocol="standard", **how)
    assert len(counted) == 40 + 12
    assert set(counted.values()) == {1}
    assert len(first.mitigated) == 2
    again = evaluate(spec, spurious_dataset(rows), val, protocol="standard", **how)
    assert [r.model_dump() for r in (again, *again.mitigated)] == [r.model_dump() for r in (first, *first.mitigated)]
    assert set(counted.values()) == {1}


def test_protocols_share_a_transform_that_is_the_same(
    world: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a bicubic model without crop, the paper's Resize(64) of spurious images is its own transform; only validation
    # images, cropped from Resize(73), are seen in two ways.
    classifier = load_classifier(world[0])
    classifier = classifier.with_preprocess(classifier.preprocess.model_copy(update={"interpolation": "bicubic"}))
    counted = count_decodes(monkeypatch)
    wanted = {Protocol.PAPER: [], Protocol.STANDARD: []}
    how = EvalOptions(outputs=tmp_path, backend="eager", resamples=10)
    records = measure(classifier, SpuriousDataset(spurious_dataset()), str(world[1]), how, wanted, name="m")
    assert sorted(counted.values()) == [1] * 12 + [2] * 40
    assert len(list(tmp_path.iterdir())) == 2
    paper, standard = records[Protocol.PAPER][0], records[Protocol.STANDARD][0]
    assert paper.spurious_transform == standard.spurious_transform
    assert paper.mean.spurious_probability == standard.mean.spurious_probability
    assert paper.mean.validation_probability != standard.mean.validation_probability


def test_mitigations_change_logits_of_the_same_outputs(world: tuple[str, Path], tmp_path: Path) -> None:
    spec, val = world
    head = load_classifier(spec).linear_head()
    same = _head_file(tmp_path / "same.safetensors", spec, head.weight, head.bias)
    turned = _head_file(tmp_path / "turned.safetensors", spec, -head.weight, -head.bias)
    record = evaluate(spec, spurious_dataset(), val, backend="eager", mitigations=[same, turned], name="mine")
    one, other = record.mitigated
    assert (record.mitigation, one.mitigation.kind, one.name) == (None, "head", "mine + tuned head (same)")
    assert other.mean.spurious_auc != pytest.approx(record.mean.spurious_auc, abs=0.05)
    assert one.accuracy == record.accuracy
    assert one.mean.spurious_ap == pytest.approx(record.mean.spurious_ap, abs=1e-6)
    model = evaluate(f"head:{turned}", spurious_dataset(), val, backend="eager")
    assert other.mean.model_dump() == pytest.approx(model.mean.model_dump(), abs=1e-5)
    with pytest.raises(ModelError, match="was fitted to features of"):
        evaluate(weights_file(tmp_path / "w.safetensors", seed=9), spurious_dataset(), val, mitigations=[same])


def test_accuracy_is_of_all_validation_images(world: tuple[str, Path]) -> None:
    record = evaluate(world[0], spurious_dataset(), world[1], backend="eager", resamples=200)
    table = record.read_predictions().of("validation")
    assert sorted(set(table["class_id"])) == sorted(CLASSES)
    assert record.accuracy_images == len(table) == 40
    assert record.accuracy == np.mean(table["predicted_id"] == table["class_id"])
    assert record.accuracy_interval.low <= record.accuracy <= record.accuracy_interval.high
    assert record.parameters == sum(p.numel() for p in load_classifier(world[0]).network.parameters())
    assert {c.class_id for c in record.classes} == set(CLASSES[:2])


def test_intervals_are_those_of_a_plain_loop(world: tuple[str, Path]) -> None:
    record = evaluate(world[0], spurious_dataset(), world[1], backend="eager", resamples=40, seed=5)
    table = record.read_predictions().table.sort_values("sha256")
    found = {}
    for c in record.classes:
        v, s = (
            table[(table["class_id"] == c.class_id) & (table["side"] == side)].sort_values(["concept_id", "sha256"])
            for side in ("validation", "spurious")
        )
        counts = [bootstrap_counts(len(t), 40, class_rng(5, c.class_id, i)) for i, t in enumerate((v, s))]
        ap, auc = [], []
        for cv, cs in zip(*counts, strict=True):
            y = np.repeat([1, 0], [len(v), len(s)])
            score, weight = np.concatenate([v["probability"], s["probability"]]), np.concatenate([cv, cs])
            ap.append(average_precision_score(y, score, sample_weight=weight))
            auc.append(roc_auc_score(y, score, sample_weight=weight))
        for name, values in (("spurious_ap", ap), ("spurious_auc", auc)):
            low, high = np.quantile(values, [0.025, 0.975])
            assert (c.intervals[name].low, c.intervals[name].high) == pytest.approx((low, high), abs=1e-12)
        found[c.class_id] = ap
    picked = bootstrap_counts(2, 40, class_rng(5, "", 4))
    mean = [np.average([found[c][r] for c in sorted(found)], weights=picked[r]) for r in range(40)]
    low, high = np.quantile(mean, [0.025, 0.975])
    assert record.mean_intervals["spurious_ap"].low == pytest.approx(low, abs=1e-12)
    assert record.mean_intervals["spurious_ap"].high == pytest.approx(high, abs=1e-12)


def _rankings(images: pd.DataFrame) -> Rankings:
    """Rank the images of each class as they come."""
    images = images.assign(rank=images.groupby("class_id").cumcount() + 1)
    images["of"] = images.groupby("class_id")["rank"].transform("max")
    table = images[["name", "sha256", "class_id", "rank", "of"]].assign(
        percentile=(images["rank"] - 0.5) / images["of"],
        split="val",
        class_name=images["class_id"],
        control=False,
        spuriosity=images["rank"].astype(float),
    )
    info = RankingsInfo(model="m", weights_sha256="0", feature_config_sha256="0", concepts={})
    return Rankings(
        table.reindex(columns=RANKINGS_SCHEMA.names).assign(percentile=(table["rank"] - 0.5) / table["of"]), info
    )


def test_gaps_are_those_of_the_predictions(world: tuple[str, Path], tmp_path: Path) -> None:
    val = labelled_shard(tmp_path / "big.tar", range(88))
    how = {"backend": "eager", "outputs": tmp_path / "o", "resamples": 50, "seed": 3}
    plain = evaluate(world[0], spurious_dataset(), val, **how)
    assert plain.gaps is None
    rankings = _rankings(plain.read_predictions().of("validation"))
    found = evaluate(world[0], spurious_dataset(), val, rankings=rankings, **how)
    assert found.gaps is not None
    assert found.gaps == gap_record(plain.read_predictions(), rankings, resamples=50, seed=3, where="rankings")
    assert found.model_dump(exclude={"gaps"}) == plain.model_dump(exclude={"gaps"})
    with pytest.raises(DataError, match="44"):  # ranked images that are not in the validation images given now
        evaluate(
            world[0], spurious_dataset(), labelled_shard(tmp_path / "few.tar", range(44)), rankings=rankings, **how
        )


def test_a_run_that_breaks_off_keeps_its_chunks(
    world: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_cache, "PART_IMAGES", 32)
    broken = [*SPURIOUS[:-1], (*SPURIOUS[-1][:2], b"no image")]
    how = {"backend": "eager", "protocol": "standard"}
    plain = evaluate(world[0], spurious_dataset(), world[1], outputs=tmp_path / "plain", **how)
    counted = count_decodes(monkeypatch)
    with pytest.raises(Exception, match="cannot be read"):
        evaluate(world[0], spurious_dataset(broken), world[1], outputs=tmp_path / "broken", **how)
    assert sum(counted.values()) == 52
    counted.clear()
    record = evaluate(world[0], spurious_dataset(), world[1], outputs=tmp_path / "broken", **how)
    assert list(counted.values()) == [1]
    assert record.model_dump() == plain.model_dump()


def test_outputs_of_another_model_are_refused(world: tuple[str, Path], tmp_path: Path) -> None:
    spec, val = world
    other = weights_file(tmp_path / "other.safetensors", seed=3)
    how = {"backend": "eager", "protocol": "standard"}
    for name, model in (("a", spec), ("b", other)):
        evaluate(model, spurious_dataset(), val, outputs=tmp_path / name, **how)
    (mine,), (theirs,) = (list((tmp_path / name).iterdir()) for name in "ab")
    shutil.copytree(theirs, tmp_path / "swapped" / mine.name)
    with pytest.raises(StoreError, match=r"holds outputs of file:.*other.safetensors \(weights [0-9a-f]{12}\), not of"):
        evaluate(spec, spurious_dataset(), val, outputs=tmp_path / "swapped", **how)
    shutil.copytree(mine, tmp_path / "mixed" / mine.name)
    shutil.copytree(next((theirs / "parts").iterdir()), tmp_path / "mixed" / mine.name / "parts" / "0")
    with pytest.raises(StoreError, match="of another model, transform or backend"):
        evaluate(spec, spurious_dataset(), val, outputs=tmp_path / "mixed", **how)
    features = next(mine.glob("parts/*/features.npy"))
    data = bytearray(features.read_bytes())
    data[-7] ^= 1
    features.write_bytes(data)
    with pytest.raises(StoreError, match=r"features.npy is missing or has changed"):
        evaluate(spec, spurious_dataset(), val, outputs=tmp_path / "a", **how)


def test_undecodable_validation_images_are_listed_once(world: tuple[str, Path], tmp_path: Path) -> None:
    good = [(f"{i}.jpg", jpeg(i)) for i in range(8)]
    labels = [(f"{i}.cls", str(i % 2).encode()) for i in range(9)]
    members = sorted([*good, *labels, ("8.jpg", b"broken")])
    val = write_tar(tmp_path / "v.tar", members)
    records = [evaluate(world[0], spurious_dataset(), val, backend="eager", outputs=tmp_path / "o") for _ in range(2)]
    assert records[0].model_dump() == records[1].model_dump()
    assert records[0].accuracy_images == 8
    assert len(records[0].validation_rejects) == 1
    assert records[0].validation_rejects[0][0].endswith("v.tar/8")


def test_names_are_short() -> None:
    assert short_name("timm:resnet50.a1_in1k") == "resnet50.a1_in1k"
    assert short_name("timm:hf-hub:org/net@main?image_size=3") == "net"
    assert short_name("file:/a/b/robust.safetensors?arch=x") == "robust"
    assert short_name("open_clip:ViT-B-32/laion2b") == "laion2b"
    assert short_name("python:pkg.mod:make") == "pkg.mod-make"
