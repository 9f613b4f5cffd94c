"""What is wrong with a model's labels, pixels or logits is said in one sentence before its numbers are believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_helpers import spurious_dataset
from helpers import CLASSES, encoded
from PIL import Image
from torch import nn
from torchvision import transforms

from spurious_imagenet import LabelSpace, Preprocess, evaluate
from spurious_imagenet.errors import ModelError

COLOURS = {"apple": (255, 0, 0), "bird": (0, 255, 0), "cup": (0, 0, 255), "dog": (90, 90, 90)}
SMALL = transforms.Resize((16, 16))
UNIT = Preprocess(size=16, resize=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
DATA = spurious_dataset([("apple", "npca/apple/0", encoded(Image.new("RGB", (20, 20), (200, 0, 10)), "PNG"))])


class _Colours(nn.Module):
    """Output i is how near the picture is to the i-th colour."""

    def __init__(self, broken_above: float = float("inf")) -> None:
        super().__init__()
        self.register_buffer("colours", torch.tensor(list(COLOURS.values())) / 255)
        self.broken_above = broken_above

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((2, 3))
        logits = -20 * torch.cdist(mean, self.get_buffer("colours"))
        return torch.where(mean[:, 1:2] > self.broken_above, torch.nan, logits)


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("colours")
    for class_id, colour in COLOURS.items():
        (root / class_id).mkdir()
        for i in range(20):
            shade = tuple(max(0, value - i) for value in colour)
            (root / class_id / f"{i:02}.png").write_bytes(encoded(Image.new("RGB", (20, 20), shade), "PNG"))
    return root


def _evaluate(val: Path, labels: tuple[str, ...], model: nn.Module | None = None, **options: Any) -> Any:
    space = LabelSpace("mine", labels, labels)
    how: dict[str, Any] = {"protocol": "standard", "transform": UNIT, "backend": "eager", "resamples": 10} | options
    return evaluate(model or _Colours(), DATA, val, labels=space, **how)


def test_right_labels_pass(val: Path) -> None:
    record = _evaluate(val, CLASSES)
    assert (record.accuracy, record.remarks) == (1.0, ())


@pytest.mark.parametrize(
    ("labels", "said"), [(("background", *CLASSES[:3]), "k-1"), ((*CLASSES[1:], "apple"), r"k\+1")]
)
def test_labels_off_by_one_are_named(val: Path, labels: tuple[str, ...], said: str) -> None:
    sentence = rf"labels of .*_Colours are off by one: 0.0% .* but 100.0% as {said} of the label space 'mine'"
    with pytest.raises(ModelError, match=sentence):
        _evaluate(val, labels)


def test_labels_in_no_order_get_a_remark(val: Path) -> None:
    swapped = ("bird", "apple", "dog", "cup")
    record = _evaluate(val, swapped)
    assert record.accuracy == 0
    (remark,) = record.remarks
    assert "80 validation images is 0.0%, where guessing among 4 classes gives 25.0%" in remark
    assert "labels or the preprocessing do not fit" in remark


def test_few_images_prove_nothing(val: Path, tmp_path: Path) -> None:
    for class_id in CLASSES:
        (tmp_path / class_id).mkdir()
        (tmp_path / class_id / "0.png").write_bytes((val / class_id / "00.png").read_bytes())
    assert _evaluate(tmp_path, (*CLASSES[1:], "apple")).remarks == ()


def test_nan_logits_name_the_first_image(val: Path) -> None:
    sentence = r"_Colours gave NaN or infinite logits for .*bird.00\.png: expected finite"
    with pytest.raises(ModelError, match=sentence):
        _evaluate(val, CLASSES, _Colours(broken_above=0.9))


RAW = [
    ([transforms.PILToTensor()], "uint8 values from 0 to 255"),
    ([transforms.ToTensor(), transforms.Lambda(lambda x: x * 255)], "float32 values from 0 to 255"),
]


@pytest.mark.parametrize(("steps", "said"), RAW)
def test_raw_pixels_are_refused(val: Path, steps: list[Any], said: str) -> None:
    with pytest.raises(ModelError, match=f"returns {said} .* expected the normalised float image"):
        _evaluate(val, CLASSES, transform=transforms.Compose([SMALL, *steps]))


def test_usual_normalisations_pass(val: Path) -> None:
    unit = transforms.Compose([SMALL, transforms.ToTensor()])
    assert _evaluate(val, CLASSES, transform=unit).accuracy == 1
    caffe = transforms.Compose([SMALL, transforms.ToTensor(), transforms.Normalize([0.5] * 3, [1 / 255] * 3)])
    _evaluate(val, CLASSES, transform=caffe)
