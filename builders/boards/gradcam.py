"""GradCAM of a concept's score, for any network that has a map of features somewhere before its pooling."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spurious_imagenet.errors import ConfigError, DataError, ModelError
from spurious_imagenet.models import Classifier
from spurious_imagenet.models.network import FeatureNetwork

__all__ = ["CamOutput", "ConceptCam", "MapLayout", "map_layer"]


@dataclass(frozen=True)
class MapLayout:
    """Where the positions of a feature map are in a tensor.

    Attributes:
        form: ``channels-first`` (N, C, g, g), ``channels-last`` (N, g, g, C) or ``tokens`` (N, prefix + g * g, C).
        side: g, positions along a side.
        prefix: Tokens that stand for no position, such as a class token; they come first.
    """

    form: str
    side: int
    prefix: int = 0

    @classmethod
    def of(cls, shape: tuple[int, ...], prefix: int | None = None) -> MapLayout | None:
        """Recognise the layout of a square map of at least 2 x 2 positions; None for any other shape.

        Args:
            shape: The tensor's.
            prefix: Prefix tokens, where the network says how many; else what is left of the largest square.
        """
        if len(shape) == 4 and shape[2] == shape[3] > 1:
            return cls("channels-first", shape[2])
        if len(shape) == 4 and shape[1] == shape[2] > 1:
            return cls("channels-last", shape[1])
        if len(shape) != 3:
            return None
        known = prefix is not None and math.isqrt(max(shape[1] - prefix, 0)) ** 2 == shape[1] - prefix
        side = math.isqrt(shape[1] - prefix if known and prefix is not None else shape[1])
        return cls("tokens", side, shape[1] - side * side) if side > 1 else None

    def channels_first(self, tensor: Tensor) -> Tensor:
        """Return a copy of the map as (N, C, g, g), without prefix tokens."""
        if self.form == "tokens":
            tensor = tensor[:, self.prefix :].reshape(len(tensor), self.side, self.side, -1)
        # A copy, because the network may change the tensor in place afterwards.
        return (tensor if self.form == "channels-first" else tensor.permute(0, 3, 1, 2)).clone()


def map_layer(network: FeatureNetwork, size: int) -> tuple[nn.Module, MapLayout]:
    """Find the last layer whose output is a map of features on whose positions the pooled features depend.

    For a convolutional network this is what its pooling reads. In a transformer that reads out its class token, the
    last block's patch tokens no longer count, and the layer is the norm before the last attention, as GradCAM's
    authors advise for transformers.

    Args:
        network: The network, in evaluation mode.
        size: Side of its input, px.

    Raises:
        ModelError: It has no such layer.
    """
    model = getattr(network.core, "model", network.core)
    seen: list[tuple[nn.Module, Tensor]] = []

    def remember(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in {3, 4} and len(output) == 2:
            seen.append((module, output))

    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(network.mean.device)
    prefix = getattr(model, "num_prefix_tokens", None)
    with torch.enable_grad():
        shape = _final_shape(model, (images - network.mean) / network.std)
        hooks = [m.register_forward_hook(remember) for m in model.modules() if m is not model]
        try:
            features, _ = network.from_unit(images.requires_grad_(True))
        finally:
            for hook in hooks:
                hook.remove()
        return _last_that_counts(seen, shape, prefix, features, type(model).__name__)


def _final_shape(model: nn.Module, normalised: Tensor) -> tuple[int, ...] | None:
    """Return the shape of what the network itself calls its final map, where it says."""
    forward_features = getattr(model, "forward_features", None)
    if forward_features is None:
        return None
    with torch.no_grad():
        output = forward_features(normalised)
    return tuple(output.shape) if isinstance(output, Tensor) and MapLayout.of(tuple(output.shape)) else None


def _last_that_counts(
    seen: list[tuple[nn.Module, Tensor]],
    shape: tuple[int, ...] | None,
    prefix: int | None,
    features: Tensor,
    name: str,
) -> tuple[nn.Module, MapLayout]:
    calls = Counter(id(module) for module, _ in seen)
    maps = [(module, output) for module, output in seen if MapLayout.of(tuple(output.shape), prefix)]
    wanted = shape or (tuple(maps[-1][1].shape) if maps else None)
    # A layer that is called twice would give two maps under one name.
    candidates = [(m, t) for m, t in maps if tuple(t.shape) == wanted and calls[id(m)] == 1]
    if candidates and features.requires_grad and features.shape[1]:
        weights = torch.randn(features.shape[1], generator=torch.Generator().manual_seed(0)).to(features)
        gradients = torch.autograd.grad((features @ weights).sum(), [t for _, t in candidates], allow_unused=True)
        for (module, output), gradient in zip(reversed(candidates), reversed(gradients), strict=True):
            layout = MapLayout.of(tuple(output.shape), prefix)
            if layout and gradient is not None and bool(layout.channels_first(gradient).any()):
                return module, layout
    raise ModelError(f"{name} has no layer with a square map of features that it reads: GradCAM needs one.")


@dataclass(frozen=True, eq=False)
class CamOutput:
    """What a network sees of a concept in images.

    Attributes:
        heatmaps: (N, S, S) float32 in [0, 1], each image's own maximum being 1; all 0 where nothing speaks for the
            concept.
        features: (N, D) float32.
        logits: (N, K) float32.
    """

    heatmaps: NDArray[np.float32]
    features: NDArray[np.float32]
    logits: NDArray[np.float32]


class _Features(nn.Module):
    """Images in [0, 1] → features; keeps what else the network said."""

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__()
        self.network = network
        self.last: tuple[Tensor, Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        features, logits = self.network.from_unit(images)
        self.last = (features.detach(), logits.detach())
        return features


class ConceptCam:
    """GradCAM (Selvaraju et al. 2017) with the score of a concept as its target, as SFE section 4 uses it.

    The network's parameters stay frozen and the gradient stops at the map's layer, so that a pass costs little more
    than the forward pass.

    Args:
        classifier: The model whose features the concepts read.
        device: Where to run; the classifier's network is moved there.
        batch_size: Images in one pass.

    Raises:
        ModelError: The network has no map of features.
        ConfigError: The library is not installed.
    """

    def __init__(self, classifier: Classifier, device: torch.device, batch_size: int = 64) -> None:
        _library()
        network = classifier.network.to(device).to(memory_format=torch.channels_last)
        self.size = classifier.preprocess.size
        self._device, self._batch_size = device, batch_size
        self._layer, self._layout = map_layer(network, self.size)
        self._features = _Features(network)

    def __call__(self, pixels: NDArray[np.uint8], directions: NDArray[np.float32]) -> CamOutput:
        """Explain each image's score on its own concept.

        Args:
            pixels: (N, S, S, 3) uint8, N of at least 1.
            directions: (N, D) float32, the concept of each image.

        Raises:
            DataError: The shapes do not fit.
        """
        if pixels.shape[1:] != (self.size, self.size, 3) or len(pixels) != len(directions) or not len(pixels):
            raise DataError(
                f"GradCAM got pixels {pixels.shape} and directions {directions.shape}: expected "
                f"(N, {self.size}, {self.size}, 3) and (N, D), N of at least 1."
            )
        starts = range(0, len(pixels), self._batch_size)
        found = [self._batch(pixels[s:][: self._batch_size], directions[s:][: self._batch_size]) for s in starts]
        return CamOutput(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _batch(self, pixels: NDArray[np.uint8], directions: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        images = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        targets = [_Score(torch.from_numpy(direction).to(self._device)) for direction in directions]
        # Before the library's own hooks, which then see a tensor that starts the graph.
        start = self._layer.register_forward_hook(_start_graph)
        cam = _library()(self._features, [self._layer], reshape_transform=self._layout.channels_first)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                heatmaps = np.asarray(cam(images, targets), np.float32)
        finally:
            cam.activations_and_grads.release()
            start.remove()
        assert self._features.last is not None
        features, logits = (t.float().cpu().numpy() for t in self._features.last)
        return heatmaps, features, logits


def _library() -> Any:
    try:
        from pytorch_grad_cam.grad_cam import GradCAM
    except ImportError as error:
        raise ConfigError("GradCAM is not installed: pip install 'spurious-imagenet[boards]'.") from error
    return GradCAM


def _start_graph(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.detach().requires_grad_(True).clone()  # a copy: a leaf could not be changed in place afterwards


@dataclass(frozen=True, eq=False)
class _Score:
    """A concept's score of one image, up to its constant offset."""

    direction: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return features @ self.direction
