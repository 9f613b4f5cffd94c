"""The planted world is what its truth says it is, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import run_spurious
from PIL import Image
from pydantic import ValidationError

from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.io import sha256_file
from spurious_imagenet.planted import LABEL_SPACE, PlantedTruth, WorldConfig, class_id_of, write_world
from spurious_imagenet.planted._cues import CUES
from spurious_imagenet.planted._data import planted_label_space
from spurious_imagenet.planted._plan import ImagePlan, plan_world
from spurious_imagenet.planted._shapes import SHAPES, draw_shape
from spurious_imagenet.planted._world import CUE_PIXEL, OBJECT_PIXEL, render

TINY = WorldConfig.tiny()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("planted") / "world"
    write_world(out, TINY)
    return out


@pytest.fixture(scope="module")
def truth(world: Path) -> PlantedTruth:
    return PlantedTruth.load(world)


def _bytes(world: Path) -> dict[str, bytes]:
    return {str(p.relative_to(world)): p.read_bytes() for p in sorted(world.rglob("*")) if p.is_file()}


def test_the_same_seed_gives_the_same_bytes_from_any_number_of_processes(world: Path, tmp_path: Path) -> None:
    write_world(tmp_path / "again", TINY, workers=2)
    assert _bytes(tmp_path / "again") == _bytes(world)


def test_another_seed_gives_other_images(truth: PlantedTruth) -> None:
    for plan in plan_world(TINY)[:5]:
        same, _ = render(plan, TINY)
        other, _ = render(plan, WorldConfig.tiny(seed=1))
        assert same.tobytes() == render(plan, TINY)[0].tobytes()
        assert same.tobytes() != other.tobytes()


def test_the_truth_lists_every_image_once_with_the_hash_of_its_bytes(world: Path, truth: PlantedTruth) -> None:
    files = {str(p.relative_to(world)) for p in world.rglob("*.jpg")}
    assert files == set(truth.table["file"])
    assert len(files) == len(truth.table)
    for sha256, file in list(truth.table["file"].items())[::9]:
        assert sha256_file(world / file) == sha256


def test_the_splits_share_no_image(truth: PlantedTruth) -> None:
    splits = [set(rows.index) for _, rows in truth.table.groupby("split")]
    assert len(splits) == 3
    assert len(set.union(*splits)) == sum(map(len, splits)) == len(truth.table)


def test_class_folders_hold_the_class_and_pool_names_say_nothing(truth: PlantedTruth) -> None:
    labelled = truth.table[truth.table["split"] != "pool"]
    assert [Path(f).parent.name for f in labelled["file"]] == list(labelled["class_id"])
    assert set(labelled["class_id"]) == set(planted_label_space().class_ids)
    ordered = truth.pool().sort_values("file")
    contents = ordered["class_id"].isna().to_numpy()
    # Sorted by name, images with and without an object are mixed: long runs of one kind would tell them apart.
    assert np.count_nonzero(contents[1:] != contents[:-1]) > len(contents) / 4
    assert all(len(Path(f).stem) == 16 for f in ordered["file"])


def test_masks_show_an_object_and_a_cue_exactly_where_the_truth_names_them(world: Path, truth: PlantedTruth) -> None:
    for row in truth.table.itertuples():
        with Image.open(world / row.mask) as image:
            mask = np.asarray(image)
        assert mask.shape == (TINY.image_size, TINY.image_size)
        assert set(np.unique(mask)) <= {0, OBJECT_PIXEL, CUE_PIXEL}
        assert (mask == OBJECT_PIXEL).any() == (row.class_id is not None)
        assert (mask == CUE_PIXEL).any() == (len(row.cues) > 0)


def test_cue_masks_lie_on_the_cue(world: Path, truth: PlantedTruth) -> None:
    """The dots' paper is magenta: red over green inside the mask, on average, and not outside."""
    shown = truth.table[truth.table["cues"].map(lambda cues: cues == ["polka dots"])]
    for row in shown.itertuples():
        with Image.open(world / row.mask) as image:
            inside = np.asarray(image) == CUE_PIXEL
        with Image.open(world / row.file) as image:
            pixels = np.asarray(image).astype(float)
        magenta = pixels[..., 0] - pixels[..., 1]
        assert magenta[inside].mean() > magenta[np.asarray(~inside)].mean() + 40


def test_every_class_has_its_share_of_cues(truth: PlantedTruth) -> None:
    shares = {pair.class_id: pair for pair in truth.pairs}
    for (_, class_id), rows in truth.table[truth.table["split"] != "pool"].groupby(["split", "class_id"]):
        got = rows["cues"].map(len).mean()
        expected = shares[class_id].share if class_id in shares else 0.0
        assert got == pytest.approx(expected, abs=0.5 / len(rows))
        assert {c for cues in rows["cues"] for c in cues} <= ({shares[class_id].cue} if class_id in shares else set())
        assert (rows["own_cue"] == (rows["cues"].map(len) > 0)).all()


def test_ten_pairs_nine_cues_one_of_them_shared(truth: PlantedTruth) -> None:
    cues = [pair.cue for pair in truth.pairs]
    assert len(truth.pairs) == 10
    assert set(cues) == set(CUES)
    shared = sorted(pair.share for pair in truth.pairs if cues.count(pair.cue) > 1)
    assert shared == [0.4, 0.55]
    assert len(SHAPES) - len({pair.class_id for pair in truth.pairs}) == 2


def test_the_pool_holds_what_was_configured(truth: PlantedTruth) -> None:
    pool = truth.pool()
    lone = pool["class_id"].isna()
    for cue in TINY.cues:
        shown = pool["cues"].map(lambda cues, cue=cue: cue in cues)
        holders = len(TINY.holders(cue))
        assert (shown & lone).sum() == TINY.pool_cue_only * holders
        assert (shown & ~lone & (pool["own_cue"] == False)).sum() == TINY.pool_cue_other * holders  # noqa: E712
        assert (shown & (pool["own_cue"] == True)).sum() == TINY.pool_cue_own * holders  # noqa: E712
    empty = pool["cues"].map(len) == 0
    assert (lone & empty).sum() == TINY.pool_neither
    assert (~lone & empty).sum() == TINY.pool_object_only * len(SHAPES)


def test_the_default_pool_is_like_a_real_one() -> None:
    plans = [p for p in plan_world(WorldConfig()) if p.split == "pool"]
    cue_only = [p for p in plans if p.cue and not p.name]
    assert 4000 <= len(plans) <= 6000
    assert len(cue_only) < len(plans) / 4
    config = WorldConfig()
    for cue in config.cues:
        shown = [p for p in plans if p.cue == cue]
        own = [p for p in shown if p.name in config.holders(cue)]
        assert sum(p.name is None for p in shown) >= 50
        assert 0 < len(own) < 0.08 * len(shown)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, of: int) -> None:
        if done == 3:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_world(tmp_path / "world", TINY, on_image=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_world_is_not_written_over(world: Path) -> None:
    with pytest.raises(StoreError, match="already exists"):
        write_world(world, TINY)


def test_the_contact_sheet_shows_every_class(world: Path) -> None:
    with Image.open(world / "contact.png") as sheet:
        pixels = np.asarray(sheet.convert("L")).astype(float)
    columns = np.array_split(pixels[60:, 150:], len(SHAPES), axis=1)
    assert all(column.std() > 10 for column in columns)


@pytest.mark.parametrize("name", SHAPES)
def test_silhouettes_are_of_the_right_size_and_differ(name: str) -> None:
    mask = draw_shape(name, 64, (32, 32), 16, 0.3, False)
    assert mask.shape == (64, 64)
    assert 0.15 * 32**2 < mask.sum() < 32**2
    assert not mask[0].any()
    assert not mask[:, -1].any()
    for other in SHAPES:
        if other != name:
            assert np.abs(mask - draw_shape(other, 64, (32, 32), 16, 0.3, False)).sum() > 100


def test_cues_show_in_images_of_any_size() -> None:
    for size in (32, 96):
        config = WorldConfig(image_size=size)
        for i, cue in enumerate(CUES):
            image, mask = render(ImagePlan("pool", i, "pool/x", None, cue), config)
            assert image.size == mask.size == (size, size)
            assert (np.asarray(mask) == CUE_PIXEL).mean() > 0.03


@pytest.mark.parametrize(
    "pairs",
    [
        [{"name": "unicorn", "cue": "grass", "share": 0.5}],
        [{"name": "star", "cue": "fog", "share": 0.5}],
        [{"name": "star", "cue": "grass", "share": 1.0}],
        [{"name": "star", "cue": "grass", "share": 0.5}, {"name": "star", "cue": "waves", "share": 0.5}],
        [],
    ],
)
def test_impossible_pairs_are_refused(pairs: list[dict[str, object]]) -> None:
    with pytest.raises(ValidationError):
        WorldConfig.model_validate({"pairs": pairs})


def test_class_ids_sort_in_the_order_of_the_classes() -> None:
    ids = [class_id_of(name) for name in SHAPES]
    assert ids == sorted(ids) == list(planted_label_space().class_ids)
    assert planted_label_space().name == LABEL_SPACE


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a readable planted world"):
        PlantedTruth.load(tmp_path)


@pytest.mark.parametrize(
    "sizes",
    [("--tiny", "--small"), ("--small", "--measure"), ("--tiny", "--measure"), ("--tiny", "--small", "--measure")],
)
def test_two_sizes_of_a_world_are_refused(tmp_path: Path, sizes: tuple[str, ...]) -> None:
    ran = run_spurious("planted", "world", tmp_path / "w", *sizes)
    assert f"{' and '.join(sizes)} are sizes of a world" in ran.the_error()
    assert not (tmp_path / "w").exists()
