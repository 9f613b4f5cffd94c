"""GradCAM by its definition, one image at a time, gradients taken through the whole network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


def gradcam(
    forward: Callable[[Tensor], Tensor],
    layer: nn.Module,
    to_map: Callable[[Tensor], Tensor],
    image: Tensor,
    direction: Tensor,
) -> np.ndarray:
    """Heat map of the score ``features · direction`` of one (3, H, W) image, min-max normalised, in [0, 1].

    ``forward`` gives features, ``to_map`` turns the layer's output into (1, C, g, g).
    """
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    try:
        features = forward(image[None].clone().requires_grad_(True))
    finally:
        handle.remove()
    score = sum(float(d) * f for d, f in zip(direction, features[0], strict=True))
    (gradient,) = torch.autograd.grad(score, kept[0])
    activations, gradients = to_map(kept[0].detach())[0], to_map(gradient)[0]
    total = torch.zeros(activations.shape[1:])
    for channel, slope in zip(activations, gradients, strict=True):
        total += slope.mean() * channel
    coarse = total.clamp_min(0)[None, None]
    coarse = coarse - coarse.min()
    fine = torch.nn.functional.interpolate(coarse, image.shape[1:], mode="bilinear", align_corners=False)[0, 0]
    fine = fine - fine.min()
    return (fine / fine.max().clamp_min(1e-12)).numpy()
