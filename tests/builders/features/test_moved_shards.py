"""A shard is known by its bytes: wherever it is moved, linked or copied to, it has one part."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import labelled_shard, run_spurious, tree, weights_file

from spurious_imagenet.builders.features import FeaturesConfig, FeaturesResult, extract_features
from spurious_imagenet.errors import StoreError
from spurious_imagenet.features._parts import part_name
from spurious_imagenet.features.repeats import repeats_of
from spurious_imagenet.features.store import FeatureStore


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return weights_file(tmp_path_factory.mktemp("model") / "m.safetensors")


@pytest.fixture
def project(tmp_path: Path, spec: str) -> Path:
    """A project of two shards of one file name in two folders, 5 images each, and their features."""
    root = tmp_path / "old"
    labelled_shard(root / "shards" / "a" / "x.tar", range(5))
    labelled_shard(root / "shards" / "b" / "x.tar", range(100, 105))
    made = run(spec, root)
    assert (made.made, len(made.store), len(made.store.parts)) == (2, 10, 2)
    return root


def run(spec: str, root: Path, *shards: str, **options: object) -> FeaturesResult:
    wanted = shards or (f"{root}/shards/a", f"{root}/shards/b")
    return extract_features(
        FeaturesConfig(model=spec, shards=wanted, backend="eager", workers=1, **options), root / "features"
    )


def moved(root: Path) -> tuple[Path, tuple[str, ...]]:
    new = root.rename(root.with_name("new"))
    return new, ()


def copied(root: Path) -> tuple[Path, tuple[str, ...]]:
    new = root.with_name("copy")
    shutil.copytree(root, new, copy_function=shutil.copy)  # the times of change are new ones
    return new, ()


def linked(root: Path) -> tuple[Path, tuple[str, ...]]:
    link = root.with_name("link")
    link.symlink_to(root)
    return link, ()


def linked_shards(root: Path) -> tuple[Path, tuple[str, ...]]:
    (root / "elsewhere").symlink_to(root / "shards")
    return root, (f"{root}/elsewhere/a", f"{root}/elsewhere/b")


def hard_linked(root: Path) -> tuple[Path, tuple[str, ...]]:
    os.link(root / "shards/a/x.tar", root / "a.tar")
    os.link(root / "shards/b/x.tar", root / "b.tar")
    return root, (str(root),)


def renamed(root: Path) -> tuple[Path, tuple[str, ...]]:
    (root / "shards/a/x.tar").rename(root / "shards/b/y.tar")
    return root, (f"{root}/shards/b",)


def dotted(root: Path) -> tuple[Path, tuple[str, ...]]:
    return root, (f"{root}/./shards/../shards/a/", f"{root}/shards//b/./x.tar")


def as_file_addresses(root: Path) -> tuple[Path, tuple[str, ...]]:
    return root, (f"file://{root}/shards/a/x.tar", f"{root}/shards/b/*.tar")


def relative(root: Path) -> tuple[Path, tuple[str, ...]]:
    os.chdir(root / "shards" / "a")
    return root, ("x.tar", "../b")


def below_home(root: Path) -> tuple[Path, tuple[str, ...]]:
    os.environ["HOME"] = str(root)
    return root, ("~/shards/a", "~/shards/b/x.tar")


WAYS = (moved, copied, linked, linked_shards, hard_linked, renamed, dotted, as_file_addresses, relative, below_home)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_bytes_are_the_same_part(
    spec: str,
    project: Path,
    way: Callable[[Path], tuple[Path, tuple[str, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project.parent)
    monkeypatch.setenv("HOME", str(project.parent))
    before = features_of(FeatureStore.open(project / "features"))
    root, shards = way(project)
    for _ in range(2):
        again = run(spec, root, *shards)
        assert (again.made, again.found, again.copies, again.others) == (0, 2, [], [])
        assert features_of(again.store) == before
    assert repeats_of(again.store) is None


def features_of(store: FeatureStore) -> dict[str, bytes]:
    return {part.path.name: part.features().tobytes() for part in store.parts}


def test_a_moved_shard_is_hashed_once(spec: str, project: Path) -> None:
    assert run(spec, project).hashed == 0
    new, _ = moved(project)
    again = run(spec, new)
    assert (again.hashed, again.hashed_bytes) == (2, sum(p.receipt.shard_bytes for p in again.store.parts))
    assert run(spec, new).hashed == 0
    os.utime(new / "shards/a/x.tar")
    assert run(spec, new).hashed == 1
    assert run(spec, new).hashed == 0


def test_the_name_of_a_part_is_that_of_its_bytes(spec: str, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "far" / "away"
    shutil.copytree(project / "shards", other / "shards")
    run(spec, other)
    assert features_of(FeatureStore.open(other / "features")) == features_of(FeatureStore.open(project / "features"))
    assert part_name("s3://a/x.tar", "00" * 32) != part_name("s3://b/x.tar", "00" * 32)
    assert part_name("/a/x.tar", "00" * 32) == part_name("/b/x.tar", "00" * 32)


def test_a_store_of_an_earlier_version_resumes_without_scoring(spec: str, project: Path) -> None:
    made_before(project / "features")
    before = tree(project / "features")
    new, _ = moved(project)
    again = run(spec, new)
    assert (again.made, again.found, again.hashed) == (0, 2, 2)
    after = {name: data for name, data in tree(new / "features").items() if not name.endswith("shard.json")}
    assert after == before
    assert run(spec, new).hashed == 0


def made_before(path: Path) -> None:
    """Make of a store what earlier versions left: parts named after the address, and no word on times of change."""
    for number, part in enumerate(FeatureStore.open(path).parts):
        (part.path / "shard.json").unlink()
        part.path.rename(part.path.with_name(f"x-0000000{number}"))


def test_a_store_that_was_doubled_says_so(spec: str, project: Path) -> None:
    made_before(project / "features")
    first = project / "features/parts/x-00000000"
    shutil.copytree(first, first.with_name("x-00000007"))
    receipt = first.with_name("x-00000007") / "receipt.json"
    content = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(content | {"shard": "/gone/x.tar"}))
    ran = run_spurious(
        "features", "--model", spec, "--shards", project / "shards/a", "--shards", project / "shards/b",
        "--out", project / "features", "--backend", "eager",
    )  # fmt: skip
    assert ran.code == 0
    assert "15 images scored" in ran.out
    assert "1 of 3 parts are of shards that this run was not given" in ran.err
    assert "5 of 15 images repeat the bytes of another, such as x-00000007/x-0000 those of x-00000000/x-0000" in ran.err
    assert "the parts x-00000000 and x-00000007 are of one shard: delete one of their folders." in ran.err
    ran = run_spurious("components", "--model", spec, "--features", project / "features", "--out", project / "bank")
    assert "5 of 15 images repeat the bytes of another" in ran.err
    shutil.rmtree(receipt.parent)
    assert repeats_of(run(spec, project).store) is None


def test_a_replaced_shard_is_refused_until_its_part_is_deleted(spec: str, project: Path) -> None:
    shard, other = project / "shards/a/x.tar", project / "shards/b/x.tar"
    assert shard.stat().st_size == other.stat().st_size
    labelled_shard(shard, range(200, 205))
    assert shard.stat().st_size == other.stat().st_size
    part = next(p for p in FeatureStore.open(project / "features").parts if p.shard == str(shard))
    old = part.features().copy()
    with pytest.raises(StoreError, match=f"{shard} has changed since it was scored.*delete {part.path} and rerun"):
        run(spec, project)
    shutil.rmtree(part.path)
    again = run(spec, project)
    assert (again.made, again.found) == (1, 1)
    assert not np.array_equal(again.store.part(str(shard)).features(), old)


def test_a_salvaged_shard_that_became_whole_says_how_to_score_it(spec: str, tmp_path: Path) -> None:
    shard = labelled_shard(tmp_path / "shards/x.tar", range(5))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    salvaged = run(spec, tmp_path, str(shard), salvage=True)
    (part,) = salvaged.store.parts
    assert 0 < len(part) < 5
    shard.write_bytes(whole)
    with pytest.raises(StoreError, match=f"damaged, with --salvage: .* delete {part.path} and rerun"):
        run(spec, tmp_path, str(shard), salvage=True)
    shutil.rmtree(part.path)
    assert len(run(spec, tmp_path, str(shard)).store) == 5


def test_copies_count_once_and_are_said(spec: str, project: Path) -> None:
    shutil.copy(project / "shards/a/x.tar", project / "shards/a/y.tar")
    ran = run_spurious(
        "features", "--model", spec, "--shards", project / "shards/a", "--out", project / "features",
        "--backend", "eager",
    )  # fmt: skip
    assert "10 images scored, 0 rejected in 2 shards (0 made now, 2 found)" in ran.out
    a = project / "shards/a"
    assert f"1 shards have the bytes of another one and count once, such as {a}/y.tar: {a}/x.tar." in ran.err
    assert "1 of 2 parts are of shards that this run was not given" in ran.err


def test_reused_features_are_found_after_a_move(spec: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = project / "h.safetensors"
    ran = run_spurious("head", "--model", spec, "--features", project / "features", "--out", head)
    assert ran.code == 0, ran.err
    reuse = ["--reuse", "features", "--out", "headed"]
    arguments = ["features", "--model", f"head:h.safetensors?encoder={spec}", *reuse]
    monkeypatch.chdir(project)
    first = run_spurious(*arguments)
    assert "10 images scored, 0 rejected in 2 shards (2 made now, 0 found)" in first.out, first.err
    new, _ = moved(project)
    os.chdir(new)
    run(spec, new)  # the reused store learns where its shards are, the other one does not
    again = run_spurious(*arguments)
    assert "10 images scored, 0 rejected in 2 shards (0 made now, 2 found)" in again.out, again.err
