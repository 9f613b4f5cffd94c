from __future__ import annotations

import gzip
import io
import pickle
import random
import tarfile
from pathlib import Path

import pytest
import webdataset
from shard_helpers import local, write_samples, write_tar

from spurious_imagenet.errors import DataError
from spurious_imagenet.shards import ShardIndex, index_shard
from spurious_imagenet.shards._tar import TarDamageError


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return write_samples(tmp_path / "whole.tar").read_bytes()


def end_of_members(data: bytes) -> int:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        last = tar.getmembers()[-1]
    return last.offset_data + -(-last.size // 512) * 512


def index_bytes(tmp_path: Path, data: bytes, **options: bool) -> ShardIndex:
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    return index_shard(local(path), **options)


def test_every_cut_is_noticed(tmp_path: Path, whole: bytes) -> None:
    full, end = index_bytes(tmp_path, whole), end_of_members(whole)
    boundaries = [b + d for b in range(0, end + 1024, 512) for d in (-1, 0, 1)]
    for cut in sorted({c for c in [*boundaries, *range(1, end, 97)] if 0 < c < end + 1024}):
        with pytest.raises(TarDamageError) as error:
            index_bytes(tmp_path, whole[:cut])
        assert error.value.position == cut
        found = index_bytes(tmp_path, whole[:cut], salvage=True)
        expected = [s for s in full.samples if s.offset + s.size <= cut]
        assert [(s.key, s.offset, s.size) for s in found.samples] == [(s.key, s.offset, s.size) for s in expected]
        assert all(s.meta_offset + s.meta_size <= cut and s.cls_offset + s.cls_size <= cut for s in found.samples)
        assert found.rejects[-1] == (f"byte {cut}", found.damage)
        assert str(tmp_path / "x.tar") in found.damage
    assert index_bytes(tmp_path, whole[: end + 1024]) == full


def test_a_zero_byte_file_is_no_tar(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 bytes"):
        index_bytes(tmp_path, b"")


def test_webdataset_is_silent_where_the_index_is_not(tmp_path: Path, whole: bytes) -> None:
    """The reason for the strict walk: without it, half a shard passes for a whole one."""
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        boundary = tar.getmember("s2.jpg").offset
    for name, data in (
        ("cut", whole[:boundary]),
        ("zapped", whole[:boundary] + b"\xff" * 512 + whole[boundary + 512 :]),
    ):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(data)
        assert len(list(webdataset.WebDataset(str(path), shardshuffle=False))) == 2
        with pytest.raises(TarDamageError) as error:
            index_shard(local(path))
        assert error.value.position == boundary


def test_any_changed_header_byte_is_noticed_or_harmless(tmp_path: Path, whole: bytes) -> None:
    full = index_bytes(tmp_path, whole)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        header = tar.getmember("s2.json").offset
    positions = []
    for at in range(header, header + 512):
        changed = bytearray(whole)
        changed[at] ^= 0x81
        try:
            assert index_bytes(tmp_path, bytes(changed)) == full
        except TarDamageError as error:
            positions.append(error.position)
    assert len(positions) > 500  # all but the padding of the checksum field itself
    assert set(positions) == {header}


def test_data_after_the_end_is_noticed(tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(TarDamageError, match="follows the end-of-archive") as error:
        index_bytes(tmp_path, whole + whole)
    assert error.value.position == len(whole)
    with pytest.raises(TarDamageError, match="follows the end-of-archive"):
        index_bytes(tmp_path, whole[:-1] + b"x")
    found = index_bytes(tmp_path, whole + b"garbage", salvage=True)
    assert len(found.samples) == 5
    assert len(found.rejects) == 1


def test_a_hole_in_the_middle_is_noticed(tmp_path: Path, whole: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        start = tar.getmember("s2.jpg").offset
    with pytest.raises(TarDamageError, match="follows the end-of-archive"):
        index_bytes(tmp_path, whole[:start] + bytes(1024) + whole[start + 1024 :])
    with pytest.raises(TarDamageError, match="broke off"):
        index_bytes(tmp_path, whole[:start] + bytes(2 << 20))


def test_padding_of_large_records_is_accepted(tmp_path: Path, whole: bytes) -> None:
    assert len(index_bytes(tmp_path, whole + bytes(1 << 19)).samples) == 5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(random.Random(0).randbytes(5000), mtime=0), "gzip"),
        (b"\x28\xb5\x2f\xfd" + b"1" * 600, "zstd"),
        (b"<html>not found</html>" * 40, "no valid tar header"),
        (b"short", "inside a header"),
    ],
    ids=["gzip", "zstd", "html", "short"],
)
def test_what_is_no_tar_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        index_bytes(tmp_path, data)


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_forged_extended_header_is_not_read_into_memory(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(TarDamageError, match="claims 68719476736 bytes"):
        index_bytes(tmp_path, header("x", 1 << 36, kind) + bytes(4096))


def test_an_endless_chain_of_extended_headers_ends(tmp_path: Path) -> None:
    link = header("x", 2, tarfile.GNUTYPE_LONGNAME) + padded(b"y\0")
    with pytest.raises(TarDamageError, match="follow each other"):
        index_bytes(tmp_path, link * 5000)


@pytest.mark.parametrize("size", [-512, -1, -(1 << 40)])
def test_a_negative_size_does_not_loop(tmp_path: Path, size: int) -> None:
    with pytest.raises(TarDamageError):
        index_bytes(tmp_path, header("x.jpg", size, tarfile.REGTYPE) + bytes(4096))


def test_sparse_members_are_refused(tmp_path: Path) -> None:
    records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    forged = header("x", len(records), tarfile.XHDTYPE) + padded(records)
    forged += header("x.jpg", 512, tarfile.REGTYPE) + b"99999999\n" + b"1" * 503
    with pytest.raises(TarDamageError, match="sparse"):
        index_bytes(tmp_path, forged)
    with pytest.raises(TarDamageError, match="sparse"):
        index_bytes(tmp_path, header("x.jpg", 512, tarfile.GNUTYPE_SPARSE) + bytes(2048))


def test_a_pax_size_that_disagrees_is_noticed(tmp_path: Path) -> None:
    records = b"13 size=1024\n"
    forged = header("x", len(records), tarfile.XHDTYPE) + padded(records)
    forged += header("x.jpg", 3, tarfile.REGTYPE) + padded(b"abc")
    with pytest.raises(TarDamageError):
        index_bytes(tmp_path, forged + bytes(1024))


def test_salvage_keeps_the_run_that_was_cut(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "y.tar", [("a.jpg", b"1"), ("a.json", b"{}"), ("b.jpg", b"2"), ("b.json", b"{}")])
    data = path.read_bytes()
    found = index_bytes(tmp_path, data[: 512 * 7], salvage=True)
    assert [(s.key, s.meta_size) for s in found.samples] == [("a", 2), ("b", 0)]


def test_the_error_passes_between_processes() -> None:
    error = pickle.loads(pickle.dumps(TarDamageError("x.tar", 512, "it is cut")))
    assert (str(error), error.position) == ("shard x.tar is damaged at byte 512: it is cut.", 512)
