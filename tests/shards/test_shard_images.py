"""Images are found in shards that were moved together with the file that names them."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from helpers import jpeg, write_tar

from spurious_imagenet.errors import DataError
from spurious_imagenet.shards import ShardImages, StoredImage, index_shard, open_shard


class World:
    """A project with a shard, and the images that a file in it names."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = [jpeg(seed) for seed in range(3)]
        self.shard = write_tar(root / "shards/pool/x.tar", [(f"k{i}.jpg", d) for i, d in enumerate(self.data)])
        self.beside = root / "out" / "candidates"
        self.beside.mkdir(parents=True)
        with open_shard(str(self.shard)) as opened:
            entries = index_shard(opened).samples
        self.images = [
            StoredImage(e.key, e.offset, e.size, hashlib.sha256(d).hexdigest())
            for e, d in zip(entries, self.data, strict=True)
        ]

    def read(self, beside: Path | None = None, *shards: str) -> list[bytes]:
        source = ShardImages(beside or self.beside, tuple(shards), since="it was mined")
        return list(source.read(str(self.shard), self.images))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "old")


def test_a_shard_that_lies_where_it_was_is_read_there(world: World) -> None:
    assert world.read() == world.data


def test_a_project_that_was_moved_finds_its_shards(world: World, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    new = world.root.rename(tmp_path / "far" / "away")
    assert world.read(new / "out" / "candidates") == world.data


def test_a_project_that_is_reached_through_a_link_finds_its_shards(world: World, tmp_path: Path) -> None:
    new = world.root.rename(tmp_path / "new")
    (tmp_path / "link").symlink_to(new / "out")
    assert world.read(tmp_path / "link" / "candidates") == world.data


def test_a_folder_beside_which_the_shards_were_put_finds_them(world: World, tmp_path: Path) -> None:
    """Another machine: the data lie in another place of the tree, under the same last folders."""
    shutil.move(world.root / "shards", tmp_path / "data" / "shards")
    shutil.move(world.root / "out", tmp_path / "data" / "runs" / "out")
    assert world.read(tmp_path / "data" / "runs" / "out" / "candidates") == world.data


def test_a_relative_file_is_looked_for_from_its_real_place(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = world.root.rename(tmp_path / "new")
    monkeypatch.chdir(new / "out")
    assert world.read(Path("candidates")) == world.data


def test_a_place_with_other_bytes_does_not_count(world: World, tmp_path: Path) -> None:
    """The old address holds another shard by now, and so does a nearer folder."""
    new = tmp_path / "new"
    shutil.copytree(world.root, new)
    other = write_tar(tmp_path / "other.tar", [(f"k{i}.jpg", jpeg(50 + i)) for i in range(3)])
    shutil.copy(other, world.shard)
    (new / "out" / "pool").mkdir()
    shutil.copy(other, new / "out" / "pool" / "x.tar")
    assert world.read(new / "out" / "candidates") == world.data


def test_shards_are_taken_from_where_the_user_says(world: World, tmp_path: Path) -> None:
    world.shard.rename(tmp_path / "renamed.tar")
    write_tar(tmp_path / "x.tar", [("k0.jpg", jpeg(77))])
    assert world.read(None, str(tmp_path)) == world.data
    with pytest.raises(
        DataError, match=r"none of the 1 shards given by --shards has the bytes of image k0 of .*x\.tar"
    ):
        world.read(None, str(tmp_path / "x.tar"))


def test_a_shard_that_is_nowhere_is_said_with_what_to_do(world: World) -> None:
    world.shard.unlink()
    with pytest.raises(DataError) as caught:
        world.read()
    assert str(caught.value) == (
        f"shard {world.shard} is no longer there, nor has it moved together with {world.beside}: say with --shards "
        "where the shards are now."
    )


def test_a_changed_image_is_named(world: World) -> None:
    data = bytearray(world.shard.read_bytes())
    for place, key in ((1, "k1"), (0, "k0")):
        data[world.images[place].offset + 5] ^= 1
        world.shard.write_bytes(data)
        with pytest.raises(DataError, match=f"image {key} of {world.shard} has changed since it was mined"):
            world.read()


def test_an_address_that_is_not_local_is_read_as_it_is(world: World, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/pool/x.tar", world.shard.read_bytes())
    source = ShardImages(tmp_path)
    assert list(source.read("memory://pool/x.tar", world.images)) == world.data
    given = ShardImages(tmp_path, ("memory://pool/x.tar",))
    world.shard.unlink()
    assert list(given.read(str(world.shard), world.images)) == world.data


def test_the_rows_of_a_table_are_read_in_their_order_whatever_shards_they_are_of(tmp_path: Path) -> None:
    worlds = [World(tmp_path / name) for name in "abc"]
    rows = [
        image._asdict() | {"shard": str(world.shard), "data": data}
        for world in worlds
        for image, data in zip(world.images, world.data, strict=True)
    ]
    table = pd.DataFrame(rows)
    source = ShardImages(tmp_path, since="it was mined")
    for order in (range(9), [8, 0, 4, 4, 1, 7], [2, 1, 0], []):
        wanted = table.iloc[list(order)]
        assert list(source.read_rows(wanted)) == wanted["data"].tolist()
    table.loc[5, "sha256"] = "0" * 64
    reading = source.read_rows(table)
    assert [next(reading) for _ in range(5)] == table["data"].tolist()[:5]
    with pytest.raises(DataError, match=r"image k2 of .*b.* has changed since it was mined\."):
        next(reading)
