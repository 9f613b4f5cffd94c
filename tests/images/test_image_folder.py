"""What a file manager, a notebook, a disk or an archive leaves in a folder is not data, for any command."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from helpers import jpeg, run_spurious

from spurious_imagenet.builders.rankings.join import OwnImages
from spurious_imagenet.builders.shards.folder import ImageFolder
from spurious_imagenet.datasets.validation import SeenImages, once_each, validation_images
from spurious_imagenet.errors import DataError
from spurious_imagenet.images.folder import ImageTree, SkipCount, image_files
from spurious_imagenet.models import LabelSpace

SPACE = LabelSpace("small", ("ape", "boat"), ("ape", "boat"))


def folder(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(seed))
    return root


def counts(root: Path) -> tuple[int, int, int, int]:
    """How many images each reader finds."""
    return (
        len(list(ImageFolder(root).files(lambda *_: None))),
        len(list(validation_images(str(root), {"ape", "boat"}, SPACE, SeenImages()))),
        len(OwnImages(root)),
        len(list(image_files(root, lambda *_: None))),
    )


@pytest.mark.parametrize(
    "left",
    [
        "ape/.ipynb_checkpoints/a-checkpoint.jpg",
        ".Trash-1000/files/a.jpg",
        "__MACOSX/ape/._a.jpg",
        "__MACOSX/ape/a.jpg",
        "ape/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "ape/._a.jpg",
        "ape/Thumbs.db",
        "boat/.DS_Store",
        "$RECYCLE.BIN/S-1-5/a.jpg",
        "#recycle/a.jpg",
        "lost+found/a.jpg",
        "System Volume Information/a.jpg",
        "boat/desktop.ini",
    ],
)
def test_what_is_left_behind_is_skipped_and_counted(left: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "set", "ape/a.jpg", "ape/deep/b.jpg", "boat/c.jpg", left)
    assert counts(root) == (3, 3, 3, 3)
    for reader in (lambda skip: list(ImageTree(root).groups(skip)), lambda skip: list(image_files(root, skip))):
        skips = SkipCount()
        reader(skips.add)
        assert skips.counts.total() == 1
        assert "were skipped: 1 x" in str(skips.sentence("set"))


def test_links_that_leave_the_folder_or_loop_are_skipped(tmp_path: Path) -> None:
    outside = folder(tmp_path / "outside", "x.jpg")
    root = folder(tmp_path / "set", "ape/a.jpg", "boat/b.jpg")
    (root / "ape" / "loop").symlink_to(root)
    (root / "boat" / "again").symlink_to(root / "ape")
    (root / "boat" / "out.jpg").symlink_to(outside / "x.jpg")
    (root / "car").symlink_to(outside)
    assert counts(root) == (2, 2, 2, 2)
    skips = SkipCount()
    list(image_files(root, skips.add))
    assert skips.counts == Counter({"link to a folder": 3, "link that leads outside of the folder": 1})


def test_tiny_imagenets_own_layouts(tmp_path: Path) -> None:
    val = folder(tmp_path / "val", "images/val_0.JPEG", "images/val_1.JPEG", "images/val_2.JPEG")
    (val / "val_annotations.txt").write_text("val_0.JPEG\tboat\t0\t1\t2\t3\nval_1.JPEG\tape\t0\t0\t1\t1\n")
    files = list(ImageFolder(val).files(lambda *_: None))
    assert {file.name: file.class_id for file in files} == {"images/val_0.JPEG": "boat", "images/val_1.JPEG": "ape"}
    seen = SeenImages()
    assert [i.class_id for i in validation_images(str(val), {"ape", "boat"}, SPACE, seen)] == ["boat", "ape"]
    assert seen.skips.counts == Counter({"not in val_annotations.txt": 1})
    assert any("val_annotations.txt" in remark for remark in seen.remarks())
    train = folder(tmp_path / "train", "ape/images/a.JPEG", "boat/images/b.JPEG")
    assert [file.class_id for file in ImageFolder(train).files(lambda *_: None)] == ["ape", "boat"]
    test = folder(tmp_path / "test", "images/test_0.JPEG")
    assert [file.class_id for file in ImageFolder(test).files(lambda *_: None)] == [None]
    with pytest.raises(DataError, match=r"train, val, which are splits of a dataset and not classes"):
        ImageTree(folder(tmp_path / "whole", "train/ape/a.jpg", "val/ape/b.jpg"))


@pytest.mark.parametrize("damage", ["val_0.JPEG\n", "val_0.JPEG\tape\nval_0.JPEG\tboat\n", "val_0.JPEG\t \t0\n"])
def test_a_table_of_classes_that_is_torn_is_refused_by_its_line(damage: str, tmp_path: Path) -> None:
    val = folder(tmp_path / "val", "images/val_0.JPEG")
    (val / "val_annotations.txt").write_text(damage)
    with pytest.raises(DataError, match=r"val_annotations\.txt, line \d"):
        list(ImageTree(val).groups(lambda *_: None))


@pytest.mark.parametrize(("names", "said"), [(("APE", "BOAT"), "'APE', but 'ape' is"), (("0", "1"), "index of class")])
def test_folders_that_are_named_otherwise_are_said_before_any_image_is_read(
    names: tuple[str, str], said: str, tmp_path: Path
) -> None:
    root = folder(tmp_path / "set", *(f"{name}/a.jpg" for name in names))
    with pytest.raises(DataError, match=said):
        next(iter(validation_images(str(root), {"ape", "boat"}, SPACE, SeenImages())))
    packed = run_spurious("shards", root, tmp_path / "shards")
    assert packed.code == 0, packed


def test_an_image_counts_once() -> None:
    rows = [("ape", "a", "1"), ("ape", "b", "1"), ("boat", "c", "2"), ("ape", "d", "2"), ("boat", "e", "3")]
    table = pd.DataFrame(rows, columns=["class_id", "name", "sha256"])
    kept, said = once_each(table)
    assert kept["name"].tolist() == ["a", "d", "e"]
    assert said == [
        "1 of 5 validation images repeat the bytes of another of their class and count once, such as b.",
        "1 of 5 validation images lie in another class too and count there alone, such as c, which is in 'boat' and in "
        "'ape'.",
    ]
    assert once_each(kept)[1] == []
    assert once_each(table.iloc[:0])[1] == []
