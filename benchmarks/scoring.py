"""How close the search for top images, as mining runs it, comes to what the machine allows.

    python benchmarks/scoring.py --images 100000

Makes a feature store in a temporary directory (2.6 GB at the default size), searches it, and deletes it. An image
meets only the concepts of the class that the model assigns it to. The floor is reading the files once, plus the bare
float32 product of blocks that are ready in memory with as many concepts as a class has.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from spurious_imagenet.builders.mining.scoring import top_of_assigned
from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig

BLOCK = 4096


def make_store(path: Path, images: int, dim: int, classes: int, shard: int) -> FeatureStore:
    """Write a store of rectified normal features, as penultimate features look, assigned to classes at random."""
    config = StoreConfig(
        model="random", weights_sha256="0" * 64, label_space="none", class_ids=("a",), feature_dim=dim, preprocess={}
    )
    store = FeatureStore.create(path, config)
    rng = np.random.default_rng(0)
    for first in range(0, images, shard):
        count = min(shard, images - first)
        features = np.maximum(rng.standard_normal((count, dim), dtype=np.float32), 0).astype(np.float16)
        assigned = rng.integers(0, classes, count).tolist()
        rows = [{"key": f"{first + i:08d}", "top5_index": [k] * 5} for i, k in enumerate(assigned)]
        store.write_part(
            shard=f"{first:08d}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=features,
            rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
    return store


def make_bank(store: FeatureStore, classes: int, components: int) -> ConceptBank:
    """Draw random concepts, so many of each class."""
    dim = store.config.feature_dim
    concepts = classes * components
    directions = np.random.default_rng(1).standard_normal((concepts, dim), dtype=np.float32)
    owner, component = np.divmod(np.arange(concepts), components)
    table = pd.DataFrame({"class_index": owner, "component": component})
    table["concept_id"] = [f"random/{k}/{i}" for k, i in zip(owner, component, strict=True)]
    table = table.assign(kind="random", class_id=table["class_index"].astype(str), class_name="", name="")
    info = BankInfo(
        model="random",
        weights_sha256=store.config.weights_sha256,
        feature_dim=dim,
        feature_config_sha256=store.config.sha256,
    )
    return ConceptBank(directions, np.zeros(concepts, np.float32), table, info)


def read_seconds(store: FeatureStore) -> float:
    """Time plain reads of every feature file, in blocks, into one buffer."""
    buffer = bytearray(BLOCK * store.config.feature_dim * 2)
    start = time.perf_counter()
    for part in store.parts:
        with (part.path / "features.npy").open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start


def product_seconds(store: FeatureStore, bank: ConceptBank, components: int) -> float:
    """Time the matrix product alone, on as many rows in blocks of the same sizes, with nothing allocated."""
    directions = torch.from_numpy(bank.directions[:components])
    features = torch.from_numpy(store.parts[0].features()[:BLOCK].astype(np.float32))
    scores = torch.empty(BLOCK, components)
    torch.mm(features, directions.T, out=scores[: len(features)])
    start = time.perf_counter()
    for part in store.parts:
        for first in range(0, len(part), BLOCK):
            rows = min(BLOCK, len(part) - first)
            torch.mm(features[:rows], directions.T, out=scores[:rows])
    return time.perf_counter() - start


def peak_bytes() -> int:
    """Return this process's peak resident set (Linux); `getrusage` would count the parent's peak before exec."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def search(path: Path, classes: int, components: int, n: int) -> None:
    """Search a store in a process of its own, and print seconds and peak resident bytes."""
    store = FeatureStore.open(path)
    bank = make_bank(store, classes, components)
    before = peak_bytes()
    start = time.perf_counter()
    top_of_assigned(bank, store, n)
    seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak_bytes(), "before": before}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 1_000_000), ("dim", 1280), ("classes", 1000), ("components", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("top", 625), ("shard", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--temp", type=Path, help="where to put the temporary store")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search:
        search(args.search, args.classes, args.components, args.top)
        return
    Console().print(_search_table(args))


def _search_table(args: argparse.Namespace) -> Table:
    with tempfile.TemporaryDirectory(dir=args.temp) as directory:
        store = make_store(Path(directory) / "store", args.images, args.dim, args.classes, args.shard)
        bank = make_bank(store, args.classes, args.components)
        # Before and after the search, so that a drift of the machine shows and evens out.
        floors = [(read_seconds(store), product_seconds(store, bank, args.components))]
        command = [sys.executable, __file__, "--search", str(store.path), f"--classes={args.classes}"]
        run = json.loads(subprocess.check_output([*command, f"--components={args.components}", f"--top={args.top}"]))
        floors.append((read_seconds(store), product_seconds(store, bank, args.components)))
    reading, product = (sum(column) / 2 for column in zip(*floors, strict=True))
    table = Table("what", "seconds", "to floor", title=f"top {args.top} of {args.images:,} x {args.dim:,} features")
    seconds = {
        "reading the files": reading,
        f"matrix product, {args.components:,} concepts": product,
        "floor": reading + product,
        "top_of_assigned": run["seconds"],
    }
    for what, value in seconds.items():
        table.add_row(what, f"{value:.2f}", f"{value / (reading + product):.2f}")
    table.caption = f"peak resident {run['peak'] / 1e9:.2f} GB, {run['before'] / 1e9:.2f} GB of it before the search"
    return table


if __name__ == "__main__":
    main()
