"""Labels that cannot be used, and figures that rest on some of a model's classes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from reliability_inputs import CLASSES, jpeg, model_file, tar

from reliability_cases import Seen, Workbench, case

_TOPIC = "Labels"


def _labelled(bench: Workbench, notes: Sequence[tuple[object, str | None]], name: str = "set.tar") -> str:
    """Write a shard of an image for each JSON and ``.cls``; return its name."""
    members: list[tuple[str, bytes]] = []
    for i, (meta, cls) in enumerate(notes):
        members.append((f"{i:03d}.jpg", jpeg(i)))
        members += [] if meta is None else [(f"{i:03d}.json", json.dumps(meta).encode())]
        members += [] if cls is None else [(f"{i:03d}.cls", cls.encode())]
    return tar(bench.folder / name, members).name


def _features(bench: Workbench, shard: str, about: str, *options: object) -> Seen:
    model = model_file(bench.folder / "model.safetensors")
    said = bench.said("features", "--model", model, "--shards", shard, "--out", "features", *options, about=about)
    return Seen(said, f"{len(list(bench.folder.glob('features/parts/*/receipt.json')))} parts")


@case(_TOPIC, "`.cls` files that hold class names in another case, for all images")
def names(bench: Workbench) -> Seen:
    shard = _labelled(bench, [(None, CLASSES[i % 4].title()) for i in range(12)])
    return _features(bench, shard, "error:")


@case(_TOPIC, "4 of 24 `.cls` files hold a float, a negative number, white space, and a class that the model lacks")
def odd(bench: Workbench) -> Seen:
    shard = _labelled(bench, [(None, cls) for cls in ["1.0", "-1", " \n", "9", *(str(i % 4) for i in range(20))]])
    return _features(bench, shard, "error:")


@case(_TOPIC, "the same, allowed")
def allowed(bench: Workbench) -> Seen:
    shard = _labelled(bench, [(None, cls) for cls in ["1.0", "-1", " \n", "9", *(str(i % 4) for i in range(20))]])
    _features(bench, shard, "", "--max-label-problems", 0.2)
    model = model_file(bench.folder / "model.safetensors")
    made = ("--model", model, "--features", "features", "--out", "bank", "--max-label-problems", 0.2)
    return Seen(bench.said("components", *made), "a bank of the 20 images")


@case(
    _TOPIC,
    "JSON whose class id is a number, a list, or in another case, and one null (no label), in 4 of 44 images",
)
def json_ids(bench: Workbench) -> Seen:
    good = [({"class_id": CLASSES[i % 4]}, None) for i in range(40)]
    odd_ids = [({"wnid": value}, None) for value in (None, 7, ["apple"], "APPLE")]
    return _features(bench, _labelled(bench, [*good, *odd_ids]), "warning:")


@case(_TOPIC, "JSON and `.cls` that disagree in 1 of 24 images")
def contradiction(bench: Workbench) -> Seen:
    notes = [({"class_id": CLASSES[i % 4]}, str(i % 4)) for i in range(23)]
    return _features(bench, _labelled(bench, [*notes, ({"class_id": "apple"}, "2")]), "warning:")


@case(_TOPIC, "a head tested on images of 2 of its 4 classes")
def part_of_the_classes(bench: Workbench) -> Seen:
    model = model_file(bench.folder / "model.safetensors")
    for name, classes in (("train", CLASSES), ("test", CLASSES[:2])):
        notes = [({"class_id": classes[i % len(classes)]}, None) for i in range(16)]
        shard = _labelled(bench, notes, f"{name}.tar")
        bench.spurious("features", "--model", model, "--shards", shard, "--out", name)
    fit = ("head", "--model", model, "--features", "train", "--test", "test", "--out", "head.safetensors")
    return Seen(bench.said(*fit, about="right of"), "the head")
