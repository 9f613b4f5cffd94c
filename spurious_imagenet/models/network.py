"""Networks as pixels → (penultimate features, logits), whatever the architecture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spurious_imagenet.errors import ModelError
from spurious_imagenet.images import CustomTransform, Preprocess
from spurious_imagenet.models.head import LinearHead

__all__ = ["FeatureNetwork", "HookedCore", "TimmCore", "linear_head_of"]

# A linear head reproduces the model's own logits to float32 rounding; a different head misses by orders of magnitude.
_HEAD_TOLERANCE = 1e-4


class FeatureNetwork(nn.Module):
    """Normalisation, core and temperature in one module.

    Args:
        core: Maps normalised (N, 3, H, W) float images to (N, D) features and (N, K) logits.
        preprocess: Its ``mean`` and ``std`` are applied here.
        temperature: Logits are divided by it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, core: nn.Module, preprocess: Preprocess | CustomTransform, temperature: float = 1.0) -> None:
        super().__init__()
        self.core = core
        self.temperature = temperature
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if isinstance(preprocess, Preprocess):
            mean, std = preprocess.mean, preprocess.std
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model on decoded images.

        Args:
            pixels: (N, H, W, 3) uint8, as :meth:`Preprocess.apply` gives them; or images that a custom transform has
                normalised, (N, 3, H, W) float.

        Returns:
            Features (N, D) and logits (N, K).
        """
        if pixels.is_floating_point():
            return self._divided(self.core(pixels))
        return self.from_unit(pixels.permute(0, 3, 1, 2).to(self.mean.dtype) / 255.0)

    def from_unit(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run the model on (N, 3, H, W) float images in [0, 1]; differentiable."""
        return self._divided(self.core((images - self.mean) / self.std))

    def _divided(self, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        features, logits = output
        return features, logits if self.temperature == 1.0 else logits / self.temperature


class TimmCore(nn.Module):
    """A timm model through its own API: ``forward_features``, ``forward_head(pre_logits)``, ``get_classifier``.

    ``forward_head`` stays the authority on the logits wherever it does more than one linear layer (auxiliary or
    distilled heads), and the model's own ``forward`` wherever that does more than ``forward_head``. A model without a
    head gives no logits.

    Args:
        model: A timm model in evaluation mode.
        example: (N, 3, H, W) normalised images on which the three ways are compared.
    """

    model: Any

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.model = model
        with torch.no_grad():
            own = self.model(example)
            tokens = self.model.forward_features(example)
            features = self.model.forward_head(tokens, pre_logits=True)
            if features.ndim != 2:
                shape = tuple(features.shape)
                raise ModelError(f"{type(model).__name__} gives pre-logits features of shape {shape}: expected (N, D).")
            classifier = self.model.get_classifier()
            self.head_is_linear = isinstance(classifier, nn.Linear) and _close(classifier(features), own)
            self.own_forward = not self.head_is_linear and not _close(self.model.forward_head(tokens), own)
            self.is_bare = int(getattr(model, "num_classes", 1)) == 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, D) features and (N, K) logits of normalised images."""
        tokens = self.model.forward_features(images)
        features = self.model.forward_head(tokens, pre_logits=True)
        if self.is_bare:
            return features, features[:, :0]
        if self.head_is_linear:
            return features, self.model.get_classifier()(features)
        if self.own_forward:
            return features, self.model(images)
        return features, self.model.forward_head(tokens)


class HookedCore(nn.Module):
    """Any module that maps images to logits; features are what enters its last linear layer, where it has one.

    Args:
        model: The module, in evaluation mode.
        example: (N, 3, H, W) normalised images on which the layer is looked for.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.model = model
        self.classifier = _last_linear(model, example)
        self.head_is_linear = self.classifier is not None
        self._captured: Tensor | None = None
        if self.classifier is not None:
            self.classifier.register_forward_pre_hook(self._capture)

    def _capture(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._captured = args[0]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, D) features (D = 0 where none were found) and (N, K) logits of normalised images."""
        logits = self.model(images)
        features, self._captured = self._captured, None
        return (logits[:, :0] if features is None else features), logits


def _last_linear(model: nn.Module, example: Tensor) -> nn.Linear | None:
    """Find the linear layer whose output is the model's output."""
    seen: list[tuple[nn.Linear, Tensor]] = []

    def remember(module: nn.Module, args: Any, output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            seen.append((module, output))

    hooks = [m.register_forward_hook(remember) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        with torch.no_grad():
            logits = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ModelError(f"{type(model).__name__} returns {_describe(logits)}: expected logits of shape (N, K).")
    return next((m for m, output in reversed(seen) if output.ndim == 2 and _close(output, logits)), None)


def linear_head_of(core: nn.Module, temperature: float = 1.0) -> LinearHead | None:
    """Return the core's last layer, or None where its logits are not one linear read-out of its features."""
    if not getattr(core, "head_is_linear", False):
        return None
    layer: Any = core.model.get_classifier() if isinstance(core, TimmCore) else core.classifier
    weight = layer.weight.detach().float().cpu().numpy()
    bias = np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias.detach().float().cpu().numpy()
    return LinearHead(weight, bias, temperature)


def _close(a: Tensor, b: Tensor) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape != b.shape:
        return False
    scale = max(float(b.abs().max()), 1e-12)
    return float((a - b).abs().max()) <= _HEAD_TOLERANCE * scale


def _describe(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
