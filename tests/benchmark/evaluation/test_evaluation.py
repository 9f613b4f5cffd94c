from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_helpers import SPURIOUS, spurious_dataset
from helpers import CLASSES, jpeg, labelled_shard, weights_file
from PIL import Image as Pillow
from reference.metrics import auc_by_counting, average_precision_by_thresholds
from torch import nn
from torchvision import transforms

from spurious_imagenet import EvalRecord, LabelSpace, evaluate, load_classifier
from spurious_imagenet.errors import ConfigError, DataError, ModelError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    root = tmp_path_factory.mktemp("evaluation")
    labelled_shard(root / "val.tar", range(24))
    return weights_file(root / "w.safetensors"), root / "val.tar"


def _by_hand(spec: str, resize: int, crop: int, images: list[bytes]) -> np.ndarray:
    """Probabilities by PIL, torchvision and plain torch."""
    classifier = load_classifier(spec)
    transform = transforms.Compose(
        [
            transforms.Resize(resize, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(crop),
            transforms.ToTensor(),
            transforms.Normalize(classifier.preprocess.mean, classifier.preprocess.std),
        ]
    )
    batch = torch.stack([transform(Pillow.open(io.BytesIO(i))) for i in images])
    with torch.inference_mode():
        return classifier.network.core.model(batch).softmax(1).numpy()


@pytest.mark.parametrize(("protocol", "val_resize"), [("paper", int(256 / 224 * 64)), ("standard", 64)])
def test_equals_the_computation_by_hand(world: tuple[str, Path], protocol: str, val_resize: int) -> None:
    spec, val = world
    record = evaluate(spec, spurious_dataset(), val, protocol=protocol, device="cpu", backend="eager")  # type: ignore[arg-type]
    for k, class_id in enumerate(CLASSES[:2]):
        positives = _by_hand(spec, val_resize, 64, [jpeg(s) for s in range(24) if s % 4 == k])
        negatives = _by_hand(spec, 64, 64, [d for c, _, d in SPURIOUS if c == class_id])
        found = record.classes[k]
        assert (found.class_id, found.validation_images, found.spurious_images) == (class_id, 6, 6)
        p, n = positives[:, k].tolist(), negatives[:, k].tolist()
        # Random weights give nearly equal scores, so pixels one grey level apart may swap a pair.
        assert found.spurious_auc == pytest.approx(auc_by_counting(p, n), abs=0.06)
        assert found.spurious_ap == pytest.approx(average_precision_by_thresholds(p, n), abs=0.06)
        assert found.validation_probability == pytest.approx(np.mean(p), abs=2e-3)
        assert found.spurious_probability == pytest.approx(np.mean(n), abs=2e-3)
        assert found.chance_ap == 0.5
    assert record.mean.spurious_ap == pytest.approx(np.mean([c.spurious_ap for c in record.classes]))
    assert len(record.concepts) == 6
    assert record.protocol.value == protocol


def test_record_survives_its_file(world: tuple[str, Path], tmp_path: Path) -> None:
    record = evaluate(world[0], spurious_dataset(), world[1], device="cpu", backend="eager")
    saved = record.save(tmp_path / "r.json")
    found = EvalRecord.load(tmp_path / "r.json")
    assert found == saved
    changed = {"predictions", "predictions_sha256"}
    assert found.model_dump(exclude=changed) == record.model_dump(exclude=changed)
    made, read = record.read_predictions().table, found.read_predictions().table
    assert (len(read), found.predictions) == (24 + 12, "r.predictions.parquet")
    assert made["sha256"].tolist() == read["sha256"].tolist()
    (tmp_path / "r.predictions.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="not the predictions of the record"):
        found.read_predictions()
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(DataError, match="not an evaluation record"):
        EvalRecord.load(tmp_path / "r.json")


def test_order_of_the_dataset_does_not_matter(world: tuple[str, Path]) -> None:
    one = evaluate(world[0], spurious_dataset(), world[1], device="cpu", backend="eager")
    other = evaluate(world[0], spurious_dataset(SPURIOUS[::-1]), world[1], device="cpu", backend="eager")
    assert one.dataset_sha256 == other.dataset_sha256
    assert one.mean.spurious_ap == pytest.approx(other.mean.spurious_ap, abs=1e-6)


def test_folder_and_shards_agree(world: tuple[str, Path], tmp_path: Path) -> None:
    for i in range(24):
        path = tmp_path / CLASSES[i % 4] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(i))
    folder = evaluate(world[0], spurious_dataset(), tmp_path, device="cpu", backend="eager")
    shards = evaluate(world[0], spurious_dataset(), world[1], device="cpu", backend="eager")
    assert folder.mean.spurious_auc == pytest.approx(shards.mean.spurious_auc)


class _RedIsApple(nn.Module):
    """Says how red an image is."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = images.mean((2, 3))
        return torch.cat([8 * red[:, :1] - 4, 4 - 8 * red[:, :1], torch.zeros(len(images), 2)], 1)


def test_any_module_with_any_transform(tmp_path: Path) -> None:
    compose = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    labels = LabelSpace("custom", CLASSES, CLASSES)
    for class_id, colour in zip(CLASSES, ("red", "blue", "white", "black"), strict=True):
        (tmp_path / class_id).mkdir()
        for i in range(3):
            Pillow.new("RGB", (50, 40 + i), colour).save(tmp_path / class_id / f"{i}.png")
    blue = Pillow.new("RGB", (40, 40), "blue")
    buffer = io.BytesIO()
    blue.save(buffer, "PNG")
    data = spurious_dataset([("apple", "npca/apple/0", buffer.getvalue())])
    record = evaluate(_RedIsApple(), data, tmp_path, protocol="standard", transform=compose, labels=labels)
    assert record.mean.spurious_ap == record.mean.spurious_auc == 1
    assert (record.mean.validation_predicted, record.mean.spurious_predicted) == (1, 0)
    with pytest.raises(ConfigError, match="standard"):
        evaluate(_RedIsApple(), data, tmp_path, transform=compose, labels=labels)
    with pytest.raises(ConfigError, match="needs its transform"):
        evaluate(_RedIsApple(), data, tmp_path, labels=labels)


def test_bad_input_gets_one_sentence(world: tuple[str, Path], tmp_path: Path) -> None:
    spec, val = world
    with pytest.raises(DataError, match=r"lacks the columns \['concept_id'\]"):
        evaluate(spec, spurious_dataset().remove_columns("concept_id"), val)
    with pytest.raises(ModelError, match="no output for 1 classes of the dataset, such as 'zebra'"):
        evaluate(spec, spurious_dataset([("zebra", "npca/zebra/0", jpeg(0))]), val)
    with pytest.raises(DataError, match="cannot be read, the first of concept 'npca/apple/0'"):
        evaluate(spec, spurious_dataset([("apple", "npca/apple/0", b"no image")]), val, backend="eager")
    labelled_shard(tmp_path / "few.tar", range(4), CLASSES[:1])
    with pytest.raises(DataError, match="no readable validation image of 1 classes, such as 'bird'"):
        evaluate(spec, spurious_dataset(), tmp_path / "few.tar", backend="eager")
    with pytest.raises(DataError, match="no dataset folder"):
        evaluate(spec, "./nowhere", val)


def test_dataset_hash_is_of_bytes(world: tuple[str, Path]) -> None:
    changed = [*SPURIOUS[:-1], (*SPURIOUS[-1][:2], jpeg(7))]
    records = [evaluate(world[0], spurious_dataset(rows), world[1], backend="eager") for rows in (SPURIOUS, changed)]
    assert records[0].dataset_sha256 != records[1].dataset_sha256
    assert len({hashlib.sha256(d).hexdigest() for _, _, d in SPURIOUS}) == len(SPURIOUS)
