"""The pictures of a report: which images are chosen, and that they are those of the records."""

from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spurious_imagenet.benchmark.report._groups import Group, MeasuredModel
from spurious_imagenet.benchmark.report._thumbnails import PER_STRIP, SIDE, choose_images, thumbnail, with_pictures
from spurious_imagenet.datasets.predictions import Predictions
from spurious_imagenet.errors import DataError
from spurious_imagenet.images import UndecodableImageError

CLASSES = ("n01", "n02")


def jpeg(seed: int, width: int = 200, height: int = 120) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 10, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("val")
    for place, class_id in enumerate(CLASSES):
        (root / class_id).mkdir()
        for i in range(12):
            (root / class_id / f"{i}.jpg").write_bytes(jpeg(100 * place + i))
    return root


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def group_of(val: Path, models: int = 3) -> Group:
    """Models that miss the first six images of each class; spurious images are known by made-up hashes."""
    members = []
    for m in range(models):
        rows = []
        for class_id in CLASSES:
            for i in range(12):
                p = 0.05 * i + 0.01 * m
                name = digest((val / class_id / f"{i}.jpg").read_bytes())
                rows.append(("validation", class_id, None, name, p, class_id if i >= 6 else "n09"))
                rows.append(("spurious", class_id, "cue", digest(f"{class_id}{i}".encode()), p, class_id))
        columns = ["side", "class_id", "concept_id", "sha256", "probability", "predicted_id"]
        table = pd.DataFrame(rows, columns=columns).assign(name="", top5_id=None, top5_probability=None)
        classes = tuple(SimpleNamespace(class_id=c, class_name=c) for c in CLASSES)
        record = SimpleNamespace(mitigation=None, classes=classes, label_space="custom")
        members.append(MeasuredModel(record, Predictions(table), f"m{m}"))
    return Group(tuple(members))


def test_the_highest_the_lowest_and_the_missed_are_chosen(val: Path) -> None:
    top, low, missed = choose_images(group_of(val))["n01"]
    spurious = [digest(f"n01{i}".encode()) for i in range(12)]
    assert [t.sha256 for t in top.images] == spurious[11:7:-1]
    assert [t.sha256 for t in low.images] == spurious[:4]
    assert top.images[0].probability == pytest.approx(0.55 + 0.01)
    assert (top.images[0].fooled, top.images[0].models) == (3, 3)
    images = [digest((val / "n01" / f"{i}.jpg").read_bytes()) for i in range(12)]
    assert [t.sha256 for t in missed.images] == images[:PER_STRIP]
    assert {t.predicted for t in missed.images} == {"n09"}


def test_with_rankings_the_missed_are_those_of_lowest_spuriosity(val: Path) -> None:
    images = {i: digest((val / "n01" / f"{i}.jpg").read_bytes()) for i in range(12)}
    order = [5, 9, 2, 0, 1, 3, 4, 6, 7, 8, 10, 11]
    table = pd.DataFrame(
        {
            "class_id": "n01",
            "sha256": [images[i] for i in order],
            "rank": range(1, 13),
            "percentile": [(r + 0.5) / 12 for r in range(12)],
        }
    )
    strips = choose_images(group_of(val), SimpleNamespace(table=table))
    assert [t.sha256 for t in strips["n01"][2].images] == [images[5], images[2], images[0]]  # 9 is not missed
    assert strips["n02"][2].images == ()


def test_few_spurious_images_are_never_in_both_strips(val: Path) -> None:
    group = group_of(val)
    kept = {digest(f"n01{i}".encode()) for i in range(3)}
    members = []
    for m in group.members:
        table = m.predictions.table
        some = table[(table["side"] == "validation") | table["sha256"].isin(kept) | (table["class_id"] == "n02")]
        members.append(MeasuredModel(m.record, Predictions(some), m.label))
    top, low, _ = choose_images(Group(tuple(members)))["n01"]
    assert len(top.images) == 2
    assert len(low.images) == 1
    assert not {t.sha256 for t in top.images} & {t.sha256 for t in low.images}


def test_pictures_are_those_of_the_records_and_small(val: Path) -> None:
    group = group_of(val)
    strips, without = with_pictures(choose_images(group), group, None, str(val))
    assert without == 0
    assert [s.side for s in strips["n02"]] == ["validation"]
    picture = strips["n02"][0].images[0].picture
    assert picture == thumbnail((val / "n02/0.jpg").read_bytes())
    image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
    assert (image.format, image.size) == ("WEBP", (SIDE, 58))
    assert len(picture) < 5000


def test_an_image_that_is_gone_is_counted_and_other_images_are_refused(val: Path, tmp_path: Path) -> None:
    group = group_of(val)
    chosen = choose_images(group)
    for class_id in CLASSES:
        (tmp_path / class_id).mkdir()
        for i in range(1, 12):
            (tmp_path / class_id / f"{i}.jpg").write_bytes((val / class_id / f"{i}.jpg").read_bytes())
    strips, without = with_pictures(chosen, group, None, str(tmp_path))
    assert without == 2
    assert all(len(strips[c][0].images) == PER_STRIP - 1 for c in CLASSES)
    for path in tmp_path.rglob("*.jpg"):
        path.write_bytes(jpeg(9999))
    with pytest.raises(DataError, match="holds none of the validation images"):
        with_pictures(chosen, group, None, str(tmp_path))


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UndecodableImageError):
        thumbnail(b"\xff\xd8 not an image")
