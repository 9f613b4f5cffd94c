from __future__ import annotations

from pathlib import Path

import pytest
from shard_helpers import local, write_tar

from spurious_imagenet.errors import DataError
from spurious_imagenet.shards import SampleMetadata, index_shard, parse_metadata, read_metadata


@pytest.mark.parametrize(
    ("meta", "cls", "expected"),
    [
        (b"", b"", SampleMetadata(None, None, {})),
        (b'{"wnid": "n1", "class_id": "x"}', b"7\n", SampleMetadata("n1", 7, {"wnid": "n1", "class_id": "x"})),
        (b'{"class_id": "x"}', b"", SampleMetadata("x", None, {"class_id": "x"})),
        (b'\xef\xbb\xbf{"a": NaN}', b" 3", SampleMetadata(None, 3, {"a": None})),
        (b'{"wnid": null, "class_id": "x"}', b"", SampleMetadata("x", None, {"wnid": None, "class_id": "x"})),
    ],
)
def test_labels_and_objects(meta: bytes, cls: bytes, expected: SampleMetadata) -> None:
    assert parse_metadata(meta, cls) == expected


@pytest.mark.parametrize(
    ("meta", "cls", "said"),
    [
        (b"[1]", b"", "holds a list"),
        (b"{", b"", "cannot be parsed"),
        (b"[" * 100_000, b"", "cannot be parsed"),
        (b'{"a": "\xff"}', b"", "cannot be parsed"),
        (rb'{"wnid": "\ud800"}', b"", "cannot be parsed"),
        (b'{"wnid": "\xed\xa0\x80"}', b"", "cannot be parsed"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', b"", "longer than 1048576"),
        (b"", b"dog", "not a class index: 'dog'"),
        (b"", b"-1", "not a class index"),
        (b"", b"4294967296", "not a class index"),
        (b"", b"1" * 5000, "not a class index"),
    ],
)
def test_what_cannot_be_used_is_left_out_with_its_reason(meta: bytes, cls: bytes, said: str) -> None:
    found = parse_metadata(meta, cls)
    assert found[:3] == (None, None, {})
    assert said in found.problem


def test_a_class_id_must_be_text() -> None:
    assert parse_metadata(b'{"class_id": 5}', b"2") == (
        None,
        2,
        {"class_id": 5},
        "the JSON's class id is not a text: 5",
    )


def test_reading_by_path_and_by_open_file(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "x.tar",
        [("a.jpg", b"1"), ("a.json", b'{"wnid": "n1"}'), ("b.jpg", b"1"), ("b.cls", b"4"), ("c.jpg", b"1")],
    )
    entries = index_shard(local(path)).samples
    expected = [("n1", None, {"wnid": "n1"}, None), (None, 4, {}, None), (None, None, {}, None)]
    assert [read_metadata(path, e) for e in entries] == expected
    with path.open("rb") as file:
        assert [read_metadata(file, e) for e in entries] == expected
    path.write_bytes(path.read_bytes()[:1540])
    with pytest.raises(DataError, match="cut"):
        read_metadata(path, entries[0])
    path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_metadata(path, entries[0])
