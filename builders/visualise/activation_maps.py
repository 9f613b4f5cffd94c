"""Neural activation maps (SR section I.1): where in an image a concept's score comes from.

Where a network's features φ are the average of a spatial map over all places, the score of a concept, a linear read-out
of φ, is the average of the same read-out at each place. That map of read-outs, enlarged to the image, is the neural
activation map. Nothing is approximated but the enlargement, and the map is as coarse as the network's last stage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import Preprocess
from spurious_imagenet.models import Classifier

__all__ = ["ActivationMaps", "activation_map"]

# An average differs from the network's own by float32 rounding only; another pooling misses by orders of magnitude.
_TOLERANCE = 1e-4
_MAX_PREFIX_TOKENS = 8


@dataclass(frozen=True)
class _Site:
    """Where the spatial map is.

    Attributes:
        module: Its output is the map.
        layout: How the output is laid out; ``tokens`` are (N, prefix + h * w, D).
        prefix: Tokens before those of places.
        gain: (D,) weight of a LayerNorm between the average and φ; None where there is none.
    """

    module: nn.Module
    layout: Literal["NCHW", "NHWC", "tokens"]
    prefix: int = 0
    gain: Tensor | None = None

    def spatial(self, output: Tensor) -> Tensor:
        """Return the module's output as (N, D, h, w)."""
        if self.layout == "NCHW":
            return output
        if self.layout == "tokens":
            side = math.isqrt(output.shape[1] - self.prefix)
            output = output[:, self.prefix :].reshape(len(output), side, side, -1)
        return output.movedim(-1, 1)

    def place_direction(self, direction: Tensor) -> Tensor:
        """Return the (D,) read-out of one place whose average is the score, up to a positive factor and a constant."""
        if self.gain is None:
            return direction
        # LayerNorm subtracts the mean over the features, which is linear, and divides each image by one number.
        scaled = direction * self.gain
        return scaled - scaled.mean()


class ActivationMaps:
    """The neural activation maps of one classifier.

    The spatial map is looked for among the outputs of all of the network's modules: its average over all places must
    equal φ, or what the LayerNorm that gives φ reads. Convolutional networks with global average pooling (ResNet,
    EfficientNet, RegNet, DenseNet, ConvNeXt, …), Swin, MLP-Mixer and ViTs that average their tokens have one. ViTs that
    read a class token, attention pooling, and layers with a non-linearity after the pooling (MobileNetV3) have none.

    Args:
        classifier: The model whose features the directions read.

    Raises:
        ModelError: Its features are not an average over places, or a custom transform hides how it normalises images.
    """

    def __init__(self, classifier: Classifier) -> None:
        if not isinstance(classifier.preprocess, Preprocess):
            raise ModelError(
                f"{classifier.spec} has a custom transform, so images in [0, 1] cannot be normalised for it: give its "
                "size, mean and std as a Preprocess."
            )
        self.network = classifier.network
        self.feature_dim = classifier.feature_dim
        self._site = _find_site(classifier)

    @torch.no_grad()
    def spatial(self, images: Tensor | NDArray[np.floating[Any]]) -> Tensor:
        """Return the (N, D, h, w) map before the pooling, on the network's device, of (N, 3, H, W) images in [0, 1]."""
        batch = torch.as_tensor(images).to(self.network.mean)
        captured: list[Tensor] = []
        hook = self._site.module.register_forward_hook(lambda module, args, output: captured.append(output))
        try:
            self.network.from_unit(batch)
        finally:
            hook.remove()
        return self._site.spatial(captured[-1])

    @torch.no_grad()
    def read_out(
        self, spatial: Tensor, direction: Tensor | NDArray[np.floating[Any]], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Read one concept out of maps from :meth:`spatial`.

        Args:
            spatial: (N, D, h, w).
            direction: (D,) direction of the concept; its offset would not change the map.
            size: Height and width of the maps to return, px.

        Returns:
            (N, H, W) float32 in [0, 1], each image's least and greatest value made 0 and 1; higher is more of the
            concept. All 0 where the concept is the same at every place.

        Raises:
            ModelError: The direction has another number of features.
        """
        vector = torch.as_tensor(direction).to(spatial)
        if vector.shape != spatial.shape[1:2]:
            raise ModelError(
                f"a direction of shape {tuple(vector.shape)} cannot read maps of {spatial.shape[1]} features."
            )
        coarse = torch.einsum("ndhw,d->nhw", spatial, self._site.place_direction(vector))
        fine = interpolate(coarse[:, None], size, mode="bilinear", align_corners=False)[:, 0].float()
        low, high = fine.amin((1, 2), keepdim=True), fine.amax((1, 2), keepdim=True)
        # What is left of a constant map by rounding must not be stretched to a pattern.
        flat = high - low <= 1e-6 * torch.maximum(high.abs(), low.abs())
        normalised = torch.where(flat, 0.0, (fine - low) / (high - low).clamp_min(torch.finfo(torch.float32).tiny))
        return np.asarray(normalised.cpu().numpy())

    def __call__(
        self, direction: Tensor | NDArray[np.floating[Any]], images: Tensor | NDArray[np.floating[Any]]
    ) -> NDArray[np.float32]:
        """Return the (N, H, W) maps of one concept; see :func:`activation_map`."""
        return self.read_out(self.spatial(images), direction, (int(images.shape[2]), int(images.shape[3])))


def activation_map(
    classifier: Classifier,
    direction: Tensor | NDArray[np.floating[Any]],
    images: Tensor | NDArray[np.floating[Any]],
) -> NDArray[np.float32]:
    """Show where in images a concept's score comes from (neural activation map, SR section I.1).

    For many concepts of the same images, :class:`ActivationMaps` runs the network only once.

    Args:
        classifier: The model whose features the direction reads.
        direction: (D,) direction of the concept; e_i for one neural feature.
        images: (N, 3, H, W) float images in [0, 1], at the model's input size.

    Returns:
        (N, H, W) float32 in [0, 1], each image's least and greatest value made 0 and 1; higher is more of the concept.
        All 0 where the concept is the same at every place.

    Raises:
        ModelError: The features are not an average over places (:class:`ActivationMaps`), or the direction does not
            fit.
    """
    return ActivationMaps(classifier)(direction, images)


def _find_site(classifier: Classifier) -> _Site:
    """Find the last module whose output averages to φ, by running the network on random images."""
    network, size = classifier.network, classifier.preprocess.size
    seen: list[tuple[nn.Module, Any, Tensor]] = []

    def remember(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            seen.append((module, args, output))

    hooks = [module.register_forward_hook(remember) for module in network.core.modules()]
    try:
        with torch.no_grad():
            noise = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
            features, _ = network.from_unit(noise.to(network.mean))
    finally:
        for hook in hooks:
            hook.remove()
    averages: list[tuple[Tensor, Tensor | None]] = [(features, None)]
    for module, args, output in seen:
        if isinstance(module, nn.LayerNorm) and _equal(output.flatten(1), features):
            averages.append((args[0].flatten(1), module.weight))
    for module, _, output in reversed(seen):
        for average, gain in averages:
            site = _site_of(module, output, average, gain)
            if site is not None:
                return site
    raise ModelError(
        f"{classifier.spec} has no neural activation map: its features are not the average of a spatial map (a class "
        "token, attention pooling, or a non-linear layer after the pooling); GradCAM shows such models."
    )


def _site_of(module: nn.Module, output: Tensor, average: Tensor, gain: Tensor | None) -> _Site | None:
    """Return how the output is laid out if it averages to ``average``, and None if it does not."""
    width = average.shape[1]
    if (
        output.ndim == 4
        and output.shape[1] == width
        and output[0, 0].numel() > 1
        and _equal(output.mean((2, 3)), average)
    ):
        return _Site(module, "NCHW", gain=gain)
    if output.ndim == 4 and output.shape[3] == width and output[0, :, :, 0].numel() > 1:
        return _Site(module, "NHWC", gain=gain) if _equal(output.mean((1, 2)), average) else None
    if output.ndim != 3 or output.shape[2] != width:
        return None
    for prefix in range(min(_MAX_PREFIX_TOKENS, output.shape[1] - 4) + 1):
        places = output.shape[1] - prefix
        if math.isqrt(places) ** 2 == places and _equal(output[:, prefix:].mean(1), average):
            return _Site(module, "tokens", prefix, gain)
    return None


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    scale = float(b.abs().max())
    return scale > 0 and float((a - b).abs().max()) <= _TOLERANCE * scale
