"""ReaL labels: what they say of ranked images, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spurious_imagenet.builders.label_noise._real import RealLabels, real_report
from spurious_imagenet.errors import DataError
from spurious_imagenet.models.labels import imagenet_label_space


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_list_is_in_the_order_of_file_names(tmp_path: Path) -> None:
    labels: list[list[int]] = [[] for _ in range(50_000)]
    labels[0], labels[49_999] = [3], [5, 7]
    real = RealLabels(written(tmp_path / "real.json", labels))
    ids = imagenet_label_space("imagenet-1k").class_ids
    names = pd.Series(
        ["val/n01440764/ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00050000_n01440764", "ILSVRC2012_val_00000002"]
    )
    assert real.of(names) == [{ids[3]}, {ids[5], ids[7]}, frozenset()]


def images() -> pd.DataFrame:
    rows = [
        {"name": f"{c}/{c}-{i}", "class_id": c, "percentile": (i + 0.5) / 20} for c in ("a", "b") for i in range(20)
    ]
    return pd.DataFrame(rows)


def test_images_of_several_classes_are_counted_at_both_ends(tmp_path: Path) -> None:
    table = images()
    content = {Path(name).name + ".jpg": [name[0]] for name in table["name"]}
    content |= {"a-19.jpg": ["a", "b"], "a-18.jpg": ["b"], "a-0.jpg": ["a", "c"], "b-19.jpg": []}
    real = RealLabels(written(tmp_path / "r.json", content))
    flagged = table[table["name"].isin(["a/a-19", "a/a-18", "b/b-19"])].assign(suggested_id="b")
    report = real_report(table, flagged, {"a": -0.3, "b": 0.2}, real)
    high, low = report.classes["a"]
    assert (high.images, high.several, high.share) == (2, 1, 0.5)
    assert (low.images, low.several) == (2, 1)
    assert [g.none for g in report.classes["b"]] == [1, 0]
    named = {group.group: group for group in report.groups}
    assert named["all ranked images"].several == 2
    assert named["classes with a gap below -20%, highest tenth"] == high.model_copy(
        update={"group": "classes with a gap below -20%, highest tenth"}
    )
    assert (report.flagged, report.flagged_without_label, report.flagged_unlabelled) == (3, 1, 1)
    assert report.flagged_with_suggestion == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([[1], [2]], "lists 2 images: expected 50000"),
        ("{", "cannot be read"),
        ("3", "holds int: expected a list, or an object"),
        ({"x": 3}, "image x has 3: expected a list of classes"),
        ({"x": [1000]}, "image x has the class 1000: expected an index from 0 to 999"),
        ({"x": [-1]}, "has the class -1"),
        ({"x": [1.5]}, r"has the class 1\.5"),
        ({"x": [True]}, "has the class True"),
        ([[[1]]] + [[]] * 49_999, r"ILSVRC2012_val_00000001 has the class \[1\]"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        RealLabels(written(tmp_path / "r.json", content))


def test_images_without_real_labels_are_counted(tmp_path: Path) -> None:
    real = RealLabels(written(tmp_path / "r.json", {"a-0": [1]}))
    with pytest.raises(DataError, match="has no labels of 39 of 40 ranked images, such as 'a/a-1'"):
        real.of(images()["name"])
    with pytest.raises(DataError, match="cannot be read"):
        RealLabels(tmp_path / "none.json")


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    real = RealLabels(written(tmp_path / "r.json", {"cat/1.jpg": ["cat"], "dog/1.jpg": ["dog"], "3.jpg": ["cow"]}))
    assert real.of(pd.Series(["dog/1", "cat/1.JPEG", "x/3.jpg"])) == [{"dog"}, {"cat"}, {"cow"}]


@pytest.mark.parametrize(
    ("content", "names", "sentence"),
    [
        ({"1.jpg": ["cat"]}, ["cat/1", "dog/1"], "labels of '1', which may be those of 'cat/1' or 'dog/1'"),
        ({"a/1": ["x"], "b/1": ["y"]}, ["cat/1"], "labels of 'a/1' and 'b/1', which may be those of 'cat/1'"),
        ({"cat/1": ["x"], "1": ["y"]}, ["cat/1", "dog/1"], "labels of 'cat/1' and '1', which may be .* 'dog/1'"),
    ],
)
def test_labels_that_may_be_of_two_images_are_refused(
    tmp_path: Path, content: dict[str, list[str]], names: list[str], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        RealLabels(written(tmp_path / "r.json", content)).of(pd.Series(names))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"1.jpg": [], "1.png": []}, "names image 1 twice, .* '1.png'"),
        ('{"1": [], "1": [3]}', "key '1' is given twice"),
    ],
)
def test_an_image_has_its_real_labels_once(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        RealLabels(written(tmp_path / "r.json", content))
