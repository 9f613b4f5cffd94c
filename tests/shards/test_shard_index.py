from __future__ import annotations

import os
import tarfile
import time
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_helpers import local, write_samples, write_tar

from spurious_imagenet.shards import IMAGE_EXTENSIONS, SampleEntry, ShardIndex, index_shard


def index(tmp_path: Path, members: list, **options: int) -> ShardIndex:
    return index_shard(local(write_tar(tmp_path / "x.tar", members, **options)))


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_offsets_are_those_of_tarfile(tmp_path: Path, fmt: int) -> None:
    long_name = "d" * 90 + "/" + "n" * (90 if fmt == tarfile.USTAR_FORMAT else 200)
    members = [(f"{stem}.{e}", e.encode() * 300) for stem in ("a", long_name, "z/ü") for e in ("JPG", "json", "cls")]
    path = write_tar(tmp_path / "x.tar", members, fmt)
    data = path.read_bytes()
    found = index_shard(local(path))
    assert [s.key for s in found.samples] == ["a", long_name, "z/ü"]
    assert found.rejects == ()
    with tarfile.open(path) as tar:
        for sample in found.samples:
            expected = tar.extractfile(sample.member).read()
            assert data[sample.offset : sample.offset + sample.size] == expected
            assert data[sample.meta_offset :][: sample.meta_size] == b"json" * 300
            assert data[sample.cls_offset :][: sample.cls_size] == b"cls" * 300


@pytest.mark.parametrize("headers", [{"comment": "made for a test"}, {"path": "all.jpg"}])
def test_global_pax_headers_apply(tmp_path: Path, headers: dict[str, str]) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        for name in ("a.jpg", "b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, (tmp_path / "three").open("rb") if (tmp_path / "three").write_bytes(b"abc") else None)
    found = index_shard(local(path))
    names = [s.member for s in found.samples] + [name for name, _ in found.rejects]
    with tarfile.open(path) as tar:
        assert names == tar.getnames() == (["all.jpg"] * 2 if "path" in headers else ["a.jpg", "b.jpg"])
    assert all(path.read_bytes()[s.offset :][: s.size] == b"abc" for s in found.samples)


def test_keys_and_bytes_agree_with_webdataset(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(7):
            writer.write({"__key__": f"d.0/k{i}", "jpg": bytes([i]) * (i + 1), "json": {"i": i}, "cls": i})
    data = path.read_bytes()
    theirs = {s["__key__"]: s for s in webdataset.WebDataset(str(path), shardshuffle=False)}
    ours = index_shard(local(path)).samples
    assert [s.key for s in ours] == list(theirs)
    for sample in ours:
        assert data[sample.offset :][: sample.size] == theirs[sample.key]["jpg"]
        assert data[sample.meta_offset :][: sample.meta_size] == theirs[sample.key]["json"]
        assert data[sample.cls_offset :][: sample.cls_size] == theirs[sample.key]["cls"]


def test_each_kind_of_reject_has_its_reason(tmp_path: Path) -> None:
    found = index(
        tmp_path,
        [
            ("folder", b"", tarfile.DIRTYPE),
            ("a.jpg", b"1"), ("a.png", b"2"), ("a.json", b"{}"),
            ("b.json", b"{}"), ("b.txt", b"no picture"),
            ("c.jpg", b""),
            ("../d.jpg", b"1"), ("/e.jpg", b"1"), ("f/../../f.jpg", b"1"),
            ("g.jpg", b"", tarfile.SYMTYPE), ("h.jpg", b"", tarfile.LNKTYPE), ("i.jpg", b"", tarfile.CHRTYPE),
            ("j.pkl", b"cos\nsystem\n(S'false'\ntR."), ("a.pth", b"1"),
            (".hidden.jpg", b"1"), ("README", b"1"),
        ],
    )  # fmt: skip
    assert [s.member for s in found.samples] == ["a.jpg"]
    assert sorted(found.rejects) == sorted(
        [
            ("a.png", "duplicate key"),
            ("b", "no image"),
            ("c.jpg", "empty file"),
            ("../d.jpg", "unsafe member name"),
            ("/e.jpg", "unsafe member name"),
            ("f/../../f.jpg", "unsafe member name"),
            ("g.jpg", "not a regular file (symbolic link)"),
            ("h.jpg", "not a regular file (hard link)"),
            ("i.jpg", "not a regular file (type b'3')"),
            ("j", "no image"),
        ]
    )
    assert found.ignored == Counter({"txt": 1, "pkl": 1, "pth": 1, "hidden.jpg": 1, "": 1})


def test_a_mask_beside_the_image_is_not_the_image(tmp_path: Path) -> None:
    found = index(
        tmp_path, [("a.depth.png", b"mask"), ("a.jpg", b"image"), ("b.left.jpg", b"l"), ("b.right.jpg", b"r")]
    )
    assert [(s.key, s.member) for s in found.samples] == [("a", "a.jpg"), ("b", "b.left.jpg")]
    assert found.rejects == (("b.right.jpg", "duplicate key"),)
    assert found.ignored == Counter({"depth.png": 1})


def test_metadata_belongs_to_the_image_beside_it(tmp_path: Path) -> None:
    found = index(tmp_path, [("a.jpg", b"1"), ("b.jpg", b"1"), ("a.jpg", b"22"), ("a.json", b"{}")])
    assert [(s.key, s.size, s.meta_size) for s in found.samples] == [("a", 1, 0), ("b", 1, 0)]
    apart = index(tmp_path, [("a.json", b"{}"), ("b.cls", b"7"), ("b.jpg", b"1"), ("a.jpg", b"1"), ("c.json", b"{}")])
    assert [(s.key, s.meta_size, s.cls_size) for s in apart.samples] == [("b", 0, 1), ("a", 2, 0)]
    assert apart.rejects == (("c", "no image"),)
    late = index(tmp_path, [("a.jpg", b"1"), ("a.json", b"{}"), ("b.jpg", b"1"), ("a.json", b"[10]"), ("a.cls", b"12")])
    assert [(s.key, s.meta_size, s.cls_size) for s in late.samples] == [("a", 2, 2), ("b", 0, 0)]
    assert late.ignored == Counter({"json": 1})


def test_names_that_are_not_utf8_stay_writable(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, (tmp_path / "one").open("rb") if (tmp_path / "one").write_bytes(b"x") else None)
    (sample,) = index_shard(local(path)).samples
    assert sample.key.encode() == rb"caf\xe9"


def test_an_empty_tar_is_valid(tmp_path: Path) -> None:
    assert index(tmp_path, []) == ShardIndex((), ())


NAMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "d/", "../", "/", "./", "e.f/"]),
    st.sampled_from(["a", "b", "c", ".a"]),
    st.sampled_from([".jpg", ".PNG", ".tiff", ".left.jpg", ".json", ".cls", ".txt", ".pkl", "", "."]),
)
KINDS = st.sampled_from([tarfile.REGTYPE] * 12 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
MEMBERS = st.lists(st.tuples(NAMES, st.binary(max_size=3), KINDS), max_size=14)


def naive_images_and_keys(path: Path) -> tuple[list[int], set[str]]:
    """Return the data offsets of all images that compete for a sample, and the keys without any."""
    with tarfile.open(path) as tar:
        infos = [
            i for i in tar.getmembers() if i.isreg() and not i.name.startswith("/") and ".." not in i.name.split("/")
        ]
    parts = []
    for info in infos:
        directory, _, base = info.name.rpartition("/")
        if not base.startswith(".") and "." in base:
            stem, extension = base.split(".", 1)
            parts.append((f"{directory}/{stem}" if "/" in info.name else stem, extension.lower(), info.offset_data))
    offsets, keys, keys_with = [], {key for key, _, _ in parts}, set()
    for key, run in groupby(parts, key=lambda p: p[0]):
        ends = [(extension, offset) for _, extension, offset in run]
        plain = [offset for extension, offset in ends if extension in IMAGE_EXTENSIONS]
        images = plain or [offset for extension, offset in ends if extension.split(".")[-1] in IMAGE_EXTENSIONS]
        offsets += images
        keys_with |= {key} if images else set()
    return offsets, keys - keys_with


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=MEMBERS, fmt=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_every_image_and_every_key_without_one_is_counted_once(tmp_path: Path, members: list, fmt: int) -> None:
    path = write_tar(tmp_path / "x.tar", members, fmt)
    found = index_shard(local(path))
    images, imageless = naive_images_and_keys(path)
    counts = Counter(reason.split(" (")[0] for _, reason in found.rejects)
    assert len(found.samples) + counts["duplicate key"] + counts["empty file"] == len(images)
    assert {s.offset for s in found.samples} <= set(images)
    assert Counter(k for k, reason in found.rejects if reason == "no image") == Counter(imageless)
    assert len({s.key for s in found.samples}) == len(found.samples)
    assert [s.offset for s in found.samples] == sorted(s.offset for s in found.samples)
    kinds = Counter(kind for _, _, kind in members)
    assert counts["not a regular file"] == kinds[tarfile.SYMTYPE] + kinds[tarfile.LNKTYPE]
    with tarfile.open(path) as tar:
        by_offset = {i.offset_data: i for i in tar.getmembers() if i.isreg()}
        for sample in found.samples:
            info = by_offset[sample.offset]
            assert (info.name, info.size) == (sample.member, sample.size)
            assert tar.extractfile(info).read() == path.read_bytes()[sample.offset :][: sample.size]


def test_indexing_does_not_read_the_images(tmp_path: Path) -> None:
    path = tmp_path / "big.tar"
    with tarfile.open(path, "w") as tar, (tmp_path / "hole").open("w+b") as hole:
        hole.truncate(1 << 33)
        for i in range(4):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 1 << 33  # beyond the octal field, so base-256 or pax sizes
            tar.fileobj.write(info.tobuf())
            tar.fileobj.seek(1 << 33, 1)
            tar.offset += (1 << 33) + 512
    start = time.perf_counter()
    found = index_shard(local(path))
    assert time.perf_counter() - start < 1
    assert [s.size for s in found.samples] == [1 << 33] * 4


def test_entries_are_small_and_frozen(tmp_path: Path) -> None:
    entry = index_shard(local(write_samples(tmp_path / "x.tar", 1))).samples[0]
    assert entry == SampleEntry("s0", "s0.jpg", entry.offset, 700, entry.meta_offset, 21, entry.cls_offset, 1)
    with pytest.raises(AttributeError):
        entry.size = 3


@pytest.mark.skipif("SPURIOUS_DATA" not in os.environ, reason="SPURIOUS_DATA names no folder with shards")
def test_real_shards_index_as_tarfile_lists_them() -> None:
    for path in sorted(Path(os.environ["SPURIOUS_DATA"]).rglob("*.tar")):
        found = index_shard(local(path))
        with tarfile.open(path) as tar:
            expected = [
                (m.name, m.offset_data, m.size) for m in tar if m.name.lower().endswith((".jpg", ".jpeg", ".png"))
            ]
        assert [(s.member, s.offset, s.size) for s in found.samples] == expected
        assert found.rejects == ()
