"""Image folders as file managers, notebooks, disks and other people leave them."""

from __future__ import annotations

import shutil

from datasets import Dataset, Features, Image, Value
from reliability_inputs import CLASSES, folder, jpeg, model_file

from reliability_cases import Seen, Workbench, case

_TOPIC = "Image folders"


def _packed(bench: Workbench, source: str, about: str = "") -> Seen:
    said = bench.said("shards", source, "shards", about=about)
    tars = list(bench.folder.glob("shards/*.tar"))
    return Seen(said, f"{len(tars)} tar" if tars else "nothing")


def _evaluated(bench: Workbench, about: str) -> Seen:
    """Evaluate a random model on a dataset of eight images and the folder ``val``."""
    model = model_file(bench.folder / "model.safetensors")
    kinds = {"image": Image(), **{name: Value("string") for name in ("class_id", "class_name", "concept_id")}}
    rows = [
        {"image": {"bytes": jpeg(900 + i), "path": None}, "class_id": c, "class_name": c, "concept_id": f"npca/{c}/0"}
        for i, c in enumerate(CLASSES[:2] * 4)
    ]
    (bench.folder / "dataset" / "data").mkdir(parents=True)
    table = Dataset.from_list(rows, features=Features(kinds))
    table.to_parquet(bench.folder / "dataset" / "data" / "test-00000-of-00001.parquet")
    options = ("--dataset", "dataset", "--val", "val", "--protocol", "standard", "--out", "record.json")
    said = bench.said("evaluate", "--model", model, *options, "--resamples", 10, about=about)
    return Seen(said, "the record" if (bench.folder / "record.json").is_file() else "nothing")


@case(_TOPIC, "`.ipynb_checkpoints`, `__MACOSX`, `@eaDir` and a link to a folder within a validation folder")
def left_behind(bench: Workbench) -> Seen:
    val = folder(bench.folder / "val", 4)
    shutil.copytree(val / "apple", val / "apple" / ".ipynb_checkpoints")
    shutil.copytree(val / "apple", val / "__MACOSX" / "apple")
    shutil.copytree(val / "bird", val / "bird" / "@eaDir")
    (val / "cup" / "again").symlink_to(val)
    return _evaluated(bench, "were skipped")


@case(_TOPIC, "the same picture twice in a class, and in two classes")
def copies(bench: Workbench) -> Seen:
    val = folder(bench.folder / "val", 4)
    shutil.copy(val / "apple" / "000.jpg", val / "apple" / "copy.jpg")
    shutil.copy(val / "bird" / "000.jpg", val / "cup" / "other.jpg")
    return _evaluated(bench, "validation images")


@case(_TOPIC, "validation sub-folders in another case than the model's class ids")
def other_case(bench: Workbench) -> Seen:
    folder(bench.folder / "val", 2, [name.upper() for name in CLASSES])
    return _evaluated(bench, "error:")


@case(_TOPIC, "Tiny-ImageNet's `val/`: one folder `images` and `val_annotations.txt`")
def tiny_val(bench: Workbench) -> Seen:
    root = folder(bench.folder / "val", 6, ["images"])
    lines = [f"{i:03d}.jpg\t{CLASSES[i % 2]}\t0\t0\t9\t9" for i in range(6)]
    (root / "val_annotations.txt").write_text("\n".join(lines))
    return _packed(bench, "val", "val")


@case(_TOPIC, "a folder `images` and no table of classes")
def only_images(bench: Workbench) -> Seen:
    folder(bench.folder / "test", 3, ["images"])
    return _packed(bench, "test", "images")


@case(_TOPIC, "the folder above `train` and `val`")
def splits(bench: Workbench) -> Seen:
    for split in ("train", "val"):
        folder(bench.folder / "set" / split, 2)
    return _packed(bench, "set", "error:")
