"""How fast verdicts are acknowledged, with every one on the disk, and how large reviews open.

python benchmarks/review.py [--verdicts 2000] [--items 100000]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from spurious_imagenet.builders.review.forms import load_form
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.builders.review.review import Review

LABELERS = ("ann", "ben")
ANSWERS = {"cue": "yes", "object": "no"}


def make(path: Path, count: int) -> Review:
    """Make a review of ``count`` images, 75 per concept, that nobody opens."""
    items = [
        ReviewItem(
            item_id=f"npca/n{i // 75:08d}/0/{i:016x}",
            kind="image",
            media=f"media/{i:064x}.jpg",
            class_id=f"n{i // 75:08d}",
            class_name="some class",
            concept_id=f"npca/n{i // 75:08d}/0",
            references=tuple(f"/boards/cards/00000/reference-{r}.jpg" for r in range(5)),
            board="/boards/cards/00000/npca-0000.png",
            batch=f"npca/n{i // 75:08d}/0",
            info={"key": str(i), "sha256": f"{i:064x}", "rank": i % 75, "alpha": 1.0},
        )
        for i in range(count)
    ]
    return Review.create(path, "benchmark", load_form("image"), items, LABELERS)


def answer(path: str, labeler: str) -> None:
    """Record one verdict after the other, each acknowledged before the next."""
    review = Review.open(path)
    queue = review.queue(labeler)
    print("ready", flush=True)
    sys.stdin.readline()
    start, slowest = time.perf_counter(), 0.0
    for item_id in queue:
        before = time.perf_counter()
        review.record(labeler, item_id, ANSWERS)
        slowest = max(slowest, time.perf_counter() - before)
    print(f"{time.perf_counter() - start} {slowest}", flush=True)


def at_once(folder: Path, count: int) -> None:
    """Let two labelers' processes answer ``count`` items each at the same time."""
    review = make(folder / "small", count)
    command = [sys.executable, __file__, "--answer", str(review.path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, name], **pipes) for name in LABELERS]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    took = [tuple(map(float, writer.communicate()[0].split())) for writer in writers]
    found = sum(len(Review.open(review.path).verdicts(name)) for name in LABELERS)
    seconds, slowest = max(s for s, _ in took), max(s for _, s in took)
    print(
        f"{len(LABELERS)} labelers x {count} verdicts at once: {seconds:.2f} s, {found / seconds:,.0f} acknowledged a "
        f"second, slowest {1e3 * slowest:.1f} ms; {found} of {len(LABELERS) * count} there"
    )


def large(folder: Path, count: int) -> None:
    """Make, open and read a review of ``count`` items that two labelers have finished."""
    start = time.perf_counter()
    review = make(folder / "large", count)
    print(f"{count:,} items: made in {time.perf_counter() - start:.1f} s", flush=True)
    for name in LABELERS:
        review.record_many(name, [(item_id, ANSWERS) for item_id in review.queue(name)])
    start = time.perf_counter()
    review = Review.open(review.path)
    opened = time.perf_counter()
    review.status()
    first = time.perf_counter()
    review.status()
    second = time.perf_counter()
    review.record("ann", review.queue("ann")[0], ANSWERS)
    print(
        f"opened in {opened - start:.1f} s, first status with {len(LABELERS) * count:,} verdicts in "
        f"{first - opened:.1f} s, later ones {second - first:.1f} s; "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


def main() -> None:
    """Run both, in a temporary folder of the working directory's disk."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--verdicts", type=int, default=2000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--answer", nargs=2)
    arguments = parser.parse_args()
    if arguments.answer:
        answer(*arguments.answer)
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        at_once(Path(folder), arguments.verdicts)
        large(Path(folder), arguments.items)


if __name__ == "__main__":
    main()
