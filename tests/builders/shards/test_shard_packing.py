from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spurious_imagenet.builders.shards import ShardManifest, ShardRecord, ShardsConfig, pack_shards
from spurious_imagenet.errors import DataError
from spurious_imagenet.models.labels import imagenet_label_space
from spurious_imagenet.shards import expand_shards, index_shard, open_shard, read_metadata


def fill(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def image(i: int) -> bytes:
    return bytes([i % 256]) * (10 + i)


def read_all(output: Path) -> dict[str, dict]:
    """Return every sample that the webdataset library finds, by key, in order."""
    shards = expand_shards([str(output)])
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    found = {s["__key__"]: s for s in samples}
    assert len(found) == len(samples)
    return found


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return fill(
        tmp_path / "src",
        {f"{c}/img{i}.JPEG": image(i + 50 * n) for n, c in enumerate(("dog", "cat")) for i in range(7)},
    )


def test_webdataset_reads_what_is_packed(classes: Path, tmp_path: Path) -> None:
    seen: list[ShardRecord] = []
    manifest = pack_shards(
        ShardsConfig(source=classes, output=tmp_path / "out", images_per_shard=4, prefix="pets"), progress=seen.append
    )
    assert [r.name for r in manifest.shards] == [f"pets-0000{i}.tar" for i in range(4)]
    assert [r.samples for r in manifest.shards] == [4, 4, 4, 2]
    assert tuple(seen) == manifest.shards
    assert (manifest.label_space, manifest.classes) == ("folders", {"cat": 0, "dog": 1})
    assert ShardManifest.load(tmp_path / "out") == manifest
    found = read_all(tmp_path / "out")
    assert list(found) == [f"{c}/img{i}" for c in ("cat", "dog") for i in range(7)]
    for key, sample in found.items():
        assert sample["jpeg"] == (classes / f"{key}.JPEG").read_bytes()
        class_id = key.split("/")[0]
        expected = {"class_id": class_id, "class_name": class_id, "file_name": f"{key}.JPEG"}
        assert json.loads(sample["json"]) == expected
        assert sample["cls"] == str(["cat", "dog"].index(class_id)).encode()


def test_the_strict_index_reads_what_is_packed(classes: Path, tmp_path: Path) -> None:
    pack_shards(ShardsConfig(source=classes, output=tmp_path / "out"))
    with open_shard(expand_shards([str(tmp_path / "out")])[0]) as shard:
        index = index_shard(shard)
        assert (len(index.samples), index.rejects, sum(index.ignored.values())) == (14, (), 0)
        labels = [read_metadata(shard.path, s)[:2] for s in index.samples]
    assert labels == [("cat", 0)] * 7 + [("dog", 1)] * 7


def test_packing_twice_gives_the_same_bytes(classes: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pack_shards(ShardsConfig(source=classes, output=tmp_path / name, images_per_shard=5))
        for file in classes.rglob("*.JPEG"):
            os.utime(file, (1, 1))
    files = sorted(f.name for f in (tmp_path / "one").iterdir())
    assert files == sorted(f.name for f in (tmp_path / "two").iterdir())
    assert files == ["images-00000.tar", "images-00001.tar", "images-00002.tar", "shards.json", "skipped.jsonl"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_members_carry_nothing_of_this_machine(classes: Path, tmp_path: Path) -> None:
    pack_shards(ShardsConfig(source=classes, output=tmp_path / "out"))
    with tarfile.open(tmp_path / "out" / "images-00000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar} == {(0, 0, 0, "", "", 0o644)}


def test_wordnet_folders_are_labelled_in_imagenet(tmp_path: Path) -> None:
    space = imagenet_label_space()
    ids = ["n02105855", "n01440764"]
    source = fill(tmp_path / "src", {f"{i}/{i}_1.JPEG": b"x" for i in ids})
    manifest = pack_shards(ShardsConfig(source=source, output=tmp_path / "out"))
    assert (manifest.label_space, manifest.classes) == ("imagenet-1k", {i: space.index(i) for i in ids})
    for key, sample in read_all(tmp_path / "out").items():
        class_id = key.split("/")[0]
        assert int(sample["cls"]) == space.index(class_id)
        assert json.loads(sample["json"])["class_name"] == space.class_names[space.index(class_id)]
    fill(source, {"n99999999/a.jpg": b"x"})
    other = pack_shards(ShardsConfig(source=source, output=tmp_path / "other"))
    assert (other.label_space, other.classes) == ("folders", {i: n for n, i in enumerate(sorted([*ids, "n99999999"]))})


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    source = fill(tmp_path / "src", {f"{i}.png": image(i) for i in range(3)})
    manifest = pack_shards(ShardsConfig(source=source, output=tmp_path / "out"))
    assert (manifest.label_space, manifest.classes, manifest.without_metadata) == (None, {}, None)
    for key, sample in read_all(tmp_path / "out").items():
        assert {k for k in sample if not k.startswith("__")} == {"png", "json"}
        assert json.loads(sample["json"]) == {"file_name": f"{key}.png"}


def test_odd_names_get_safe_unique_keys_and_stay_in_the_json(tmp_path: Path) -> None:
    names = [
        "a.b.jpg",
        "a.c.jpg",
        "a b.jpg",
        "a_b.jpg",
        "x.jpg",
        "x.png",
        "ü.jpg",
        "ö.jpg",
        "-.jpg",
        "..a.jpg",
        "l" * 200 + ".jpg",
    ]
    names += ["sub.dir/a.jpg", "sub dir/a.jpg", "a\n'\".jpg"]
    files = {f"__k__/{name}": image(i) for i, name in enumerate(names)}
    source = fill(tmp_path / "src", files)
    (source / "__k__" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"latin")
    pack_shards(ShardsConfig(source=source, output=tmp_path / "out"))
    found = read_all(tmp_path / "out")
    by_name = {json.loads(s["json"])["file_name"]: s for s in found.values()}
    visible = {name: content for name, content in files.items() if not name.startswith("__k__/.")}
    assert set(by_name) == {*visible, "__k__/caf\\xe9.jpg"}
    for name, content in visible.items():
        assert by_name[name][name.rpartition(".")[2]] == content
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/") for key in found)
    assert by_name["__k__/a_b.jpg"]["__key__"].endswith("/a_b")


STEMS = st.text("aA.ü _-1", min_size=1, max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(st.builds("{}{}".format, STEMS, st.sampled_from([".jpg", ".png", ".txt", ".JPG"])), max_size=8))
def test_every_file_is_packed_once_or_listed(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    root = tmp_path_factory.mktemp("p")
    source = fill(root / "src", {**{n: n.encode() for n in names}, "always.jpg": b"always.jpg"})
    manifest = pack_shards(ShardsConfig(source=source, output=root / "out", images_per_shard=3))
    packed = []
    for shard in expand_shards([str(root / "out")]):
        with open_shard(shard) as opened:
            index = index_shard(opened)
            assert (index.rejects, index.ignored.total()) == ((), 0)
            packed += [read_metadata(opened.path, s).meta["file_name"] for s in index.samples]
            contents = [opened.path.read_bytes()[s.offset :][: s.size].decode() for s in index.samples]
            assert contents == packed[-len(contents) :]
    skipped = [json.loads(line)["file"] for line in (root / "out/skipped.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert sorted(packed + skipped) == sorted(names | {"always.jpg"})
    assert (manifest.samples, sum(manifest.skipped.values())) == (len(packed), len(skipped))


def test_what_is_not_packed_is_counted_with_its_reason(tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", {"secret.jpg": b"s", "folder/a.jpg": b"s"})
    source = fill(
        tmp_path / "src",
        {
            "a.jpg": b"a",
            "empty.jpg": b"",
            "note.txt": b"t",
            ".hidden.jpg": b"h",
            "nothing/b.txt": b"t",
            ".git/c.jpg": b"t",
        },
    )
    (source / "out.jpg").symlink_to(outside / "secret.jpg")
    (source / "in.jpg").symlink_to(source / "a.jpg")
    (source / "broken.jpg").symlink_to(source / "gone.jpg")
    (source / "linked").symlink_to(outside / "folder")
    os.mkfifo(source / "fifo.jpg")
    manifest = pack_shards(ShardsConfig(source=source, output=tmp_path / "out"))
    lines = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert {(line["file"], line["reason"]) for line in lines} == {
        ("empty.jpg", "empty file"),
        ("note.txt", "not an image file name"),
        (".hidden.jpg", "hidden file"),
        ("nothing", "folder without images"),
        (".git", "hidden folder"),
        ("out.jpg", "link that leads outside of the folder"),
        ("broken.jpg", "broken link or special file"),
        ("fifo.jpg", "broken link or special file"),
        ("linked", "link to a folder"),
    }
    assert manifest.samples == 2
    assert manifest.skipped["broken link or special file"] == 2
    assert sorted(read_all(tmp_path / "out")) == ["a", "in"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.jpg": b"1", "cat/b.jpg": b"1"}, "both images"),
        ({"a.txt": b"1"}, "no images"),
        ({"a.jpg": b"", "b.jpg": b""}, "no image that can be packed"),
    ],
)
def test_folders_that_cannot_be_packed(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(DataError, match=said):
        pack_shards(ShardsConfig(source=fill(tmp_path / "src", files), output=tmp_path / "out"))
    assert not (tmp_path / "out" / "shards.json").exists()
    with pytest.raises(DataError, match="not a folder"):
        pack_shards(ShardsConfig(source=tmp_path / "none", output=tmp_path / "out2"))


def test_an_output_is_never_overwritten(classes: Path, tmp_path: Path) -> None:
    config = ShardsConfig(source=classes, output=tmp_path / "out")
    pack_shards(config)
    with pytest.raises(DataError, match="already packed"):
        pack_shards(config)
    fill(tmp_path / "other", {"x": b"mine"})
    with pytest.raises(DataError, match="not an empty directory"):
        pack_shards(config.model_copy(update={"output": tmp_path / "other"}))
    with pytest.raises(DataError, match="inside the source"):
        pack_shards(config.model_copy(update={"output": classes / "out"}))
    with pytest.raises(ValidationError):
        ShardsConfig(source=classes, output=tmp_path, prefix="../x")


class StoppedError(Exception):
    pass


def stop_after(count: int, config: ShardsConfig) -> None:
    done: list[ShardRecord] = []

    def progress(record: ShardRecord) -> None:
        done.append(record)
        if len(done) == count:
            raise StoppedError

    with pytest.raises(StoppedError):
        pack_shards(config, progress=progress)


def test_a_stopped_run_goes_on(classes: Path, tmp_path: Path) -> None:
    config = ShardsConfig(source=classes, output=tmp_path / "out", images_per_shard=3)
    stop_after(3, config)
    assert sorted(f.name for f in config.output.iterdir()) == [
        "images-00000.tar", "images-00001.tar", "images-00002.tar", "shards.partial.jsonl"
    ]  # fmt: skip
    (classes / "cat" / "img4.JPEG").write_bytes(b"changed since")  # in the second shard
    with (config.output / "shards.partial.jsonl").open("a") as journal:
        journal.write('{"plan_sha')
    before = {f.name: f.stat().st_ino for f in config.output.glob("*.tar")}
    manifest = pack_shards(config)
    after = {f.name: f.stat().st_ino for f in config.output.glob("*.tar")}
    kept = [name for name, inode in before.items() if after[name] == inode]
    assert sorted(kept) == ["images-00000.tar", "images-00002.tar"]
    fresh = pack_shards(config.model_copy(update={"output": tmp_path / "fresh"}))
    assert manifest == fresh
    for record in fresh.shards:
        assert (config.output / record.name).read_bytes() == (tmp_path / "fresh" / record.name).read_bytes()
    assert not list(config.output.glob("*partial*"))


def test_a_run_with_other_options_leaves_no_stale_shard(classes: Path, tmp_path: Path) -> None:
    config = ShardsConfig(source=classes, output=tmp_path / "out", images_per_shard=2, prefix="old")
    stop_after(3, config)
    pack_shards(config.model_copy(update={"prefix": "new", "images_per_shard": 9}))
    assert sorted(f.name for f in config.output.glob("*.tar")) == ["new-00000.tar", "new-00001.tar"]
