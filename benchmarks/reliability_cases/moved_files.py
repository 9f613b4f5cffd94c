"""Projects that were moved, copied or reached through a link, and files that were replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

from reliability_inputs import model_file, shard

from reliability_cases import Seen, Workbench, case

_TOPIC = "Moved, copied and replaced files"


def _project(bench: Workbench, name: str = "old") -> Path:
    """Make a project of two shards with their features."""
    root = bench.folder / name
    shard(root / "shards" / "a.tar", 8)
    shard(root / "shards" / "b.tar", 8, seed=100)
    model_file(root / "model.safetensors")
    _features(bench, root)
    return root


def _features(bench: Workbench, root: Path, *options: object, about: str = "") -> str:
    """Run the same relative command in a project."""
    model, inside = "file:model.safetensors", Workbench(root)
    arguments = ("--model", model, "--shards", "shards", "--out", "features", "--backend", "eager", *options)
    return inside.said("features", *arguments, about=about)


def _kept(root: Path) -> str:
    return f"{len(list(root.glob('features/parts/*/receipt.json')))} parts"


@case(_TOPIC, "`mv old new`, then the same relative `spurious features` command, twice")
def moved(bench: Workbench) -> Seen:
    new = _project(bench).rename(bench.folder / "new")
    said = [_features(bench, new, about="scored") for _ in range(2)]
    return Seen(" // ".join(said), _kept(new))


@case(_TOPIC, "the same command through a symbolic link to the project")
def linked(bench: Workbench) -> Seen:
    root = _project(bench)
    (bench.folder / "link").symlink_to(root)
    return Seen(_features(bench, bench.folder / "link", about="scored"), _kept(root))


@case(_TOPIC, "a copy of the project in a second folder, with new times of change, while the first is still there")
def copied(bench: Workbench) -> Seen:
    copy = bench.folder / "copy"
    shutil.copytree(_project(bench), copy, copy_function=shutil.copy)
    return Seen(_features(bench, copy, about="scored"), _kept(copy))


@case(_TOPIC, "a store that an earlier version doubled: two parts of one shard")
def doubled(bench: Workbench) -> Seen:
    root = _project(bench)
    part = next(root.glob("features/parts/a-*"))
    (part / "shard.json").unlink()
    shutil.copytree(part, part.with_name("a-00000000"))
    inside = Workbench(root)
    said = inside.said(
        *("components", "--model", "file:model.safetensors", "--features", "features", "--out", "bank"), about="repeat"
    )
    head = inside.said(
        *("head", "--model", "file:model.safetensors", "--features", "features", "--out", "head.safetensors"),
        about="fitted",
    )
    return Seen(f"{said} // {head}", _kept(root))


@case(_TOPIC, "a finished shard replaced by another one of equal size")
def replaced(bench: Workbench) -> Seen:
    root = _project(bench)
    data = bytearray((root / "shards" / "a.tar").read_bytes())
    data[1000] ^= 1
    (root / "shards" / "a.tar").write_bytes(data)
    return Seen(_features(bench, root), _kept(root))


@case(_TOPIC, "a shard that was scored in part with `--salvage`, and is whole by now")
def salvaged(bench: Workbench) -> Seen:
    root = bench.folder / "project"
    whole = shard(root / "shards" / "a.tar", 8).read_bytes()
    (root / "shards" / "a.tar").write_bytes(whole[:20_000])
    model_file(root / "model.safetensors")
    _features(bench, root, "--salvage")
    (root / "shards" / "a.tar").write_bytes(whole)
    return Seen(_features(bench, root, "--salvage"), _kept(root))


@case(_TOPIC, "a shard that is gone: the store holds more parts than the run was given shards")
def gone(bench: Workbench) -> Seen:
    root = _project(bench)
    (root / "shards" / "b.tar").unlink()
    return Seen(_features(bench, root, about="parts"), _kept(root))


@case(_TOPIC, "the shard given a second time under another name")
def twice(bench: Workbench) -> Seen:
    root = _project(bench)
    shutil.copy(root / "shards" / "a.tar", root / "shards" / "c.tar")
    return Seen(_features(bench, root, about="bytes of another"), _kept(root))


def _mined(bench: Workbench) -> Workbench:
    """Make a project with mined candidates, and move it."""
    inside = Workbench(_project(bench))
    model = "file:model.safetensors"
    inside.spurious("components", "--model", model, "--features", "features", "--out", "bank")
    inside.spurious(
        *("mine", "--bank", "bank", "--features", "features", "--agree", model, "--components", "1"),
        *("--keep", "3", "--out", "candidates"),
    )
    return Workbench(inside.folder.rename(bench.folder / "new"))


@case(_TOPIC, "candidates that were mined before the project was moved, taken to a review after it")
def reviewed(bench: Workbench) -> Seen:
    moved_to = _mined(bench)
    said = moved_to.said("review", "create", "--candidates", "candidates", "--labelers", "ann,ben", "--out", "review")
    return Seen(said, f"{len(list(moved_to.folder.glob('review/media/*/*')))} images")


@case(_TOPIC, "the same candidates, moved without their shards; then with `--shards`")
def apart(bench: Workbench) -> Seen:
    moved_to = _mined(bench)
    (moved_to.folder / "candidates").rename(bench.folder / "candidates")
    arguments = ("review", "create", "--candidates", "candidates", "--labelers", "ann,ben", "--out", "review")
    said = bench.said(*arguments), bench.said(*arguments, "--shards", "new/shards")
    return Seen(" // ".join(said), f"{len(list(bench.folder.glob('review/media/*/*')))} images")
