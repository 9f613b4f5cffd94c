"""Tuning a linear head on cached features, and when to stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from spurious_imagenet.benchmark.metrics.gaps import mean_gap
from spurious_imagenet.benchmark.mitigation._tuning_data import ClassEnds
from spurious_imagenet.benchmark.mitigation.tuning_record import Check, StoppedBy, TuningConfig
from spurious_imagenet.features.labelled import Indices
from spurious_imagenet.models.head import LinearHead

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class StoppingSet:
    """The images that decide when a tuning stops, and how a head does on them.

    Attributes:
        features: (N, D) float16.
        label: (N,) int64.
        ends: The classes' images of highest and lowest spuriosity, as rows of these arrays.
        present: Classes among which heads are tuned and measured, ascending; all of the head's where left out.
    """

    features: NDArray[np.float16]
    label: NDArray[np.int64]
    ends: Sequence[ClassEnds]
    present: NDArray[np.int64] | None = None

    def check(self, step: int, head: Tensor) -> Check:
        """Measure the gap and the accuracy of a (K, D + 1) head."""
        among = _among(self.present, len(head), head.device)
        right = _correct(head, torch.from_numpy(self.features), torch.from_numpy(self.label), among)
        return Check(step=step, gap=gap_of(right, self.ends), accuracy=float(right.mean()))


@dataclass(frozen=True, eq=False)
class TunedHead:
    """What came of one run.

    Attributes:
        head: The head that was kept; its temperature is 1.
        step: Steps after which it was taken.
        stopped_by: Why no later one was.
        checks: Every look at the stopping set, the original head's first.
    """

    head: LinearHead
    step: int
    stopped_by: StoppedBy
    checks: tuple[Check, ...]


def gap_of(correct: NDArray[np.floating] | NDArray[np.bool_], ends: Sequence[ClassEnds]) -> float:
    """Mean over classes of the accuracy on the highest less that on the lowest spuriosity (SR section 4.2)."""
    return mean_gap([float(correct[c.high].mean() - correct[c.low].mean()) for c in ends])


def learning_rate(features: NDArray[np.float16], step_size: float) -> float:
    """Return Adam's learning rate that changes a logit of an average image by at most ``step_size`` in a step.

    Adam moves every weight by about its learning rate, so a logit by at most that times ``sum |φ|``: with the rate in
    these units, one default serves features of any width and scale.
    """
    blocks = (features[i : i + _BLOCK].astype(np.float32) for i in range(0, len(features), _BLOCK))
    total = sum(float(np.abs(block).sum(dtype=np.float64)) for block in blocks)
    return step_size * len(features) / max(total, 1e-12)


def tune_head(
    head: LinearHead,
    features: NDArray[np.float16],
    label: NDArray[np.int64],
    stopping: StoppingSet,
    config: TuningConfig,
    *,
    rate: float,
    seed: int,
    device: torch.device,
) -> TunedHead:
    """Minimise cross-entropy over all outputs by Adam, from the given head, until the gap is closed (SR section 4.3).

    Everything but the head stays as it is, so only features are needed. The recipe ``published`` keeps the last head
    there was; ``replay`` the last one that had not lost more accuracy on the stopping set than allowed, the original
    head where every one had.

    Args:
        head: Where to start; its temperature is folded into the weights.
        features: (n, D) float16 features of the images to tune on.
        label: (n,) their classes.
        stopping: Decides when to stop.
        config: How.
        rate: Adam's learning rate; see :func:`learning_rate`.
        seed: Of the order of the images.
        device: Where to compute, in float32.
    """
    first = np.column_stack([head.weight, head.bias]) / head.temperature
    both = torch.from_numpy(first.astype(np.float32)).to(device).requires_grad_()
    optimizer = torch.optim.Adam([both], lr=rate)
    x, y = torch.from_numpy(features).to(device), torch.from_numpy(label).to(device)
    among = _among(stopping.present, len(both), device)
    checks = [stopping.check(0, both.detach())]
    least = checks[0].accuracy - config.accuracy_loss if config.recipe == "replay" else -np.inf
    kept = (0, both.detach().clone())
    stopped_by: StoppedBy = "steps"
    for step, batch in zip(range(1, config.max_steps + 1), _batches(len(label), config.batch_size, seed), strict=False):
        rows = torch.from_numpy(batch).to(device)
        optimizer.zero_grad()
        # Classes without an image would only be pushed down: the head would learn which classes exist.
        cross_entropy(_logits(both, x[rows]) + among, y[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % config.check_every and step != config.max_steps:
            continue
        checks.append(stopping.check(step, both.detach()))
        if checks[-1].accuracy < least:
            continue
        kept = (step, both.detach().clone())
        if checks[-1].gap < config.stop_gap:
            stopped_by = "gap"
            break
    else:
        stopped_by = "steps" if kept[0] == config.max_steps else "accuracy"
    weights = kept[1].cpu().numpy()
    tuned = LinearHead(np.ascontiguousarray(weights[:, :-1]), np.ascontiguousarray(weights[:, -1]))
    return TunedHead(tuned, kept[0], stopped_by, tuple(checks))


def correct_by(
    head: LinearHead,
    features: NDArray[np.float16],
    label: NDArray[np.int64],
    device: torch.device,
    present: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Return (N,) whether a head classifies each image as its class, among some classes or all."""
    both = torch.from_numpy(np.column_stack([head.weight, head.bias]) / np.float32(head.temperature)).to(device)
    return _correct(both, torch.from_numpy(features), torch.from_numpy(label), _among(present, len(both), device))


def _logits(both: Tensor, features: Tensor) -> Tensor:
    return torch.addmm(both[:, -1], features.float(), both[:, :-1].T)


def _among(present: NDArray[np.int64] | None, classes: int, device: torch.device) -> Tensor:
    """Return (K,) what to add to logits so that only some classes can win: 0 or minus infinity."""
    if present is None:
        return torch.zeros(classes, device=device)
    added = torch.full((classes,), -torch.inf, device=device)
    added[torch.from_numpy(present).to(device)] = 0
    return added


def _correct(both: Tensor, features: Tensor, label: Tensor, among: Tensor) -> NDArray[np.bool_]:
    blocks = torch.split(features, _BLOCK)
    found = [(_logits(both, block.to(both.device)) + among).argmax(1).cpu() for block in blocks]
    return np.asarray((torch.cat(found) == label).numpy())


def _batches(count: int, size: int, seed: int) -> Iterator[Indices]:
    """Yield full batches without end, each pass over the images in a new order."""
    rng, size = np.random.default_rng([seed, count]), min(size, count)
    while True:
        order = rng.permutation(count)
        yield from (order[i : i + size] for i in range(0, count - size + 1, size))
