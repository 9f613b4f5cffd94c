"""What bootstrapping AP and AUC by counts saves over scikit-learn in a loop, and that both give the same numbers.

    python benchmarks/bootstrap.py

Draws scores of every class (75 images of the class against 50 spurious ones, with ties), bootstraps both metrics of all
classes, and runs scikit-learn on the same resamples of a few classes, which stand for the rest. Seconds are the
processor's; ours hold the drawing of the counts, theirs do not. Fails where a speed-up is below the bar or two numbers
differ by more than 1e-12.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score, roc_auc_score

from spurious_imagenet.benchmark.metrics import bootstrap_ap, bootstrap_auc, bootstrap_counts, class_rng

Floats = NDArray[np.float64]
Scores = list[tuple[Floats, Floats]]

TOLERANCE = 1e-12
METRICS: dict[str, tuple[Callable[..., Floats], Callable[..., float]]] = {
    "spurious_ap": (bootstrap_ap, average_precision_score),
    "spurious_auc": (bootstrap_auc, roc_auc_score),
}


def draw_scores(classes: int, validation: int, spurious: int) -> Scores:
    """Draw probabilities of three decimals, so that some tie."""
    rng = np.random.default_rng(0)
    return [(rng.beta(4, 1, validation).round(3), rng.beta(1, 2, spurious).round(3)) for _ in range(classes)]


def draw_counts(place: int, scores: tuple[Floats, Floats], resamples: int) -> list[NDArray[np.int32]]:
    """Draw the resamples of one class."""
    return [bootstrap_counts(len(s), resamples, class_rng(0, str(place), side)) for side, s in enumerate(scores)]


def ours(metric: Callable[..., Floats], scores: Scores, resamples: int) -> tuple[float, list[Floats]]:
    """Bootstrap a metric of every class; return seconds and values."""
    start = time.process_time()
    values = [metric(*both, *draw_counts(i, both, resamples)) for i, both in enumerate(scores)]
    return time.process_time() - start, values


def looped(metric: Callable[..., float], scores: Scores, resamples: int) -> tuple[float, list[Floats]]:
    """Call scikit-learn once a resample; return seconds and values."""
    seconds, values = 0.0, []
    for place, (validation, spurious) in enumerate(scores):
        counts = np.concatenate(draw_counts(place, (validation, spurious), resamples), axis=1)
        counts = np.ascontiguousarray(counts)
        labels = np.repeat([1, 0], [len(validation), len(spurious)])
        both = np.concatenate([validation, spurious])
        start = time.process_time()
        values.append(np.array([metric(labels, both, sample_weight=weights) for weights in counts]))
        seconds += time.process_time() - start
    return seconds, values


def measure(name: str, scores: Scores, resamples: int, reference_classes: int, repeats: int) -> dict[str, Any]:
    """Time both ways and compare their numbers."""
    fast, slow = METRICS[name]
    ours(fast, scores[:1], resamples)
    runs = [ours(fast, scores, resamples) for _ in range(repeats)]
    seconds = float(np.median([run[0] for run in runs]))
    loop_seconds, reference = looped(slow, scores[:reference_classes], resamples)
    pairs = zip(runs[0][1], reference, strict=False)
    extrapolated = loop_seconds * len(scores) / reference_classes
    return {
        "metric": name,
        "seconds": seconds,
        "loop_seconds": extrapolated,
        "speedup": extrapolated / seconds,
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in pairs),
    }


def main() -> None:
    """Measure, print, and fail below the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"classes": 100, "resamples": 1000, "validation": 75, "spurious": 50, "reference-classes": 3}
    for name, default in (defaults | {"repeats": 3, "bar": 500}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    scores = draw_scores(args.classes, args.validation, args.spurious)
    rows = [measure(name, scores, args.resamples, args.reference_classes, args.repeats) for name in METRICS]
    if args.json:
        sys.stdout.write(json.dumps({**vars(args), "results": rows}, indent=1) + "\n")
    else:
        Console().print(_table(rows, args))
    if any(row["speedup"] < args.bar or row["largest_difference"] > TOLERANCE for row in rows):
        sys.exit(f"expected speed-ups of at least {args.bar} and differences of at most {TOLERANCE}.")


def _table(rows: list[dict[str, Any]], args: argparse.Namespace) -> Table:
    title = f"{args.classes} classes x {args.resamples:,} resamples, {args.validation} against {args.spurious} images"
    table = Table("metric", "ours", "scikit-learn loop", "speed-up", "largest difference", title=title)
    for r in rows:
        times = f"{r['seconds']:.2f} s", f"{r['loop_seconds']:.0f} s", f"{r['speedup']:,.0f}"
        table.add_row(r["metric"], *times, f"{r['largest_difference']:.1e}")
    return table


if __name__ == "__main__":
    main()
