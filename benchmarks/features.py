"""Throughput of `spurious features` against its floors and against what a user would write instead.

    python benchmarks/features.py SHARDS [--model wheel:efficientnet_lite0] [--image-size 224] [--rounds 3]

All figures come from one run on the same shards: forward-only of every backend through the same Classifier, decoding
alone, the whole command (a process of its own, its start-up left out), and webdataset + DataLoader + timm. Rounds are
interleaved and the median of each figure is printed, so that a machine that changes its speed does not favour one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.images import DecodeLimits, decode_image
from spurious_imagenet.models import Backend, Classifier, load_classifier
from spurious_imagenet.models.inference import ImageRunner
from spurious_imagenet.shards import expand_shards, index_shard, open_shard, read_ranges

CPU_BACKENDS = ("eager", "channels-last", "compile", "onnxruntime", "openvino")
WORKERS = 2


def read_images(shards: list[str]) -> list[bytes]:
    images: list[bytes] = []
    for url in shards:
        with open_shard(url) as shard:
            samples = index_shard(shard).samples
        images += read_ranges(url, [(s.offset, s.size) for s in samples])
    return images


def in_threads(threads: int, work: Callable[[int], None], count: int) -> float:
    """Return the seconds that ``threads`` threads take for ``work(i)`` of ``count`` items, split evenly."""
    torch.set_num_threads(1 if threads > 1 else WORKERS)

    def share(start: int) -> None:
        for i in range(start, count, threads):
            work(i)

    pool = [threading.Thread(target=share, args=(t,)) for t in range(threads)]
    begin = time.perf_counter()
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return time.perf_counter() - begin


def forward_rate(backend: Backend, size: int, images: int) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, (backend.batch_size, size, size, 3), dtype=np.uint8)
    calls = max(backend.concurrency, images // backend.batch_size)
    seconds = in_threads(backend.concurrency, lambda _: (backend(pixels), None)[1], calls)
    return calls * backend.batch_size / seconds


def decode_rate(images: list[bytes], classifier: Classifier) -> float:
    limits = DecodeLimits()
    seconds = in_threads(
        WORKERS, lambda i: (classifier.preprocess.apply(decode_image(images[i], limits)), None)[1], len(images)
    )
    return len(images) / seconds


def command_rate(args: argparse.Namespace, count: int) -> float:
    """Rate of the stage behind `spurious features`: reading, decoding, forward, hashing, writing; without start-up."""
    first: list[float] = []

    def note_start(progress: object) -> None:
        first.append(progress.seconds)  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as directory:
        config = FeaturesConfig(model=args.model, shards=(args.shards,), image_size=args.image_size, workers=WORKERS)
        extract_features(config, Path(directory) / "store", progress=note_start)
    return count / first[-1]


def users_loop(args: argparse.Namespace, shards: list[str]) -> Iterator[int]:
    import timm
    import webdataset

    classifier = load_classifier(args.model, image_size=args.image_size)
    model = classifier.network.core.model
    config = timm.data.resolve_data_config({}, model=model) | {"input_size": (3, args.image_size, args.image_size)}
    transform = timm.data.create_transform(**config)
    data = (
        webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("jpg").map_tuple(transform).batched(32)
    )
    torch.set_num_threads(WORKERS)
    with torch.inference_mode():
        model(torch.zeros(32, 3, args.image_size, args.image_size))
        yield 0
        for (batch,) in torch.utils.data.DataLoader(data, batch_size=None, num_workers=min(WORKERS, len(shards))):
            model.forward_head(model.forward_features(batch), pre_logits=True).numpy()
            yield len(batch)


def users_rate(args: argparse.Namespace, shards: list[str], count: int) -> float:
    # Enough images that what the workers decode ahead is a small share, in enough shards that both have some.
    repeats = max(2, -(-1000 // count))
    loop = users_loop(args, shards * repeats)
    next(loop)  # the model is loaded and warm
    begin = time.perf_counter()
    return sum(loop) / (time.perf_counter() - begin)


def ranking_overlap(args: argparse.Namespace, classifier: Classifier, images: list[bytes]) -> float:
    """Mean overlap of the 20 images that rank first on each class direction: our pixels against PIL + timm's."""
    import io

    import timm
    from PIL import Image

    model = classifier.network.core.model
    config = timm.data.resolve_data_config({}, model=model) | {"input_size": (3, args.image_size, args.image_size)}
    transform = timm.data.create_transform(**config)
    runner = ImageRunner(classifier.backend("auto", device="cpu"), classifier.preprocess)
    ours = np.concatenate([o.features for o in runner.run(partial(bytes, i) for i in images)]).astype(np.float16)
    with torch.inference_mode():
        theirs = np.concatenate(
            [
                model.forward_head(
                    model.forward_features(transform(Image.open(io.BytesIO(i)).convert("RGB"))[None]), pre_logits=True
                ).numpy()
                for i in images
            ]
        )
    weight = classifier.linear_head().weight.T
    best = [np.argsort(-(f.astype(np.float32) @ weight), axis=0, kind="stable")[:20] for f in (ours, theirs)]
    return float(np.mean([len(set(a) & set(b)) / 20 for a, b in zip(best[0].T, best[1].T, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards")
    parser.add_argument("--model", default="wheel:efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", nargs="+", default=list(CPU_BACKENDS))
    parser.add_argument("--forward-images", type=int, default=256)
    args = parser.parse_args()

    shards = expand_shards([args.shards])
    images = read_images(shards)
    classifier = load_classifier(args.model, image_size=args.image_size)
    backends = {
        name: load_classifier(args.model, image_size=args.image_size).backend(name, device="cpu", workers=WORKERS)
        for name in args.backends
    }
    steps: dict[str, Callable[[], float]] = {
        **{
            f"forward only, {n}": partial(forward_rate, b, args.image_size, args.forward_images)
            for n, b in backends.items()
        },
        "decode and resize only": partial(decode_rate, images, classifier),
        "spurious features (default backend)": partial(command_rate, args, len(images)),
        "webdataset + DataLoader + timm": partial(users_rate, args, shards, len(images)),
    }
    for name, backend in backends.items():
        forward_rate(backend, args.image_size, 4 * backend.batch_size)
        Console(stderr=True).print(f"ready: {name}")
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.rounds):
        for name, step in steps.items():
            rates[name].append(step())
    report(args, images, rates, ranking_overlap(args, classifier, images))


def report(args: argparse.Namespace, images: list[bytes], rates: dict[str, list[float]], overlap: float) -> None:
    median = {name: statistics.median(values) for name, values in rates.items()}
    fastest = max(v for name, v in median.items() if name.startswith("forward"))
    size = sum(map(len, images)) / len(images) / 1e3
    table = Table(title=f"{args.model} at {args.image_size} px, {len(images)} images of {size:.0f} kB")
    for header in ("what", "img/s (median)", "min", "max", "of the fastest forward"):
        table.add_column(header, justify="left" if header == "what" else "right")
    for name, values in rates.items():
        table.add_row(
            name, f"{median[name]:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{median[name] / fastest:.2f}"
        )
    console = Console()
    console.print(table)
    whole, users = median["spurious features (default backend)"], median["webdataset + DataLoader + timm"]
    decode = median["decode and resize only"]
    # Decoding and forward share the cores, so no program can be faster than both one after the other.
    bound = 1 / (1 / decode + 1 / fastest)
    console.print(f"bound by decode + fastest forward on the same cores: {bound:.1f} img/s")
    console.print(
        f"whole command / fastest forward: {whole / fastest:.2f}; / that bound: {whole / bound:.2f}; "
        f"/ user's loop: {whole / users:.1f}x"
    )
    console.print(f"top-20 ranking overlap with PIL + timm: {overlap:.4f}")


if __name__ == "__main__":
    main()
