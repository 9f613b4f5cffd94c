"""How close the search for top images comes to what the machine allows, and what streaming saves over merging.

    python benchmarks/scoring.py --images 100000

Makes a feature store in a temporary directory (2.6 GB at the default size), searches it, and deletes it. The floor is
the bare float32 matrix product on blocks that are ready in memory, plus reading the files once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from spurious_imagenet.builders.mining.scoring import top_of_store
from spurious_imagenet.builders.mining.topn import StreamingTopN
from spurious_imagenet.concepts import BankInfo, ConceptBank
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig

Blocks = list[NDArray[np.float32]]

BLOCK = 4096
BATCH = 256


def make_store(path: Path, images: int, dim: int, shard: int) -> FeatureStore:
    """Write a store of rectified normal features, as penultimate features look."""
    config = StoreConfig(
        model="random", weights_sha256="0" * 64, label_space="none", class_ids=("a",), feature_dim=dim, preprocess={}
    )
    store = FeatureStore.create(path, config)
    rng = np.random.default_rng(0)
    for first in range(0, images, shard):
        count = min(shard, images - first)
        features = np.maximum(rng.standard_normal((count, dim), dtype=np.float32), 0).astype(np.float16)
        keys = [{"key": f"{first + i:08d}"} for i in range(count)]
        store.write_part(
            shard=f"{first:08d}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=features,
            rows=pa.Table.from_pylist(keys, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
    return store


def make_bank(store: FeatureStore, concepts: int) -> ConceptBank:
    """Draw random concepts."""
    dim = store.config.feature_dim
    directions = np.random.default_rng(1).standard_normal((concepts, dim), dtype=np.float32)
    names = [f"random/{i}" for i in range(concepts)]
    table = pd.DataFrame({"concept_id": names, "kind": "random", "class_index": 0, "class_id": "a", "component": 0})
    table = table.assign(class_name="", name="")
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


def product_seconds(store: FeatureStore, bank: ConceptBank) -> float:
    """Time the matrix product alone, on as many rows in blocks of the same sizes, with nothing allocated."""
    directions = torch.from_numpy(bank.directions)
    features = torch.from_numpy(store.parts[0].features()[:BLOCK].astype(np.float32))
    scores = torch.empty(BLOCK, len(bank))
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


def search(path: Path, concepts: int, n: int) -> None:
    """Search a store in a process of its own, and print seconds and peak resident bytes."""
    store = FeatureStore.open(path)
    bank = make_bank(store, concepts)
    before = peak_bytes()
    start = time.perf_counter()
    top_of_store(bank, store, n)
    seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak_bytes(), "before": before}))


def topk_and_merge(blocks: Blocks, n: int) -> None:
    """Merge each batch into the best so far with `torch.topk`, the plain way."""
    concepts = blocks[0].shape[1]
    best, ids = torch.full((concepts, n), -torch.inf), torch.full((concepts, n), -1)
    first = 0
    for block in blocks:
        both = torch.cat([best, torch.from_numpy(block).T], dim=1)
        both_ids = torch.cat([ids, torch.arange(first, first + len(block)).expand(concepts, -1)], dim=1)
        best, kept = both.topk(n, dim=1)
        ids = both_ids.gather(1, kept)
        first += len(block)


def partition_and_merge(blocks: Blocks, n: int) -> None:
    """Merge each batch into the best so far with `numpy.argpartition`."""
    concepts = blocks[0].shape[1]
    best, ids = np.full((concepts, n), -np.inf, np.float32), np.full((concepts, n), -1)
    first = 0
    for block in blocks:
        both = np.concatenate([best, block.T], axis=1)
        both_ids = np.concatenate([ids, np.tile(np.arange(first, first + len(block)), (concepts, 1))], axis=1)
        kept = np.argpartition(both, len(block), axis=1)[:, len(block) :]
        best, ids = np.take_along_axis(both, kept, 1), np.take_along_axis(both_ids, kept, 1)
        first += len(block)


def stream(blocks: Blocks, n: int) -> None:
    """Merge each batch with the streaming kernel."""
    top = StreamingTopN(blocks[0].shape[1], n)
    first = 0
    for block in blocks:
        top.update(block, np.arange(first, first + len(block)))
        first += len(block)
    top.result()


def merge_seconds(images: int, concepts: int, n: int) -> Iterator[tuple[str, list[float]]]:
    """Time the three ways of merging on random, ascending and descending scores."""
    scores = np.random.default_rng(2).standard_normal((images, concepts), dtype=np.float32)
    for order in ("random", "ascending", "descending"):
        if order == "ascending":
            scores.sort(axis=0)
        elif order == "descending":
            scores = scores[::-1].copy()
        blocks = [scores[first : first + BATCH] for first in range(0, images, BATCH)]
        yield order, [_seconds(merge, blocks, n) for merge in (topk_and_merge, partition_and_merge, stream)]


def _seconds(merge: Callable[[Blocks, int], None], blocks: Blocks, n: int) -> float:
    start = time.perf_counter()
    merge(blocks, n)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 1_000_000), ("dim", 1280), ("concepts", 1000), ("top", 625), ("shard", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--merge-images", type=int, default=50_000)
    parser.add_argument("--temp", type=Path, help="where to put the temporary store")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.search:
        search(args.search, args.concepts, args.top)
        return
    console = Console()
    console.print(_search_table(args))
    table = Table("order", "topk and merge", "argpartition and merge", "StreamingTopN", "topk / streaming")
    for order, (topk, partition, ours) in merge_seconds(args.merge_images, args.concepts, args.top):
        table.add_row(order, f"{topk:.2f} s", f"{partition:.2f} s", f"{ours:.2f} s", f"{topk / ours:.1f}")
    table.title = f"top {args.top} of {args.merge_images:,} x {args.concepts:,} scores in batches of {BATCH}"
    console.print(table)


def _search_table(args: argparse.Namespace) -> Table:
    with tempfile.TemporaryDirectory(dir=args.temp) as directory:
        store = make_store(Path(directory) / "store", args.images, args.dim, args.shard)
        bank = make_bank(store, args.concepts)
        # Before and after the search, so that a drift of the machine shows and evens out.
        floors = [(read_seconds(store), product_seconds(store, bank))]
        command = [sys.executable, __file__, "--search", str(store.path), f"--concepts={args.concepts}"]
        run = json.loads(subprocess.check_output([*command, f"--top={args.top}"]))
        floors.append((read_seconds(store), product_seconds(store, bank)))
    reading, product = (sum(column) / 2 for column in zip(*floors, strict=True))
    table = Table("what", "seconds", "to floor", title=f"top {args.top} of {args.images:,} x {args.dim:,} features")
    seconds = {
        "reading the files": reading,
        f"matrix product, {args.concepts:,} concepts": product,
        "floor": reading + product,
        "top_of_store": run["seconds"],
    }
    for what, value in seconds.items():
        table.add_row(what, f"{value:.2f}", f"{value / (reading + product):.2f}")
    table.caption = f"peak resident {run['peak'] / 1e9:.2f} GB, {run['before'] / 1e9:.2f} GB of it before the search"
    return table


if __name__ == "__main__":
    main()
