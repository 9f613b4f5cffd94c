from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers import picture, weights_file
from reference.gradcam import gradcam
from torch import Tensor, nn

from spurious_imagenet.builders.boards import ConceptCam
from spurious_imagenet.builders.boards.gradcam import MapLayout, map_layer
from spurious_imagenet.errors import DataError, ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.models.labels import LabelSpace

CPU = torch.device("cpu")
SIZE = 160  # what the small transformers have position embeddings for


def wrapped(model: nn.Module, size: int = SIZE) -> Classifier:
    """A module of 4 outputs as a classifier, found by hooks."""
    preprocess = Preprocess(size=size, resize=size)
    return Classifier.from_module(model, preprocess, LabelSpace("custom", tuple("abcd"), tuple("abcd")))


def trained_like(spec: Path, arch: str) -> Classifier:
    torch.manual_seed(1)
    return load_classifier(weights_file(spec, arch, size=SIZE))


def pictures(count: int, size: int = SIZE) -> np.ndarray:
    return np.stack([np.asarray(picture(seed, (size, size))) for seed in range(count)])


def directions(classifier: Classifier, count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, classifier.feature_dim)).astype(np.float32)


# How each architecture's map is to be read is written out here, not taken from the layout that the code finds.
def _channels_first(output: Tensor) -> Tensor:
    return output


def _tokens(prefix: int) -> object:
    def to_map(output: Tensor) -> Tensor:
        side = SIZE // 16
        assert output.shape[1] == prefix + side * side
        return output[:, prefix:].reshape(len(output), side, side, -1).permute(0, 3, 1, 2)

    return to_map


CASES = {
    "test_resnet": (lambda m: m.layer4, _channels_first),
    "test_efficientnet": (lambda m: m.bn2, _channels_first),
    "test_convnext": (lambda m: m.stages, _channels_first),
    "test_vit": (lambda m: m.blocks[-1].norm1, _tokens(1)),
}


@pytest.mark.parametrize("arch", CASES)
def test_heat_maps_are_those_of_the_definition(arch: str, tmp_path: Path) -> None:
    layer_of, to_map = CASES[arch]
    classifier = trained_like(tmp_path / "model.safetensors", arch)
    pixels, wanted = pictures(5), directions(classifier, 5)
    found = ConceptCam(classifier, CPU, batch_size=3)(pixels, wanted)
    network = classifier.network
    heated = 0
    for image, direction, heatmap in zip(pixels, wanted, found.heatmaps, strict=True):
        unit = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        layer = layer_of(network.core.model)
        expected = gradcam(lambda x: network.from_unit(x)[0], layer, to_map, unit, torch.from_numpy(direction))
        np.testing.assert_allclose(heatmap, expected, atol=2e-4)
        heated += expected.max() > 0.5
    assert heated >= 3  # an all-zero map would agree with anything


def test_features_and_logits_are_the_models(tmp_path: Path) -> None:
    classifier = trained_like(tmp_path / "model.safetensors", "test_resnet")
    pixels = pictures(4)
    found = ConceptCam(classifier, CPU)(pixels, directions(classifier, 4))
    features, logits = classifier.predict(pixels)
    np.testing.assert_allclose(found.features, features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(tmp_path: Path) -> None:
    classifier = trained_like(tmp_path / "model.safetensors", "test_vit")
    pixels, wanted = pictures(4), directions(classifier, 4)
    together = ConceptCam(classifier, CPU)(pixels, wanted).heatmaps
    alone = [
        ConceptCam(classifier, CPU, batch_size=1)(p[None], w[None]).heatmaps[0]
        for p, w in zip(pixels, wanted, strict=True)
    ]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-4)


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    classifier = trained_like(tmp_path / "model.safetensors", "test_resnet")
    ConceptCam(classifier, CPU)(pictures(2), directions(classifier, 2))
    images = torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
    classifier.network.from_unit(images)[1].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert not any(p.requires_grad for p in classifier.network.parameters())


class InPlaceAfterwards(nn.Module):
    """Changes its last map in place by a function that is not a module, as DenseNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.Conv2d(8, 16, 3, 2, 1))
        self.fc = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.relu(self.stem(images), inplace=True)
        return self.fc(maps.mean((2, 3)))


def test_a_map_that_the_network_overwrites_is_read_before() -> None:
    torch.manual_seed(0)
    classifier = wrapped(InPlaceAfterwards())
    model = classifier.network.core.model
    pixels, wanted = pictures(3), directions(classifier, 3)
    found = ConceptCam(classifier, CPU)(pixels, wanted)

    def forward(images: Tensor) -> Tensor:
        return nn.functional.relu(model.stem((images - classifier.network.mean) / classifier.network.std)).mean((2, 3))

    for image, direction, heatmap in zip(pixels, wanted, found.heatmaps, strict=True):
        unit = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        expected = gradcam(forward, model.stem, _channels_first, unit, torch.from_numpy(direction))
        np.testing.assert_allclose(heatmap, expected, atol=2e-4)


class ChannelsLast(nn.Module):
    """Keeps its maps as (N, H, W, C), as Swin does, and calls one module twice."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 16, 16)
        self.act = nn.GELU()
        self.mix = nn.Linear(12, 12)
        self.fc = nn.Linear(12, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.act(self.patch(images)).permute(0, 2, 3, 1)
        maps = self.act(self.mix(maps))
        return self.fc(maps.mean((1, 2)))


def test_maps_with_channels_last_are_found_and_shared_layers_passed_over() -> None:
    classifier = wrapped(ChannelsLast())
    layer, layout = map_layer(classifier.network, SIZE)
    assert layer is classifier.network.core.model.mix
    assert layout == MapLayout("channels-last", SIZE // 16)
    heatmaps = ConceptCam(classifier, CPU)(pictures(2), directions(classifier, 2)).heatmaps
    assert heatmaps.shape == (2, SIZE, SIZE)


@pytest.mark.parametrize(
    "arch", ["test_vit2", "test_vit3", "test_convnext2", "test_nfnet", "test_byobnet", "test_mambaout"]
)
def test_a_layer_is_found_in_many_architectures(arch: str, tmp_path: Path) -> None:
    classifier = trained_like(tmp_path / "model.safetensors", arch)
    found = ConceptCam(classifier, CPU)(pictures(2), directions(classifier, 2))
    assert found.heatmaps.shape == (2, SIZE, SIZE)
    assert 0 <= found.heatmaps.min() <= found.heatmaps.max() <= 1


def test_torchvision_style_class_tokens_are_read_before_the_last_attention() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=4, img_size=SIZE)
    classifier = wrapped(model)  # without timm's own interface to say how many prefix tokens there are
    layer, layout = map_layer(classifier.network, SIZE)
    assert layer is classifier.network.core.model.blocks[-1].norm1
    assert layout == MapLayout("tokens", SIZE // 16, 1)


def test_a_network_without_a_map_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(ModelError, match="has no layer with a square map"):
        ConceptCam(wrapped(model, 32), CPU)


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    classifier = trained_like(tmp_path / "model.safetensors", "test_resnet")
    cam = ConceptCam(classifier, CPU)
    for pixels, count in ((pictures(2, 64), 2), (pictures(2), 3), (pictures(1)[:0], 0)):
        with pytest.raises(DataError, match="GradCAM got pixels"):
            cam(pixels, directions(classifier, count))


@pytest.mark.parametrize(
    ("shape", "prefix", "layout"),
    [
        ((2, 8, 7, 7), None, MapLayout("channels-first", 7)),
        ((2, 7, 7, 8), None, MapLayout("channels-last", 7)),
        ((2, 197, 8), None, MapLayout("tokens", 14, 1)),
        ((2, 201, 8), 5, MapLayout("tokens", 14, 5)),
        ((2, 9, 8), 5, MapLayout("tokens", 2, 5)),  # nine tokens would also be a square of three
        ((2, 8, 1, 1), None, None),
        ((2, 8, 7, 5), None, None),
        ((2, 3, 8), None, None),
        ((2, 8), None, None),
    ],
)
def test_layouts(shape: tuple[int, ...], prefix: int | None, layout: MapLayout | None) -> None:
    assert MapLayout.of(shape, prefix) == layout
