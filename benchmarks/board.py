"""What a board of thousands of entries costs: to read and rank, to export, to open and filter in a browser.

    python benchmarks/board.py [--entries 2000] [--json FILE]

Makes a version of 100 classes of 50 validation and 75 spurious images and entries whose scores are one real score, each
moved by its own amount. Beside the figures stand floors that no way of doing it saves: reading the bytes that the
scores have and checking their hashes, writing the bytes that the site has, and parsing the table in the browser.
Seconds are of the clock; of a page the median of several. Fails where the table takes 2 s to open or 200 ms to filter.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from leaderboard import make_submission, make_version
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from spurious_imagenet.benchmark.metrics.values import Interval
from spurious_imagenet.images import Protocol
from spurious_imagenet.leaderboard.pages.board import BoardData
from spurious_imagenet.leaderboard.pages.export import export_site
from spurious_imagenet.leaderboard.pages.site import Site
from spurious_imagenet.leaderboard.scoring.ranking import rank_entries
from spurious_imagenet.leaderboard.scoring.score import ScoredEntry
from spurious_imagenet.leaderboard.scoring.scoring import score_entry
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.leaderboard.submission.read import Submission
from spurious_imagenet.leaderboard.version import BenchmarkVersion

DATA = ("ImageNet-1k", "ImageNet-21k", "LAION-2B", "JFT-300M")
FILTER = """(text) => {
  const box = document.getElementById("q"), from = performance.now();
  box.value = text; box.dispatchEvent(new Event("input"));
  document.getElementById("body").getBoundingClientRect();
  return performance.now() - from;
}"""
PARSE = """async (address) => {
  const text = await (await fetch(address)).text(), from = performance.now();
  new Function("window", text.replace('"use strict";', ""))({});
  return performance.now() - from;
}"""


def fill(store: Store, version: BenchmarkVersion, count: int) -> None:
    """Add entries whose scores are one real score, each moved by its own amount: nothing is resampled again."""
    first = make_submission(version, 0)
    entry = store.add(first)
    real = score_entry(entry, store.predictions(entry.id), version)
    for seed in range(count):
        rng = np.random.default_rng(seed)
        changes = {
            "model": f"model {seed} of {rng.choice(['ResNet', 'ViT', 'ConvNeXt', 'Swin'])}",
            "weights_sha256": hashlib.sha256(str(seed).encode()).hexdigest(),
            "training_data": str(rng.choice(DATA)),
            "protocol": Protocol.PAPER if seed % 4 == 0 else Protocol.STANDARD,
            "parameters": int(rng.integers(1e6, 1e9)),
        }
        made = store.add(Submission(info=first.info.model_copy(update=changes), table=first.table))
        store.add_score(moved(real, made.id, float(rng.normal(0, 0.03)), rng))


def moved(real: ScoredEntry, entry_id: str, by: float, rng: np.random.Generator) -> ScoredEntry:
    score = real.score
    mean = score.mean.model_copy(
        update={"spurious_auc": score.mean.spurious_auc + by, "spurious_ap": score.mean.spurious_ap + by}
    )
    intervals = {k: Interval(low=v.low + by, high=v.high + by) for k, v in score.mean_intervals.items()}
    accuracy = float(np.clip(score.accuracy + rng.normal(0, 0.02), 0, 1))
    moved = score.model_copy(
        update={"entry": entry_id, "mean": mean, "mean_intervals": intervals, "accuracy": accuracy}
    )
    noise = {k: (v + by + rng.normal(0, 0.003, v.shape)).astype(np.float32) for k, v in real.resampled.items()}
    return ScoredEntry(moved, noise)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = function()
    return found, time.perf_counter() - began


def read_scores(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        hashlib.sha256(path.read_bytes()).hexdigest()


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def pages(store: Store) -> dict[str, float]:
    """Time the pages that need every entry, each asked for first."""
    data, read = timed(lambda: BoardData.read(store))
    board, site = data.latest, Site(data)
    contenders = [(e, board.scored[e.id], None) for e in board.entries.values()]
    return {
        "read_the_board": read,
        "floor_read_and_hash_the_scores": timed(lambda: read_scores(Path(store.url) / "scores"))[1],
        "of_it_rank": timed(lambda: rank_entries(contenders))[1],
        "classes_html_first": timed(lambda: site.file("classes.html"))[1],
        "classes_html_again": timed(lambda: site.file("classes.html"))[1],
        "table_script": timed(lambda: site.file(f"data/table-{board.name}.js"))[1],
    }


def in_chromium(folder: Path) -> dict[str, float]:
    """Open the exported table and filter it."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page, base = browser.new_page(bypass_csp=True), f"http://127.0.0.1:{server.server_port}/"

        def open_page() -> None:
            page.goto(f"{base}index.html?protocol=")
            page.wait_for_selector("html[data-ready]")

        opened = median(timed(open_page)[1] for _ in range(5))
        took = [median(page.evaluate(FILTER, text) for _ in range(9)) for text in ("vit", "resnet 1", "199", "")]
        parsed = median(page.evaluate(PARSE, f"{base}data/table-1.0.0.js") for _ in range(5))
        browser.close()
        server.shutdown()
    return {
        "open_the_table": opened,
        "floor_parse_its_data": parsed / 1000,
        "filter_the_table_slowest": max(took) / 1000,
    }


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="board-") as directory:
        folder = Path(directory)
        version = make_version(options.classes, 50, 75)
        store = Store(folder / "board", create=True)
        store.add_version(version)
        fill(store, version, options.entries)
        results: dict[str, float] = {"entries": options.entries}
        results |= pages(Store(folder / "board"))
        done, results["export"] = timed(lambda: export_site(Store(folder / "board"), folder / "site"))
        results["floor_write_its_bytes"] = timed(lambda: copy(folder / "site", folder / "copy"))[1]
        results |= {"export_files": done.files, "export_mb": done.bytes / 1e6}
        results["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        results |= in_chromium(folder / "site")
    table = Table(title="A board, seconds", title_justify="left", show_header=False)
    for name, value in results.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    if results["open_the_table"] >= 2 or results["filter_the_table_slowest"] >= 0.2:
        sys.exit("the table opens or filters too slowly.")


if __name__ == "__main__":
    main()
