from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers import weights_file
from torch import nn

from spurious_imagenet.builders.visualise.activation_maps import ActivationMaps, activation_map
from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier, LabelSpace, load_classifier
from spurious_imagenet.models.timm_models import classifier_from_timm, preprocess_of_timm

LABELS = LabelSpace("custom", ("a", "b", "c"), ("a", "b", "c"))
AS_IS = Preprocess(size=32, resize=32, mean=(0, 0, 0), std=(1, 1, 1))


class Colours(nn.Module):
    """Features are the mean redness, greenness and blueness of 4 px squares; nothing here is called a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.squares = nn.Conv2d(3, 3, 4, stride=4, groups=3, bias=False)
        nn.init.constant_(self.squares.weight, 1 / 16)
        self.last = nn.Linear(3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.squares(images).mean((2, 3)))


def transformer(**options: object) -> Classifier:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3, img_size=64, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return classifier_from_timm("timm:test_vit", model, LABELS, preprocess_of_timm(model, 64))


def noise(count: int, size: int) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_the_map_is_high_where_the_image_shows_the_concept() -> None:
    classifier = Classifier.from_module(Colours(), AS_IS, LABELS)
    images = torch.zeros(2, 3, 32, 32)
    images[0, 0, 8:16, 20:28] = 1.0  # red square
    images[1, 0] = 1.0
    images[1, 2, 24:, :8] = 0.5  # blue corner on red
    red = activation_map(classifier, np.array([1.0, 0, 0]), images)
    assert red.shape == (2, 32, 32)
    assert red.dtype == np.float32
    assert red[0, 10:14, 22:26].min() > 0.95
    assert red[0, :, :16].max() == 0
    assert not red[1].any()  # red everywhere: no place stands out
    violet = activation_map(classifier, torch.tensor([-1.0, 0, 1.0]), images)
    assert violet[1, 26:, :6].min() > 0.95
    assert violet[0, 10:14, 22:26].max() < 0.05


@pytest.mark.parametrize("arch", ["test_resnet", "test_efficientnet", "test_byobnet", "resnet18", "densenet121"])
def test_the_read_out_averages_to_the_score_in_convolutional_networks(arch: str, tmp_path: Path) -> None:
    classifier = load_classifier(weights_file(tmp_path / "w.safetensors", arch))
    maps = ActivationMaps(classifier)
    spatial = maps.spatial(noise(3, 64))
    features, _ = classifier.network.from_unit(noise(3, 64))
    torch.testing.assert_close(spatial.mean((2, 3)), features, rtol=1e-4, atol=1e-5)
    assert spatial.shape[2] * spatial.shape[3] > 1


def test_a_map_is_the_enlarged_read_out_from_0_to_1(tmp_path: Path) -> None:
    classifier = load_classifier(weights_file(tmp_path / "w.safetensors"))
    maps, direction = ActivationMaps(classifier), np.random.default_rng(0).standard_normal(classifier.feature_dim)
    spatial = maps.spatial(noise(3, 64))
    found = maps(direction, noise(3, 64).numpy())
    for image in range(3):
        places = [[float(spatial[image, :, i, j].numpy() @ direction) for j in range(2)] for i in range(2)]
        # 2 x 2 places lie at the centres of the quadrants, beyond which the enlargement is constant.
        corners = np.array([[found[image, y, x] for x in (0, 63)] for y in (0, 63)])
        expected = (np.array(places) - np.min(places)) / np.ptp(places)
        np.testing.assert_allclose(corners, expected, atol=1e-5)
    assert found.min() == 0
    assert found.max() == 1


def test_averaged_tokens_are_places_and_the_class_token_is_not() -> None:
    classifier = transformer(global_pool="avg", fc_norm=False, class_token=True)
    spatial = ActivationMaps(classifier).spatial(noise(2, 64))
    features, _ = classifier.network.from_unit(noise(2, 64))
    assert spatial.shape[2:] == (4, 4)
    torch.testing.assert_close(spatial.mean((2, 3)), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ["test_vit", "test_convnext"])
def test_a_normalisation_after_the_pooling_changes_a_map_by_a_positive_factor_and_a_constant(arch: str) -> None:
    if arch == "test_vit":
        classifier = transformer(global_pool="avg", fc_norm=True)
        norm = classifier.network.core.model.fc_norm
    else:
        torch.manual_seed(0)
        model = timm.create_model(arch, num_classes=3).eval()
        nn.init.normal_(model.head.norm.weight)
        classifier = classifier_from_timm("timm:convnext", model, LABELS, preprocess_of_timm(model, 64))
        norm = model.head.norm
    images, direction = noise(4, 64), torch.randn(classifier.feature_dim, generator=torch.Generator().manual_seed(2))
    maps = ActivationMaps(classifier)
    spatial = maps.spatial(images)
    scores = classifier.network.from_unit(images)[0] @ direction
    # The average of the places, by the definition of LayerNorm, with the mean and variance of the pooled map.
    pooled = spatial.mean((2, 3))
    scale = 1 / (pooled.var(1, unbiased=False) + norm.eps).sqrt()
    place = (spatial - spatial.mean(1, keepdim=True)) * scale[:, None, None, None]
    exact = torch.einsum("ndhw,d->nhw", place, direction * norm.weight) + norm.bias @ direction
    torch.testing.assert_close(exact.mean((1, 2)), scores, rtol=1e-3, atol=1e-3)
    corners = maps(direction, images)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    upscaled = nn.functional.interpolate(exact[:, None], (64, 64), mode="bilinear")[:, 0]
    low, high = upscaled.amin((1, 2), keepdim=True), upscaled.amax((1, 2), keepdim=True)
    expected = ((upscaled - low) / (high - low))[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, expected.numpy(), atol=1e-3)


def test_features_that_are_no_average_are_refused_and_gradcam_is_named() -> None:
    with pytest.raises(ModelError, match=r"class token.*GradCAM"):
        ActivationMaps(transformer(global_pool="token"))
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    with pytest.raises(ModelError, match=r"non-linear layer after the pooling.*GradCAM"):
        ActivationMaps(classifier_from_timm("timm:m", model, LABELS, preprocess_of_timm(model, 64)))


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    classifier = load_classifier(weights_file(tmp_path / "w.safetensors"))
    with pytest.raises(ModelError, match=r"direction of shape \(3,\)"):
        activation_map(classifier, np.ones(3), noise(1, 64))
    custom = Classifier.from_module(Colours(), lambda image: torch.zeros(3, 32, 32), LABELS)
    with pytest.raises(ModelError, match="custom transform"):
        ActivationMaps(custom)
