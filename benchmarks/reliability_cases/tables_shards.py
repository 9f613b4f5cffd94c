"""Shards that others read, and ways to name shards."""

from __future__ import annotations

from pathlib import Path

from reliability_inputs import model_file, shard

from reliability_cases import Seen, Workbench, case
from reliability_cases.tables import folder

TOPIC = "Shards for others"


def loaded(shards: Path, cache: Path) -> str:
    """Say what the library ``datasets`` makes of shards."""
    import datasets

    datasets.disable_progress_bars()
    files = [str(path) for path in sorted(shards.glob("*.tar"))]
    try:
        rows = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(cache))
    except ValueError as error:
        return f"load_dataset: {error}"
    image = next(c for c in rows.column_names if c in ("jpg", "jpeg", "png"))
    whole = sum(row[image] is not None for row in rows)
    named = sum(bool(row["json"].get("Author")) for row in rows)
    return f"load_dataset: {len(rows)} rows, {whole} with an image, {named} with an author"


@case(TOPIC, "a table that has a row of the seventh image alone")
def late(bench: Workbench) -> Seen:
    folder(bench.folder / "images", *(f"{n}.png" for n in range(7)))
    (bench.folder / "meta.csv").write_text("file_name,Author\n6.png,Doe\n", encoding="utf-8")
    said = bench.said("shards", "images", "shards", "--metadata", "meta.csv", about=" of ")
    return Seen(said, loaded(bench.folder / "shards", bench.folder / "cache"))


@case(TOPIC, "a folder of .jpg, .jpeg and .JPG")
def same_type(bench: Workbench) -> Seen:
    folder(bench.folder / "images", "a.jpg", "b.jpeg", "c.JPG")
    said = bench.said("shards", "images", "shards", about="images in")
    return Seen(said, loaded(bench.folder / "shards", bench.folder / "cache"))


@case(TOPIC, "a folder of .jpg and .png")
def mixed(bench: Workbench) -> Seen:
    folder(bench.folder / "images", "a.jpg", "b.png", "c.jpg")
    said = bench.said("shards", "images", "shards", about="several types")
    return Seen(said, loaded(bench.folder / "shards", bench.folder / "cache"))


def _named(bench: Workbench, spec: str) -> Seen:
    model = model_file(bench.folder / "model.safetensors")
    for number in (0, 1, 3):
        shard(bench.folder / f"x-{number:05d}.tar", 2)
    said = bench.said("features", "--model", model, "--shards", spec, "--out", "features")
    return Seen(said, f"{len(list(bench.folder.glob('features/parts/*/receipt.json')))} parts")


@case(TOPIC, "a range of shards with a gap, x-{00000..00003}.tar")
def gap(bench: Workbench) -> Seen:
    return _named(bench, "x-{00000..00003}.tar")


@case(TOPIC, "a range without its zeros, x-{0..3}.tar")
def zeros(bench: Workbench) -> Seen:
    return _named(bench, "x-{0..3}.tar")


@case(TOPIC, "a pattern that matches nothing, y-*.tar")
def nothing(bench: Workbench) -> Seen:
    return _named(bench, "y-*.tar")


@case(TOPIC, "a folder of images in place of shards")
def no_tars(bench: Workbench) -> Seen:
    folder(bench.folder / "images", "a.png")
    return _named(bench, "images")


@case(TOPIC, "one shard by two patterns, {x-00000,x-0000*}.tar")
def twice(bench: Workbench) -> Seen:
    return _named(bench, "{x-00000,x-0000*}.tar")
