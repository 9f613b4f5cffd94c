from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import run_spurious
from PIL import Image

from spurious_imagenet.builders.visualise._npfv_store import NPFV_SCHEMA
from spurious_imagenet.builders.visualise.npfv import NpfvStore
from spurious_imagenet.errors import DataError
from spurious_imagenet.planted import WorldConfig, class_id_of
from spurious_imagenet.planted.recogniser import THINGS, Recogniser, draw_alone, train_recogniser
from spurious_imagenet.planted.report import PairResult
from spurious_imagenet.planted.seen import (
    changed_part,
    contact_sheet,
    read_found,
    read_world_config,
    seen_in,
    write_seen,
)
from spurious_imagenet.planted.training import RECIPES, TrainingRecord

SIDE = 16
CUE, OBJECT = "rainbow", "star"
RED, GREEN, GREY = (250, 60, 60), (60, 250, 60), (127, 127, 127)
RECORD = TrainingRecord(
    recipe=RECIPES[0], parameters=0, train_images=0, val_images=0, val_accuracy=0.9, robust_accuracy=None, seconds=0
)


class Colours(torch.nn.Module):
    """Takes what is redder for the cue and what is greener for the object."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(images), len(THINGS)), -1.0)
        logits[:, THINGS.index(CUE)] = images[:, 0].mean((1, 2))
        logits[:, THINGS.index(OBJECT)] = images[:, 1].mean((1, 2))
        return logits


def a_picture(large: tuple[int, int, int], small: tuple[int, int, int]) -> np.ndarray:
    """Much of one colour at two borders, and a square of another within."""
    pixels = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    pixels[:3] = large
    pixels[-3:] = large
    pixels[4:12, 4:12] = small
    return pixels


def found(component: int) -> PairResult:
    class_id = class_id_of(OBJECT)
    return PairResult(class_id, CUE, 0.5, f"npca/{class_id}/{component}", component, 1.0, 1, 1, 1.0)


def a_store(path: Path, pictures: list[np.ndarray], chosen: list[int | None]) -> NpfvStore:
    (path / "00000").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    rows = []
    for i, (pixels, rank) in enumerate(zip(pictures, chosen, strict=True)):
        Image.fromarray(pixels).save(path / f"00000/{i:04d}.png")
        about = {"concept_id": found(i).concept_id, "class_index": 0, "component": i, "file": f"00000/{i:04d}.png"}
        values = {"objective": 1.0, "start_objective": 0.0, "confidence": 0.5 - i / 10}
        rows.append(about | values | {"chosen": rank is not None, "chosen_rank": rank})
    pq.write_table(pa.Table.from_pylist(rows, schema=NPFV_SCHEMA), path / "00000/npfv.parquet")
    return NpfvStore.open(path)


def test_the_changed_part_is_the_square_that_differs_most_from_grey() -> None:
    part = changed_part(a_picture(GREY, RED))
    np.testing.assert_array_equal(part, np.broadcast_to(np.uint8(RED), (SIDE, SIDE, 3)))
    corner = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    corner[-8:, :8] = GREEN
    np.testing.assert_array_equal(changed_part(corner), np.broadcast_to(np.uint8(GREEN), (SIDE, SIDE, 3)))


def test_a_cue_counts_as_seen_in_the_whole_or_in_its_part(tmp_path: Path) -> None:
    pictures = [a_picture(RED, RED), a_picture(GREEN, RED), a_picture(GREEN, GREEN)]
    npfv = a_store(tmp_path / "npfv", pictures, [2, 1, None])
    report = seen_in(npfv, [found(0), found(1), found(2)], Recogniser(Colours(), RECORD))
    assert [p.seen for p in report.pairs] == [True, True, False]
    assert [p.whole_cue > p.whole_object for p in report.pairs] == [True, False, False]
    assert [p.chosen_rank for p in report.pairs] == [2, 1, None]
    assert report.pairs[0].whole_top == CUE
    assert report.pairs[2].crop_top == OBJECT
    assert report.seen_share == report.chosen_share == pytest.approx(2 / 3)
    assert "2 of 3 planted cues are seen rather than the object, 2 rather than any other" in report.summary()
    assert "2 of the 3 components are among those chosen" in report.summary()
    assert "nothing is required" in report.summary()


def test_a_component_without_an_image_and_no_pairs_are_refused(tmp_path: Path) -> None:
    npfv = a_store(tmp_path / "npfv", [a_picture(RED, RED)], [1])
    with pytest.raises(DataError, match=r"has no image of npca/planted-00-star/3"):
        seen_in(npfv, [found(3)], Recogniser(Colours(), RECORD))
    with pytest.raises(DataError, match="no planted pair"):
        seen_in(npfv, [], Recogniser(Colours(), RECORD))


def test_what_is_written_says_what_was_judged(tmp_path: Path) -> None:
    npfv = a_store(tmp_path / "npfv", [a_picture(RED, RED)], [1])
    report = seen_in(npfv, [found(0)], Recogniser(Colours(), RECORD))
    config = WorldConfig.tiny()
    drawn = [(draw_alone(OBJECT, 0, config)[0], draw_alone(CUE, 0, config)[0])]
    write_seen(tmp_path / "seen", report, contact_sheet(report, npfv, drawn))
    content = json.loads((tmp_path / "seen/seen.json").read_text())
    assert "passed" not in content  # it informs
    assert content["pairs"][0]["concept_id"] == found(0).concept_id
    assert Image.open(tmp_path / "seen/seen.png").width > 4 * 100


def test_drawings_show_one_thing_and_none_is_the_world_s_own() -> None:
    config = WorldConfig.tiny()
    for thing in (OBJECT, CUE):
        image, mask = draw_alone(thing, 3, config)
        values = set(np.unique(np.asarray(mask)).tolist())
        assert values == ({0, 1} if thing == OBJECT else {0, 2})
        again, _ = draw_alone(thing, 3, config)
        assert np.array_equal(np.asarray(image), np.asarray(again))


@pytest.mark.slow
def test_a_recogniser_learns_to_tell_cues_and_objects_apart() -> None:
    seen: list[tuple[int, int]] = []
    recogniser = train_recogniser(WorldConfig.tiny(), 20, progress=lambda done, n: seen.append((done, n)))
    assert seen[-1] == (21 * 24, 21 * 24)
    assert recogniser.record.val_accuracy > 0.25  # of 84 drawings; guessing among 21 things gives 0.05
    probabilities = recogniser.probabilities(np.zeros((2, 64, 64, 3), np.uint8))
    assert probabilities.shape == (2, len(THINGS))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_what_is_no_world_or_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable planted world"):
        read_world_config(tmp_path)
    (tmp_path / "check.json").write_text('{"pairs": [{"class_id": 1}]}')
    with pytest.raises(DataError, match="cannot be read as the check"):
        read_found(tmp_path)
    a_store(tmp_path / "npfv", [a_picture(RED, RED)], [1])
    ran = run_spurious(
        "planted",
        "seen",
        "--world",
        tmp_path,
        "--npfv",
        tmp_path / "npfv",
        "--check",
        tmp_path,
        "--out",
        tmp_path / "o",
    )
    assert "not a readable planted world" in ran.the_error()
    assert not (tmp_path / "o").exists()
