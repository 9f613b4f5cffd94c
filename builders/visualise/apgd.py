"""Auto-PGD in an L2 ball: gradient ascent on images whose step size chooses itself (Croce & Hein 2020, algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spurious_imagenet.errors import ConfigError, DataError, ModelError

__all__ = ["FIRST_STEP", "ApgdResult", "Objective", "checkpoints", "maximise", "project"]

#: Maps (B, 3, H, W) float32 images in [0, 1] to (B,) values, each a function of its own image alone; higher is better.
Objective = Callable[[Tensor], Tensor]

FIRST_STEP = 2.0  # of eps, as published
_RISE_SHARE = 0.75  # rho: fewer rising steps than this share between two checkpoints halve the step
_MOMENTUM = 0.75  # alpha: weight of the gradient step against the previous step's direction
_FIRST_PERIOD, _SHORTENING, _SHORTEST_PERIOD = 0.22, 0.03, 0.06
_ROUNDING = 1e-5  # relative error of a float32 sum of squares over an image, with room to spare
_PIXEL_ROUNDING = 2.0**-24  # twice the largest rounding error of a float32 in [0, 1]
_GRADIENT_SCALE = 2.0**10  # keeps half-precision gradients from vanishing; their length is divided out


@dataclass(frozen=True, eq=False)
class ApgdResult:
    """The best images that were met.

    Attributes:
        images: (B, 3, H, W) float32 in [0, 1].
        objective: (B,) float32 values of ``images``; never below ``start_objective``.
        start_objective: (B,) float32 values of the images that the search started from.
    """

    images: Tensor
    objective: Tensor
    start_objective: Tensor


def checkpoints(steps: int) -> list[int]:
    """Return the numbers of steps after which step sizes are reconsidered: ceil(p_j steps), p_1 = 0.22, ….

    Args:
        steps: Steps of the whole search.
    """
    before, share, found = 0.0, _FIRST_PERIOD, []
    # Rounded, or the binary fractions' error would shift a checkpoint that falls on a whole step.
    while (number := math.ceil(round(share * steps, 6))) <= steps:
        found.append(number)
        before, share = share, share + max(share - before - _SHORTENING, _SHORTEST_PERIOD)
    return sorted(set(found))


def _lengths(vectors: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return found


def project(points: Tensor, centres: Tensor, eps: float) -> Tensor:
    """Return the nearest points that lie in the L2 ball around ``centres`` and in the box [0, 1].

    The nearest point is ``clip(centre + t (point - centre))`` for the largest t <= 1 whose change is not longer than
    ``eps``. From the t that the ball alone asks for, each round holds the pixels that the box has stopped and lengthens
    the others to fill the ball. As the pixels that come to be stopped only shorten the change, no round overshoots.
    The radius aimed at is smaller than ``eps`` by a bound on the rounding errors, so that the float32 result is inside
    the ball too.

    Args:
        points: (B, n) float32, anywhere.
        centres: (B, n) float32 in [0, 1].
        eps: Radius.

    Returns:
        (B, n) float32.
    """
    radius = max(eps * (1 - _ROUNDING) - _PIXEL_ROUNDING * math.sqrt(points.shape[1]), 0.0)
    change = points - centres
    scale = (radius / _lengths(change).clamp_min(1e-30)).clamp_max(1.0)
    while True:
        wanted = torch.addcmul(centres, change, scale)
        inside = wanted.clamp(0, 1)
        if torch.equal(inside, wanted):
            return inside
        free = _lengths(change * (inside == wanted))
        room = radius**2 - _lengths(inside - centres) ** 2  # what the stopped pixels have left
        longer = (scale**2 + room.clamp_min(0) / free.clamp_min(1e-15) ** 2).sqrt().clamp_max(1.0)
        if not bool((longer > scale * (1 + _ROUNDING)).any()):
            return inside
        scale = longer


def _check(start: Tensor, eps: float, steps: int, first_step: float) -> None:
    if not (math.isfinite(eps) and eps >= 0) or steps < 1:
        raise ConfigError(f"APGD got eps {eps} and {steps} steps: expected a finite eps >= 0 and at least 1 step.")
    if not 0 < first_step <= FIRST_STEP:
        raise ConfigError(f"APGD got a first step of {first_step} eps: expected more than 0 and at most {FIRST_STEP}.")
    if start.ndim != 4 or start.dtype != torch.float32 or not bool(((start >= 0) & (start <= 1)).all()):
        raise DataError(
            f"APGD got {start.dtype} images of shape {tuple(start.shape)}: expected (B, 3, H, W) float32 in [0, 1]."
        )


def maximise(
    objective: Objective,
    start: Tensor,
    eps: float,
    steps: int,
    *,
    first_step: float = FIRST_STEP,
    on_step: Callable[[int], None] | None = None,
) -> ApgdResult:
    """Look for the images of highest objective in the L2 balls around ``start``.

    A step size per image begins at ``first_step * eps`` and halves after a checkpoint at which fewer than 75 % of the
    steps since the last one rose, or at which neither step size nor best value have changed since; the search then goes
    on from the best image. It costs one forward and backward pass per step, and a forward pass at the end.

    Args:
        objective: What to maximise.
        start: (B, 3, H, W) float32 in [0, 1].
        eps: Largest L2 norm of an image's change, over all its pixel values.
        steps: Steps an image.
        first_step: First step size as a share of ``eps``; 2 as published, which leaps across the whole ball.
        on_step: Called with the number of steps taken, after each.

    Returns:
        The best images met, the start included, on the device of ``start``.

    Raises:
        ConfigError: ``eps``, ``steps`` or ``first_step`` are out of range.
        DataError: ``start`` is not a batch of images in [0, 1].
        ModelError: The objective gives another shape, or NaN or infinite values.
    """
    _check(start, eps, steps, first_step)
    with torch.inference_mode(False), torch.no_grad():
        search = _Search(objective, start, eps, first_step)
        last_checkpoint, marks = 0, checkpoints(steps)
        for step in range(1, steps + 1):
            search.advance(gradient_needed=step < steps)
            if step in marks:
                search.reconsider(step - last_checkpoint)
                last_checkpoint = step
            if on_step is not None:
                on_step(step)
        return search.result()


class _Search:
    """The state of a batch between steps; images are flat here, (B, H * W * 3), which makes sums and copies fast."""

    def __init__(self, objective: Objective, start: Tensor, eps: float, first_step: float) -> None:
        self._objective, self._eps = objective, eps
        self._shape = (len(start), *start.shape[2:], start.shape[1])
        self._start = start.permute(0, 2, 3, 1).flatten(1).clone()
        self._images = self._previous = self._best_images = self._start
        self._step = torch.full((len(start), 1), first_step * eps, device=start.device)
        self._first = True
        self._values, self._gradient = self._evaluate(self._start)
        self._best_gradient = self._gradient
        self._start_values = self._best = self._best_at_checkpoint = self._values
        self._kept_step = torch.zeros_like(self._values, dtype=torch.bool)
        self._rises = torch.zeros_like(self._values)

    def _unflatten(self, images: Tensor) -> Tensor:
        return images.view(self._shape).permute(0, 3, 1, 2)

    def _evaluate(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B,) values and the gradients scaled to length 1 (0 where there is none)."""
        with torch.enable_grad():
            leaf = self._unflatten(images).requires_grad_(True)
            values = self._objective(leaf)
            if values.shape != leaf.shape[:1]:
                raise ModelError(
                    f"the objective gave {tuple(values.shape)}: expected one value per image, ({len(leaf)},)."
                )
            (gradient,) = torch.autograd.grad(values.sum() * _GRADIENT_SCALE, leaf)
        flat = gradient.float().permute(0, 2, 3, 1).flatten(1)
        return values.detach().float(), flat / _lengths(flat).clamp_min(1e-30)

    def advance(self, *, gradient_needed: bool) -> None:
        """Take one step with momentum and remember what is better than all before."""
        images = project(torch.addcmul(self._images, self._gradient, self._step), self._start, self._eps)
        if not self._first:
            moved = (self._images - self._previous).mul_(1 - _MOMENTUM)
            images = moved.add_(torch.lerp(self._images, images, _MOMENTUM))
            images = project(images, self._start, self._eps)
        self._first = False
        self._previous, self._images, before = self._images, images, self._values
        if gradient_needed:
            self._values, self._gradient = self._evaluate(images)
        else:
            self._values = self._objective(self._unflatten(images)).float()
        self._rises += self._values > before
        better = self._values > self._best
        self._best = torch.where(better, self._values, self._best)
        self._best_images = torch.where(better[:, None], images, self._best_images)
        self._best_gradient = torch.where(better[:, None], self._gradient, self._best_gradient)

    def reconsider(self, period: int) -> None:
        """Halve the step size of images that no longer rise, and send them back to their best."""
        stalled = self._kept_step & (self._best == self._best_at_checkpoint)
        halved = (self._rises < _RISE_SHARE * period) | stalled
        wide = halved[:, None]
        self._step = torch.where(wide, self._step / 2, self._step)
        self._images = torch.where(wide, self._best_images, self._images)
        self._gradient = torch.where(wide, self._best_gradient, self._gradient)
        self._values = torch.where(halved, self._best, self._values)
        self._kept_step, self._best_at_checkpoint = ~halved, self._best
        self._rises = torch.zeros_like(self._rises)

    def result(self) -> ApgdResult:
        """Return the best images.

        Raises:
            ModelError: A value became NaN or infinite.
        """
        finite = torch.isfinite(self._start_values) & torch.isfinite(self._values)
        if not bool(finite.all()):
            raise ModelError(f"the objective of image {int((~finite).nonzero()[0])} became NaN or infinite.")
        return ApgdResult(self._unflatten(self._best_images), self._best, self._start_values)
