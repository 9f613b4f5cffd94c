"""What is packed is read by ``load_dataset``, whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import load_dataset
from helpers import run_spurious
from PIL import Image

from spurious_imagenet.builders.shards import ShardsConfig, pack_shards

FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG"}


def folder(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(root / name, FORMATS[name.rpartition(".")[2].lower()])
    return root


def load(shards: Path, cache: Path, *, streaming: bool) -> list[dict]:
    files = [str(path) for path in sorted(shards.glob("*.tar"))]
    loaded = load_dataset("webdataset", data_files=files, split="train", cache_dir=str(cache), streaming=streaming)
    return list(loaded)


@pytest.mark.parametrize("streaming", [False, True])
def test_author_and_licence_survive_where_the_first_five_images_have_none(tmp_path: Path, streaming: bool) -> None:
    source = folder(tmp_path / "src", *(f"cat/{n}.jpg" for n in range(7)))
    csv = tmp_path / "meta.csv"
    csv.write_text("file_name,Author,License\ncat/6.jpg,Doe,by\n")
    pack_shards(ShardsConfig(source=source, output=tmp_path / "out", metadata=csv, images_per_shard=6))
    rows = load(tmp_path / "out", tmp_path / "cache", streaming=streaming)
    assert [(row["json"]["Author"], row["json"]["License"]) for row in rows] == [("", "")] * 6 + [("Doe", "by")]
    assert [row["json"]["file_name"] for row in rows] == [f"cat/{n}.jpg" for n in range(7)]
    assert len({tuple(row["json"]) for row in rows}) == 1


@pytest.mark.parametrize(
    ("names", "field"),
    [
        (("a.jpg", "b.jpeg", "c.JPG", "d.JPEG", "e.jpg", "f.jpg", "g.jpeg"), "jpg"),
        (("a.JPEG", "b.JPEG"), "jpeg"),
        (("a.PNG", "b.png"), "png"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_endings_that_mean_the_same_are_one_field(
    tmp_path: Path, names: tuple[str, ...], field: str, streaming: bool
) -> None:
    source = folder(tmp_path / "src", *names)
    assert pack_shards(ShardsConfig(source=source, output=tmp_path / "out")).types == {field: len(names)}
    rows = load(tmp_path / "out", tmp_path / "cache", streaming=streaming)
    assert [row[field].size for row in rows] == [(16, 16)] * len(names)
    assert sorted(row["json"]["file_name"] for row in rows) == sorted(names)


def test_types_that_datasets_does_not_take_together_are_said_when_packing(tmp_path: Path) -> None:
    source = folder(tmp_path / "src", "a.jpg", "b.png", "c.jpg")
    ran = run_spurious("shards", source, tmp_path / "out")
    assert ran.code == 0
    assert "images of several types (2 .jpg, 1 .png)" in ran.err
    assert "pack a folder of each type by itself" in ran.err
    with pytest.raises(ValueError, match="don't share the same prefix or the same types"):
        load(tmp_path / "out", tmp_path / "cache", streaming=False)
    for kind in ("jpg", "png"):
        alone = tmp_path / kind
        alone.mkdir()
        for file in source.glob(f"*.{kind}"):
            (alone / file.name).write_bytes(file.read_bytes())
        assert "several types" not in run_spurious("shards", alone, tmp_path / f"{kind}-out").err
        assert all(row[kind] for row in load(tmp_path / f"{kind}-out", tmp_path / "cache", streaming=False))
