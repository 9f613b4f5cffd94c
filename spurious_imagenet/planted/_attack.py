"""Projected gradient ascent in an L2 ball: what a robust model is trained and measured against."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def _rescale(direction: Tensor, length: float) -> Tensor:
    norm = direction.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
    rescaled: Tensor = direction * (length / norm)
    return rescaled


def l2_attack(network: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float, steps: int) -> Tensor:
    """Move each image so that the network's cross-entropy rises.

    Args:
        network: Takes pixel values in [0, 1].
        pixels: (N, 3, H, W) in [0, 1].
        labels: (N,) right classes.
        epsilon: Largest L2 norm of an image's change, over all its pixel values.
        steps: Gradient steps of length ``2.5 * epsilon / steps``; a single step has length ``epsilon``.

    Returns:
        (N, 3, H, W) changed images in [0, 1], within ``epsilon`` of ``pixels``.
    """
    length = epsilon if steps == 1 else 2.5 * epsilon / steps
    change = torch.zeros_like(pixels)
    for _ in range(steps):
        change.requires_grad_(True)
        loss = cross_entropy(network(pixels + change), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, change)
        moved = change.detach() + _rescale(gradient, length)
        norm = moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        moved = moved * (epsilon / norm.clamp_min(epsilon))
        change = (pixels + moved).clamp(0, 1) - pixels
    return pixels + change
