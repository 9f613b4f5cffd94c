"""Seconds a class that boards take, and where they go.

    python benchmarks/boards.py --bank BANK --features STORE [--npfv DIR] [--classes 4] [--components 10]

Draws the first classes of the bank into a temporary folder, after one class that is not timed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spurious_imagenet.builders.boards import draw, gather, unit
from spurious_imagenet.builders.boards.config import BoardsConfig
from spurious_imagenet.builders.boards.gradcam import ConceptCam
from spurious_imagenet.concepts import ConceptBank


@contextmanager
def timed(owner: object, name: str, spent: dict[str, float]) -> Iterator[None]:
    """Add up the time inside a function while the context lasts."""
    original = getattr(owner, name)

    def wrapper(*args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

    setattr(owner, name, wrapper)
    try:
        yield
    finally:
        setattr(owner, name, original)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", required=True)
    parser.add_argument("--features", required=True)
    parser.add_argument("--npfv")
    parser.add_argument("--model")
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--components", type=int, default=10)
    options = parser.parse_args()
    ids = list(ConceptBank.load(options.bank).table["class_id"].unique()[: options.classes + 1])
    config = BoardsConfig(
        bank=options.bank,
        features=options.features,
        npfv=options.npfv,
        model=options.model,
        classes=tuple(ids),
        components=options.components,
    )
    ends: list[tuple[float, float]] = []
    spent: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        timed(gather.Gatherer, "gather", spent),
        timed(gather, "read_pixels", spent),
        timed(ConceptCam, "__call__", spent),
        timed(unit, "_write_pictures", spent),
        timed(draw, "write_class", spent),
        timed(draw, "_write_pages", spent),
    ):

        def tell(done: int, of: int) -> None:
            if not ends:
                spent.clear()
            ends.append((time.perf_counter(), time.process_time()))

        draw.draw_boards(config, Path(folder) / "boards", progress=tell)
        files = [p for p in Path(folder).rglob("cards/*/*") if p.is_file()]
        size = sum(p.stat().st_size for p in files) / (len(ids) * 2**20)
    count = len(ends) - 1
    wall, cpu = ((last - first) / count for first, last in zip(ends[0], ends[-1], strict=True))
    print(f"{wall:.2f} s a class of {options.components} boards on {os.cpu_count()} CPUs; {cpu:.2f} s of CPU time")
    print(f"{size:.1f} MiB and {len(files) / len(ids):.0f} files a class")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {seconds / count:6.2f} s a class in {name}" + (" (all threads)" if name == "_write_pictures" else ""))


if __name__ == "__main__":
    main()
