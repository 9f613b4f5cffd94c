"""What scoring an entry again costs when images are retired, that nothing changes by it, and that writers side by side
lose nothing.

    python benchmarks/leaderboard.py [--entries 2000] [--json FILE]

Makes a version of 100 classes of 50 validation and 75 spurious images and a store of random entries, scores them,
retires ten images, scores all again from the stored predictions, and compares a sample with scores from scratch: of a
version that never had these images, and predictions that never were of them. Then processes add entries to another
store side by side, each of which two of them add; one of them is killed in the middle.

Seconds are the processor's, but for `wall_seconds` of rescoring; those of a submission hold the start of the processes
and the drawing of the resamples, which all entries share. Beside them stand what no way of scoring from stored
predictions saves: reading the parquet file, and the bootstrap of both metrics alone.
Fails where a figure differs in a bit, or an entry is lost, torn or there twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from spurious_imagenet.benchmark.metrics.bootstrap import bootstrap_ap, bootstrap_auc
from spurious_imagenet.benchmark.metrics.resamples import SPURIOUS, VALIDATION, BootstrapResamples
from spurious_imagenet.datasets.manifest import SelectionModel, images_sha256
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.entry import SubmissionInfo
from spurious_imagenet.leaderboard.scoring.score import ScoredEntry
from spurious_imagenet.leaderboard.scoring.scoring import score_entry
from spurious_imagenet.leaderboard.store.rescore import rescore
from spurious_imagenet.leaderboard.store.retiring import retire
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.predictions import as_predictions
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.version import IMAGES_SCHEMA, BenchmarkVersion, VersionInfo

KEYS = ["side", "class_id", "sha256"]
MINERS = tuple(SelectionModel(model=f"timm:miner{i}", role="voter" if i else "scorer") for i in range(4))


def digest(*parts: object) -> str:
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()


def make_version(classes: int, validation: int, spurious: int, name: str = "1.0.0", resamples: int = 1000) -> Any:
    """Make a version of images that are hashes only; every spurious image has the votes of three or four miners."""
    rows = []
    for c in (f"n{i:08d}" for i in range(classes)):
        rows += [{"side": "validation", "class_id": c, "sha256": digest("v", c, i)} for i in range(validation)]
        for i in range(spurious):
            votes = [
                {"model": m.model, "class_id": c if j != i % 5 else "other", "class_name": "", "probability": 0.9}
                for j, m in enumerate(MINERS)
            ]
            row = {"side": "spurious", "class_id": c, "concept_id": f"npca/{c}/0", "sha256": digest("s", c, i)}
            rows.append(row | {"models": votes})
    images = pa.Table.from_pylist(
        [r | {"name": f"row {i}", "class_name": r["class_id"]} for i, r in enumerate(rows)], schema=IMAGES_SCHEMA
    ).to_pandas()
    return of_images(images, name, resamples)


def of_images(images: pd.DataFrame, name: str, resamples: int = 1000) -> BenchmarkVersion:
    spurious, validation = (images[images["side"] == side] for side in ("spurious", "validation"))
    info = VersionInfo(
        name="Random",
        version=name,
        dataset_sha256=images_sha256(spurious, ["class_id", "concept_id", "sha256"]),
        validation_sha256=images_sha256(validation, ["class_id", "sha256"]),
        class_names={str(c): str(c) for c in sorted(set(spurious["class_id"]))},
        miners=MINERS,
        min_agree=3,
        resamples=resamples,
    )
    return BenchmarkVersion(info, images)


def make_submission(version: BenchmarkVersion, seed: int) -> Submission:
    """Make random predictions, five classes per image."""
    rng = np.random.default_rng(seed)
    table = version.images[KEYS].drop_duplicates(ignore_index=True)
    shown = (table["side"] == "validation").to_numpy()
    own = np.where(shown, rng.beta(4, 1, len(table)), rng.beta(1, 2, len(table)))
    share = (1 - own)[:, None] * np.array([0.6, 0.25, 0.1, 0.05])
    probability = np.concatenate([own[:, None], share], axis=1)
    others = np.array([f"n9999999{i}" for i in range(4)], object)
    ids = np.concatenate([table["class_id"].to_numpy(object)[:, None], np.tile(others, (len(table), 1))], axis=1)
    order = np.argsort(-probability, axis=1, kind="stable")
    table["probability"] = own
    table["top5_id"] = np.take_along_axis(ids, order, axis=1).tolist()
    table["top5_probability"] = list(np.take_along_axis(probability, order, axis=1).astype(np.float32))
    info = SubmissionInfo(
        model=f"model {seed}",
        authors=("nobody",),
        training_data="none",
        licence="CC0-1.0",
        weights_sha256=digest("weights", seed),
        protocol=Protocol.STANDARD,
        dataset_version=version.info.version,
        dataset_sha256=version.info.dataset_sha256,
        validation_sha256=version.info.validation_sha256,
    )
    return Submission(info, table)


def seconds(function: Any, times: int = 5) -> float:
    """Return the median processor time of a call."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return median(taken)


def of_children() -> float:
    """Return the processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bootstrap_alone(store: Store, entry_id: str) -> float:
    """Time the bootstrap of both metrics of every class, its draws and its inputs being there."""
    version = store.version()
    draws = BootstrapResamples(version.info.resamples, version.info.seed, 1 << 30)
    table = store.predictions(entry_id).table
    scores = {key: rows["probability"].to_numpy() for key, rows in table.groupby(["class_id", "side"])}

    def run() -> None:
        for c in version.info.class_names:
            v, s = scores[c, "validation"], scores[c, "spurious"]
            counts = draws.counts(len(v), c, VALIDATION), draws.counts(len(s), c, SPURIOUS)
            bootstrap_ap(v, s, *counts)
            bootstrap_auc(v, s, *counts)

    run()
    return seconds(run)


def equal(a: ScoredEntry | None, b: ScoredEntry) -> bool:
    """Tell whether two scores are the same to the bit."""
    if a is None or a.score != b.score or a.resampled.keys() != b.resampled.keys():
        return False
    return all(np.array_equal(a.resampled[name], b.resampled[name]) for name in b.resampled)


def rescoring(folder: Path, entries: int, sample: int, workers: int, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Fill a store, retire ten images, rescore, and compare."""
    version = make_version(*shape)
    store = Store(folder, create=True)
    store.add_version(version)
    ids = [store.add(make_submission(version, seed)).id for seed in range(entries)]
    one_more = make_submission(version, entries)
    listing = seconds(lambda: Store(folder).entries(), 3)
    first = rescore(store, workers=workers)
    summaries = seconds(lambda: Store(folder).summaries(), 1)
    spurious = version.side("spurious")["sha256"].tolist()
    gone = spurious[:: len(spurious) // 10][:10]
    retire(store, gone, "A benchmark.", "1.0.1")
    before = of_children(), time.process_time()
    again = rescore(store, workers=workers)
    used = of_children() - before[0] + time.process_time() - before[1]
    images = version.images[~version.images["sha256"].isin(gone)].reset_index(drop=True)
    fresh = of_images(images, "1.0.1")
    different = 0
    for seed in np.linspace(0, entries - 1, sample).astype(int):
        table = make_submission(version, int(seed)).table
        predictions = as_predictions(table[~table["sha256"].isin(gone)].reset_index(drop=True), fresh)
        entry = store.entry(ids[seed])
        different += not equal(store.scored(entry.id), score_entry(entry, predictions, fresh))
    last = store.entry(ids[-1])
    found = score_entry(last, store.predictions(last.id), store.version())
    return {
        "entries": entries,
        "images": len(version.images),
        "processes": workers,
        "rescored": again.scored,
        "scored_before": first.scored,
        "compared_with_scratch": sample,
        "different": different,
        "wall_seconds": again.seconds,
        "seconds_a_submission": used / entries,
        "of_it_read_parquet": seconds(lambda: store.submitted(last.id)),
        "of_it_join_images": seconds(lambda: store.predictions(last.id)) - seconds(lambda: store.submitted(last.id)),
        "of_it_score": seconds(lambda: score_entry(last, store.predictions(last.id), store.version()))
        - seconds(lambda: store.predictions(last.id)),
        "bootstrap_alone": bootstrap_alone(store, last.id),
        "write_score": seconds(lambda: Store(folder / "other", create=True).add_score(found), 1),
        "add_a_submission": seconds(lambda: Store(folder / "other", create=True).add(one_more), 1),
        "list_all_entries": listing,
        "read_all_summaries": summaries,
        "bytes_a_submission": sum(f.stat().st_size for f in (folder / "entries").rglob("*.*")) / entries,
    }


def writer(folder: str, first: int, count: int, done: Any) -> None:
    """Add some submissions; each is added by one other writer too."""
    store = Store(folder)
    version = store.version()
    for seed in range(first, first + count):
        store.add(make_submission(version, seed))
        done.value += 1


def writers(folder: Path, processes: int, each: int) -> dict[str, Any]:
    """Add submissions from several processes, one of which is killed while it adds and started again."""
    version = make_version(5, 50, 75, resamples=50)
    store = Store(folder, create=True)
    store.add_version(version)
    context = multiprocessing.get_context("spawn")
    total = processes * each
    # Without locks, which a killed process would keep.
    done = [context.Value("i", 0, lock=False) for _ in range(2 * processes)]
    # Every submission is added by two processes at about the same time.
    jobs = [(str(folder), (place % processes) * each, each, done[place]) for place in range(processes)]
    running = [context.Process(target=writer, args=job) for job in jobs]
    running += [context.Process(target=writer, args=(*job[:3], done[processes])) for job in jobs[:1]]
    for process in running:
        process.start()
    victim = running[1]
    while done[1].value < each // 3 and victim.is_alive():
        time.sleep(0.001)
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    killed_after = done[1].value
    restarted = context.Process(target=writer, args=(*jobs[1][:3], done[-1]))
    restarted.start()
    for process in [*running, restarted]:
        process.join()
    fresh = Store(folder)
    entries = fresh.entries()
    expected = {make_submission(version, seed).info.model for seed in range(total)}
    torn = sum(fresh.submitted(entry.id).shape[0] != len(version.images) for entry in entries)
    return {
        "processes": processes,
        "submissions": total,
        "killed_after": killed_after,
        "entries": len(entries),
        "missing": len(expected - {e.info.model for e in entries}),
        "twice": len(entries) - len({e.info.model for e in entries}),
        "torn": torn + len(fresh.broken),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=2000)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--each", type=int, default=25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leaderboard-") as directory:
        shape = options.classes, 50, 75
        found = rescoring(Path(directory) / "rescoring", options.entries, options.sample, options.workers, shape)
        side_by_side = writers(Path(directory) / "writers", options.processes, options.each)
    results = {"rescoring": found, "writers": side_by_side}
    for title, part in results.items():
        table = Table(title=title, title_justify="left", show_header=False)
        for name, value in part.items():
            table.add_row(name.replace("_", " "), f"{value:.4f}" if isinstance(value, float) else str(value))
        Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    lost = side_by_side["missing"] + side_by_side["twice"] + side_by_side["torn"]
    unscored = 2 * options.entries - found["rescored"] - found["scored_before"]
    if found["different"] or lost or unscored:
        sys.exit(f"{found['different']} scores differ, {lost} entries lost, torn or twice, {unscored} without a score.")


if __name__ == "__main__":
    main()
