"""How fast feature visualisations are made, and how high they get, against the bare network and another library's PGD.

    python benchmarks/npfv.py --model wheel:efficientnet_lite0 --image-size 128 --bank BANK

Speed: steps of the search against bare forward and backward passes of the same network, batch and read-outs, in turns
in one run; the bar is 85 %. Height: the search against foolbox's L2 PGD (its own step size) with the same budget and
number of steps, from grey and from a random start in the ball, on the bank's concepts of largest eigenvalue; the bar is
at least as high as the better of the two on every one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import eagerpy
import foolbox
import numpy as np
import torch
from foolbox.attacks import L2ProjectedGradientDescentAttack
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from spurious_imagenet.builders.visualise.apgd import Objective, maximise
from spurious_imagenet.builders.visualise.npfv import NpfvConfig, eps_at, on_device, read_out
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.models import load_classifier
from spurious_imagenet.models.devices import pick_device

SPEED_BAR = 0.85


class ScorePgd(L2ProjectedGradientDescentAttack):
    """foolbox's L2 PGD with a score to maximise in place of a classification loss."""

    def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
        return lambda inputs: model(inputs).sum()


class Scores(nn.Module):
    """The objective as a module, which is what foolbox wraps; of shape (B, 1)."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, images: Tensor) -> Tensor:
        return self.objective(images)[:, None]


def foolbox_best(objective: Objective, start: Tensor, eps: float, steps: int, random_start: bool) -> Tensor:
    """Return the score of foolbox's result, float32."""
    model = foolbox.PyTorchModel(Scores(objective).eval(), bounds=(0, 1), device=start.device)
    attack = ScorePgd(steps=steps, random_start=random_start)
    labels = torch.zeros(len(start), dtype=torch.long, device=start.device)
    found = attack.run(model, start, foolbox.criteria.Misclassification(labels), epsilon=eps)
    images = found.raw if isinstance(found, eagerpy.Tensor) else found
    with torch.no_grad():
        return objective(images).float()


def bare_seconds(objective: Objective, start: Tensor, passes: int) -> float:
    """Time forward and backward passes and nothing else."""
    synchronise(start.device)
    began = time.perf_counter()
    for _ in range(passes):
        leaf = start.detach().requires_grad_(True)
        torch.autograd.grad(objective(leaf).sum(), leaf)
    synchronise(start.device)
    return time.perf_counter() - began


def search_seconds(objective: Objective, start: Tensor, eps: float, steps: int) -> float:
    synchronise(start.device)
    began = time.perf_counter()
    maximise(objective, start, eps, steps)
    synchronise(start.device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="the bank's, if not given")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--concepts", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200, help="of the comparison with foolbox")
    parser.add_argument("--timed-steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--eps", type=float, default=30.0, help="at 224 px")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def measure_speed(objective: Objective, start: Tensor, eps: float, steps: int, rounds: int) -> dict[str, float]:
    """Time search and bare passes in turns, so that both meet the same machine; medians."""
    bare_seconds(objective, start, 2)
    pairs = [
        (bare_seconds(objective, start, steps), search_seconds(objective, start, eps, steps)) for _ in range(rounds)
    ]
    bare, search = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    return {
        "bare_passes_per_s": steps / bare,
        "steps_per_s": steps / search,
        "share": statistics.median(b / s for b, s in pairs),
    }


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device, bank = pick_device(options.device), ConceptBank.load(options.bank)
    classifier = load_classifier(options.model or bank.info.model, image_size=options.image_size)
    network, side = on_device(classifier, device), classifier.preprocess.size
    eps = eps_at(options.eps, side)
    order = bank.table["eigenvalue"].sort_values(ascending=False, kind="stable").index[: options.concepts]
    rows = np.array_split(order.to_numpy(), -(-len(order) // options.batch_size))

    def batch(part: np.ndarray) -> tuple[Objective, Tensor]:
        directions, offsets = (torch.from_numpy(a[part]).to(device) for a in (bank.directions, bank.offsets))
        start = torch.full((len(part), 3, side, side), 0.5, device=device)
        objective = read_out(network, directions, offsets, "float32")
        return objective, start.contiguous(memory_format=torch.channels_last)

    speed = measure_speed(*batch(order.to_numpy()[: options.batch_size]), eps, options.timed_steps, options.rounds)
    ours, grey, random = [], [], []
    for part in rows:
        objective, start = batch(part)
        ours += maximise(objective, start, eps, options.steps, first_step=NpfvConfig().first_step).objective.tolist()
        grey += foolbox_best(objective, start, eps, options.steps, random_start=False).tolist()
        random += foolbox_best(objective, start, eps, options.steps, random_start=True).tolist()
    theirs = np.maximum(grey, random)
    scores = np.array(ours)
    result = {
        **speed,
        "concepts": len(ours),
        "at_least_as_high": int((scores >= theirs).sum()),
        "at_least_as_high_from_grey": int((scores >= grey).sum()),
        "at_least_as_high_from_random": int((scores >= random).sum()),
        "least_gain": float((scores - theirs).min()),
        "median_gain_share": float(np.median(scores / theirs - 1)),
        "apgd": ours,
        "foolbox_from_grey": grey,
        "foolbox_from_random": random,
    }
    show(result, f"{classifier.spec} at {side} px, batch {options.batch_size}, eps {eps:.4g}, {device}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if result["at_least_as_high"] < len(ours) or speed["share"] < SPEED_BAR:
        sys.exit(1)


def show(result: dict[str, Any], title: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("measured", justify="right")
    table.add_row("bare forward and backward, batches/s", f"{result['bare_passes_per_s']:.2f}")
    table.add_row("search, steps/s", f"{result['steps_per_s']:.2f}")
    table.add_row(f"search / bare (bar {SPEED_BAR:.0%})", f"{result['share']:.1%}")
    table.add_row("at least as high as foolbox", f"{result['at_least_as_high']} of {result['concepts']}")
    table.add_row("least gain over foolbox's better start", f"{result['least_gain']:+.4g}")
    table.add_row("median gain", f"{result['median_gain_share']:+.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
