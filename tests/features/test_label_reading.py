"""A label that cannot be used is counted with its reason, wherever labels are needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import CLASSES, jpeg, run_spurious, weights_file, write_tar

from spurious_imagenet.datasets.validation import SeenImages, validation_images
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.label_problems import LabelCount, labels_of_store
from spurious_imagenet.features.label_reading import LabelReader, ReadLabel
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import LabelSpace
from spurious_imagenet.models.labels import NO_LABELS
from spurious_imagenet.shards import parse_metadata

SPACE = LabelSpace("fruit", ("n1", "n2", "n3"), ("red apple", "crane", "crane"))


def read(meta: object = None, cls: bytes = b"", space: LabelSpace = SPACE) -> ReadLabel:
    data = b"" if meta is None else json.dumps(meta).encode()
    return LabelReader(space).read(parse_metadata(data, cls))


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (b"1.0", ".cls is not a class index: '1.0'"),
        (b"1e0", ".cls is not a class index: '1e0'"),
        (b"0x1", ".cls is not a class index: '0x1'"),
        (b"-1", ".cls is not a class index: '-1'"),
        (b" \n", ".cls is not a class index: ' \\n'"),
        (b"\xff\xfe1\x00", ".cls is not a class index"),
        (b"1 2", ".cls is not a class index: '1 2'"),
        (b"[1]", ".cls is not a class index: '[1]'"),
        (b"3", ".cls is outside of the model's classes: 3, expected 0 to 2"),
        (b"Red_Apple", "'Red_Apple', which is the name of class 'n1'"),
        (b"crane", "'crane', which is the name of the classes 'n2', 'n3'"),
        (b"n2", "'n2', which is a class id"),
    ],
)
def test_a_cls_that_cannot_be_used(cls: bytes, said: str) -> None:
    label = read(cls=cls)
    assert label[:2] == (None, -1)
    assert said in str(label.problem)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({"wnid": 3}, "not a text: 3"),
        ({"class_id": True}, "not a text: True"),
        ({"class_id": ["n1"]}, "not a text: ['n1']"),
        ({"class_id": {"id": "n1"}}, "not a text"),
        ({"class_id": "  "}, "not a text"),
        ({"class_id": "N1"}, "not one of the model's: 'N1', but 'n1' is"),
        ({"class_id": "n2\n"}, "not one of the model's: 'n2\\n', but 'n2' is"),
        ({"class_id": "red-apple"}, "which is the name of class 'n1'"),
        ({"class_id": "2"}, "which may be the index of class 'n3'"),
    ],
)
def test_a_json_that_names_no_class(meta: object, said: str) -> None:
    label = read(meta)
    assert label.label == -1
    assert said in str(label.problem)


def test_what_is_right_or_simply_another_class_is_no_problem() -> None:
    assert read({"class_id": "n2"}, b"1") == ("n2", 1, None)
    assert read({"class_id": "n2"}, b"red apple") == ("n2", 1, None)  # the JSON says it
    assert read(cls=b" 2\n") == ("n3", 2, None)
    assert read({"wnid": None}, b"2") == ("n3", 2, None)
    assert read({"class_id": 2}, b"2") == ("n3", 2, None)
    assert read({"class_id": 1}, b"2").problem is not None
    assert read({"class_id": "unicorn"}) == ("unicorn", -1, None)
    assert read({"file_name": "a.jpg"}) == read() == (None, -1, None)
    assert read({"class_id": "0"}, b"7", NO_LABELS) == ("0", -1, None)


def test_json_and_cls_that_disagree_are_held_to_what_the_shard_usually_says() -> None:
    def pairs(*said: tuple[str, int]) -> list[str | None]:
        metas = [parse_metadata(json.dumps({"class_id": c}).encode(), str(i).encode()) for c, i in said]
        return [label.problem for label in LabelReader(SPACE).read_all(metas)]

    assert pairs(("n1", 0), ("n2", 1), ("n3", 2)) == [None] * 3
    assert [p is not None for p in pairs(("n1", 0), ("n2", 1), ("n3", 1))] == [False, False, True]
    # A numbering of the shards' own is not a contradiction, one image that leaves it is.
    assert pairs(("n1", 7), ("n2", 5), ("n1", 7), ("cat", 9)) == [None] * 4
    assert [p is not None for p in pairs(("n1", 7), ("n1", 7), ("n1", 5), ("n2", 5))] == [False, False, True, False]


def test_counting_says_reasons_with_examples_and_refuses_above_the_limit() -> None:
    count = LabelCount.of("shards", [read(cls=b"x"), read(cls=b"y"), read({"class_id": "unicorn"}), read(cls=b"1")])
    assert count.sentence() == (
        "3 of 4 images of shards have a label that cannot be used: 2 x .cls is not a class index ('x'); "
        "1 x a class that the model does not have ('unicorn')."
    )
    count.check(0.75)
    count.check(0.5, foreign=False)
    with pytest.raises(DataError, match=r"more than the allowed share of 0\.7"):
        count.check(0.7)
    assert LabelCount.of("shards", [read(cls=b"1")]).sentence() is None


def mixed_shard(path: Path, labels: list[bytes | None]) -> Path:
    members = []
    for i, cls in enumerate(labels):
        members += [(f"{i:03d}.jpg", jpeg(i)), *([] if cls is None else [(f"{i:03d}.cls", cls)])]
    return write_tar(path, members)


def test_every_command_counts_them_and_the_share_has_a_limit(tmp_path: Path) -> None:
    spec = weights_file(tmp_path / "m.safetensors")
    shard = mixed_shard(tmp_path / "s.tar", [str(i % 4).encode() for i in range(20)] + [b"1.0", b"9", b"cup", None])
    features = ("features", "--model", spec, "--shards", shard, "--out", tmp_path / "f", "--workers", 1)
    error = run_spurious(*features).the_error()
    assert "3 of 24 images" in error
    assert "--max-label-problems" in error
    ran = run_spurious(*features, "--max-label-problems", 0.2)
    assert ran.code == 0, ran
    assert "1 x .cls is outside of the model's classes (9, expected 0 to 3)" in ran.err
    store = FeatureStore.open(tmp_path / "f")
    assert (labels_of_store([store]).problems.total(), labels_of_store([store]).unlabelled) == (3, 4)
    for command in ("components", "neurons"):
        options = (command, "--model", spec, "--features", tmp_path / "f", "--out", tmp_path / command)
        assert "3 of 24 images" in run_spurious(*options).the_error()
        ran = run_spurious(*options, "--max-label-problems", 0.2)
        assert "20 of 24 images used" in ran.out, ran
        assert "have a label that cannot be used" in ran.err
    ran = run_spurious(
        *("head", "--model", spec, "--features", tmp_path / "f", "--out", tmp_path / "h.safetensors"),
        *("--test", tmp_path / "f", "--max-label-problems", 0.2),
    )
    assert "right of 20 images of all 4 classes of the head (24 in the store)" in ran.out, ran


def test_a_pass_in_which_no_label_fits_is_not_begun(tmp_path: Path) -> None:
    spec = weights_file(tmp_path / "m.safetensors")
    shard = mixed_shard(tmp_path / "s.tar", [CLASSES[i % 4].upper().encode() for i in range(8)])
    ran = run_spurious("features", "--model", spec, "--shards", shard, "--out", tmp_path / "f")
    assert "Nothing was run" in ran.the_error()
    assert "8 of 8 images" in ran.the_error()
    assert not FeatureStore.open(tmp_path / "f").parts
    assert run_spurious(
        *("features", "--model", spec, "--shards", shard, "--out", tmp_path / "f", "--max-label-problems", 1)
    ).code == 0  # fmt: skip


def test_validation_shards_say_what_they_leave_out(tmp_path: Path) -> None:
    space = LabelSpace("small", CLASSES, CLASSES)
    path = mixed_shard(tmp_path / "v.tar", [b"0", b"1", b"2", b"3", b"x", b"7"])
    seen = SeenImages(max_label_problems=0.5)
    assert len(list(validation_images(str(path), set(CLASSES), space, seen))) == 4
    assert [reason.partition(":")[0] for _, reason in seen.rejects] == [
        ".cls is not a class index",
        ".cls is outside of the model's classes",
    ]
    with pytest.raises(DataError, match="2 of 6 images"):
        list(validation_images(str(path), set(CLASSES), space, SeenImages()))
