"""What SpuFix costs in a forward pass.

    python benchmarks/spufix.py --model wheel:efficientnet_lite0 --image-size 224

The bare model and the corrected one run on the same batch of 64 images, in turns in one run; the overhead is that of
the medians, and the bar is 3 %. The correction has as many random directions as SFE found: 322 of 230 classes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from spurious_imagenet.benchmark.mitigation.spufix_file import Spufix, SpufixDirection, SpufixInfo, labels_digest
from spurious_imagenet.benchmark.mitigation.spufix_module import SpufixCore
from spurious_imagenet.models import Classifier, load_classifier
from spurious_imagenet.models.devices import pick_device

BAR = 0.03
BATCH = 64
DIRECTIONS, CLASSES = 322, 230


def random_correction(classifier: Classifier) -> Spufix:
    """Draw directions spread over classes as the published ones are."""
    rng, labels = np.random.default_rng(0), classifier.labels
    classes = rng.choice(len(labels), min(CLASSES, len(labels)), replace=False)
    index = np.sort(np.resize(classes, DIRECTIONS)).astype(np.int64)
    info = SpufixInfo(
        code_version=version("spurious-imagenet"),
        model=classifier.spec,
        weights_sha256=classifier.weights_sha256,
        image_size=classifier.preprocess.size,
        label_space=labels.name,
        labels_sha256=labels_digest(labels),
        scorer="random",
        scorer_sha256="0" * 64,
        directions=tuple(
            SpufixDirection(concept_id=str(i), class_id=labels.class_ids[k], component=i) for i, k in enumerate(index)
        ),
    )
    readouts = rng.standard_normal((DIRECTIONS, classifier.feature_dim), dtype=np.float32)
    return Spufix(readouts, np.zeros(DIRECTIONS, np.float32), index, info)


def forward(core: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Make a function that runs a core on a batch and waits for the result."""

    def run() -> None:
        core(images)
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def seconds_in_turns(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Time each way once a round, after one round that does not count; every other round goes backwards."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            ways[name]()
            if turn:
                taken[name].append(time.perf_counter() - begin)
    return taken


def main() -> None:
    """Measure and print; exit 1 where the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="wheel:efficientnet_lite0")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", help="Write the figures to this file.")
    args = parser.parse_args()
    device = pick_device(args.device)
    classifier = load_classifier(args.model, image_size=args.image_size)
    size = classifier.preprocess.size
    bare = classifier.network.core.to(device)
    fixed = SpufixCore(bare, random_correction(classifier), len(classifier.labels)).to(device).eval()
    images = torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        taken = seconds_in_turns({"bare": forward(bare, images), "corrected": forward(fixed, images)}, args.rounds)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    overhead = medians["corrected"] / medians["bare"] - 1
    figures = {
        "model": args.model,
        "image_size": size,
        "device": device.type,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "directions": DIRECTIONS,
        "rounds": args.rounds,
        "seconds": taken,
        "median_seconds": medians,
        "overhead": overhead,
        "bar": BAR,
    }
    table = Table(title=f"{args.model} at {size} px, batches of {BATCH}, {device.type}")
    for header in ("", "median s", "fastest s", "slowest s"):
        table.add_column(header, justify="right")
    for name, values in taken.items():
        table.add_row(name, *(f"{x:.4f}" for x in (medians[name], min(values), max(values))))
    console = Console()
    console.print(table)
    console.print(f"overhead {overhead:+.2%} (bar {BAR:.0%})")
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    sys.exit(overhead > BAR)


if __name__ == "__main__":
    main()
