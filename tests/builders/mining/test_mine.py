from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import (
    CLASSES,
    encoded,
    jpeg,
    picture,
    random_bank,
    run_spurious,
    spread_weights_file,
    tree,
    weights_file,
    write_tar,
)
from PIL import Image
from pydantic import ValidationError

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.builders.mining import MineConfig, MineResult, mine
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.errors import ConfigError, DataError, ModelError, StoreError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.images import DecodeLimits
from spurious_imagenet.models import load_classifier

TOP, KEEP, BITS = 24, 5, 6
#: The second voter has the same classes in another order, among others, and calls them by other names.
OTHER_CLASSES = ("dog", "egg", "cup", "bird", "apple")


class World(NamedTuple):
    root: Path
    images: dict[str, bytes]
    store: FeatureStore
    bank: ConceptBank
    voters: tuple[str, str]

    def config(self, **options: object) -> MineConfig:
        fixed = {"bank": str(self.root / "bank"), "features": str(self.root / "store"), "agree": self.voters}
        sizes = {"top": TOP, "keep": KEEP, "near_duplicate_bits": BITS, "backend": "eager", "workers": 2}
        return MineConfig(**(fixed | sizes | options))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three shards of pictures; the last one repeats some of the first: as they are, and coded anew."""
    root = tmp_path_factory.mktemp("world")
    images = {f"{s}/{i:02d}": jpeg(100 * s + i) for s in range(3) for i in range(28)}
    for i in range(9):
        images[f"2/copy-{i:02d}"] = images[f"0/{i:02d}"]
        images[f"2/recoded-{i:02d}"] = encoded(picture(100 + i), quality=60)
    shards = []
    for s in range(3):
        members = [(f"{key}.jpg", data) for key, data in images.items() if key.startswith(f"{s}/")]
        shards.append(str(write_tar(root / f"pool-{s}.tar", members)))
    spec = spread_weights_file(root / "scorer.safetensors")
    voters = (
        spread_weights_file(root / "voter0.safetensors", seed=2),
        spread_weights_file(root / "voter1.safetensors", seed=1, classes=OTHER_CLASSES, names=[*"ABCDE"]),
    )
    config = FeaturesConfig(model=spec, shards=tuple(shards), backend="eager", workers=2)
    store = extract_features(config, root / "store").store
    return World(root, images, store, random_bank(store, root / "bank"), voters)


@pytest.fixture(scope="module")
def mined(world: World) -> MineResult:
    return mine(world.config(), world.root / "mined")


def candidates(result: MineResult) -> pd.DataFrame:
    return pq.read_table(result.path / "candidates.parquet").to_pandas()


def opinions(spec: str, images: Sequence[bytes]) -> tuple[list[str], np.ndarray]:
    """Predicted class ids, and the (N, K) probabilities by class id in the order of ``CLASSES``."""
    classifier = load_classifier(spec)
    pixels = np.stack([classifier.preprocess.apply(np.asarray(Image.open(io.BytesIO(d)))) for d in images])
    logits = classifier.predict(pixels)[1].astype(np.float64)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = classifier.labels.class_ids
    return [ids[i] for i in logits.argmax(axis=1)], probability[:, [ids.index(c) for c in CLASSES]]


def naive_mining(world: World, min_agree: int) -> list[dict[str, object]]:
    """Every step by its definition, image by image."""
    parts = sorted(world.store.parts, key=lambda p: p.path.name)
    keys = [key for part in parts for key in part.rows(["key"]).column("key").to_pylist()]
    images = [world.images[key] for key in keys]
    features = np.concatenate([part.features() for part in parts]).astype(np.float64)
    assigned, _ = opinions(world.store.config.model, images)
    voted = [opinions(spec, images)[0] for spec in world.voters]
    hashes = [imagehash.phash(Image.open(io.BytesIO(data))) for data in images]
    rows = []
    for m, concept in enumerate(world.bank.table.itertuples()):
        if concept.component < 0:
            continue
        alpha = (features @ world.bank.directions[m].astype(np.float64) + world.bank.offsets[m]).astype(np.float32)
        mine_ = [i for i in range(len(keys)) if assigned[i] == concept.class_id]
        passed: list[int] = []
        for rank, i in enumerate(sorted(mine_, key=lambda i: (-alpha[i], i))[:TOP], start=1):
            votes = 1 + sum(v[i] == concept.class_id for v in voted)
            nearest = min(passed, key=lambda j: hashes[i] - hashes[j], default=None)
            original = None
            if votes < min_agree:
                status = "too-few-votes"
            elif nearest is not None and hashes[i] - hashes[nearest] <= BITS:
                status, original = "near-duplicate", keys[nearest]
            else:
                status = "kept" if len(passed) < KEEP else "reserve"
                passed.append(i)
            row = {"concept_id": concept.concept_id, "key": keys[i], "rank": rank, "alpha": float(alpha[i])}
            rows.append(row | {"votes": votes, "status": status, "duplicate_of": original})
    return rows


@pytest.mark.parametrize("min_agree", [1, 2, 3])
def test_candidates_are_those_of_the_definition(world: World, tmp_path: Path, min_agree: int) -> None:
    found = candidates(mine(world.config(min_agree=min_agree), tmp_path / "mined"))
    expected = pd.DataFrame(naive_mining(world, min_agree))
    pd.testing.assert_frame_equal(
        found[list(expected)].astype({"rank": "int64", "votes": "int64", "alpha": "float64"}), expected
    )
    statuses = {"kept", "reserve", "near-duplicate", "too-few-votes"}
    assert (
        set(expected["status"])
        >= {1: statuses - {"too-few-votes"}, 2: statuses, 3: {"kept", "too-few-votes"}}[min_agree]
    )


def test_alpha_and_opinions_are_the_banks_and_the_models_own(world: World, mined: MineResult) -> None:
    found = candidates(mined)
    part_of = {part.receipt.shard: part for part in world.store.parts}
    rows = {shard: part.rows(["key"]).column("key").to_pylist() for shard, part in part_of.items()}
    features = np.stack(
        [part_of[s].features()[rows[s].index(k)] for s, k in zip(found["shard"], found["key"], strict=True)]
    )
    concept = [world.bank.table["concept_id"].tolist().index(c) for c in found["concept_id"]]
    scores = world.bank.score(features)[np.arange(len(found)), concept]
    np.testing.assert_allclose(found["alpha"], scores, rtol=1e-5, atol=1e-5)
    images = [world.images[key] for key in found["key"]]
    names = [dict(zip(CLASSES, CLASSES, strict=True))] * 2 + [dict(zip(OTHER_CLASSES, "ABCDE", strict=True))]
    for i, spec in enumerate((world.store.config.model, *world.voters)):
        predicted, probability = opinions(spec, images)
        own = [models[i] for models in found["models"]]
        assert [o["model"] for o in own] == [spec] * len(found)
        assert [o["class_id"] for o in own] == predicted
        assert [o["class_name"] for o in own] == [names[i][p] for p in predicted]
        wanted = [CLASSES.index(c) for c in found["class_id"]]
        np.testing.assert_allclose(
            [o["probability"] for o in own], probability[np.arange(len(found)), wanted], rtol=1e-4, atol=1e-6
        )
    votes = [sum(o["class_id"] == c for o in m) for m, c in zip(found["models"], found["class_id"], strict=True)]
    assert found["votes"].tolist() == votes


def test_candidates_say_where_their_bytes_are(world: World, mined: MineResult) -> None:
    for row in candidates(mined).drop_duplicates("key").itertuples():
        data = Path(row.shard).read_bytes()[row.offset : row.offset + row.size]
        assert data == world.images[row.key]
        assert imagehash.hex_to_hash(row.phash) == imagehash.phash(Image.open(io.BytesIO(data)))
        assert (row.width, row.height) == (64, 64)
        assert pd.isna(row.pool_class_id)


def test_of_a_copy_the_lower_alpha_is_dropped(mined: MineResult) -> None:
    found = candidates(mined)
    dropped = found[found["status"] == "near-duplicate"]
    by_key = found.set_index(["concept_id", "key"])
    kinds = set()
    for row in dropped.itertuples():
        original = by_key.loc[(row.concept_id, row.duplicate_of)]
        assert original["status"] in {"kept", "reserve"}
        assert original["rank"] < row.rank
        assert original["alpha"] >= row.alpha
        number = row.key.rpartition("/")[2].rpartition("-")[2]
        assert number in row.duplicate_of
        kinds.add("recoded" in row.key + row.duplicate_of)
    assert kinds == {True, False}, "both the exact and the recoded copies are among the candidates"


def test_the_summary_counts_and_says_what_is_too_few(world: World, mined: MineResult) -> None:
    found = candidates(mined)
    for concept in mined.concepts.itertuples():
        own = found[found["concept_id"] == concept.concept_id]
        count = own["status"].value_counts()
        assert concept.found == len(own) == own["rank"].max()
        assert concept.agreed == len(own) - count.get("too-few-votes", 0)
        assert concept.near_duplicates == count.get("near-duplicate", 0)
        assert concept.kept == count.get("kept", 0)
        assert concept.enough == (concept.kept == KEEP)
    assert mined.images == found["key"].nunique()


def test_too_few_is_said_on_the_command_line(world: World, tmp_path: Path) -> None:
    agree = [a for spec in world.voters for a in ("--agree", spec)]
    ran = run_spurious(
        "mine", "--bank", world.root / "bank", "--features", world.root / "store", "--out", tmp_path / "mined",
        *agree, "--min-agree", 3, "--top", TOP, "--keep", TOP, "--backend", "eager",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    result = pq.read_table(tmp_path / "mined" / "concepts.parquet").to_pandas()
    few = result[~result["enough"]]
    assert len(few) >= 1
    assert f"{len(few)} of {len(result)} concepts have fewer than {TOP} (3 of 3 models must agree)" in ran.out
    assert ran.out.count("too few") == len(few)


class Backwards:
    """An engine that takes the units in another order."""

    def map(self, work: Callable[[int], object], units: Sequence[int]) -> Iterator[object]:
        return (work(unit) for unit in reversed(units))


def test_how_it_is_run_does_not_change_a_byte(world: World, mined: MineResult, tmp_path: Path) -> None:
    mine(world.config(workers=1), tmp_path / "one-worker")
    mine(world.config(), tmp_path / "backwards", engine=Backwards())
    for name in ("one-worker", "backwards"):
        assert tree(tmp_path / name) == tree(mined.path)
    assert set(tree(mined.path)) == {"candidates.parquet", "concepts.parquet", "config.json", "receipt.json"}


def test_a_finished_run_is_only_read(world: World, mined: MineResult) -> None:
    (mined.path / "unfinished").mkdir()  # of a run that was killed after its last file
    (mined.path / "unfinished" / "votes-000000000.parquet").write_bytes(b"")
    before = {p: p.stat().st_mtime_ns for p in mined.path.glob("*.*")}
    again = mine(world.config(), mined.path)
    assert again.resumed
    assert not mined.resumed
    assert again.images == mined.images
    pd.testing.assert_frame_equal(again.concepts, mined.concepts)
    assert {p: p.stat().st_mtime_ns for p in mined.path.glob("*.*")} == before
    assert not (mined.path / "unfinished").exists()


def test_another_configuration_is_refused(world: World, mined: MineResult, tmp_path: Path) -> None:
    for change in ({"min_agree": 3}, {"keep": 3}, {"agree": world.voters[:1]}, {"near_duplicate_bits": 0}):
        with pytest.raises(StoreError, match="was made with other settings, another bank or another pool"):
            mine(world.config(**change), mined.path)
    random_bank(world.store, tmp_path / "bank", seed=1)
    with pytest.raises(StoreError, match="was made with other settings, another bank or another pool"):
        mine(world.config(bank=str(tmp_path / "bank")), mined.path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="not empty and holds no candidates"):
        mine(world.config(), tmp_path)


def test_a_run_that_failed_at_once_does_not_bind_the_directory(world: World, mined: MineResult, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        mine(world.config(agree=("file:nowhere.safetensors", *world.voters)), tmp_path / "mined")
    (tmp_path / "mined" / ".tmp-config.json-0a1b2c3d").write_text("{")
    mine(world.config(), tmp_path / "mined")
    assert tree(tmp_path / "mined") == tree(mined.path)


def test_a_run_killed_before_its_first_file_is_no_stranger(world: World, mined: MineResult, tmp_path: Path) -> None:
    (tmp_path / ".tmp-config.json-0a1b2c3d").write_text("{")
    mine(world.config(), tmp_path)
    assert tree(tmp_path) == tree(mined.path)


def test_a_voter_must_know_the_classes(world: World, tmp_path: Path) -> None:
    spec = weights_file(tmp_path / "m.safetensors", classes=("apple", "bird", "cup"))
    with pytest.raises(ModelError, match=r"cannot vote: it has no output for 1 of the mined classes, such as 'dog'"):
        mine(world.config(agree=(spec,)), tmp_path / "mined")


def test_concepts_are_chosen_by_number_or_name(world: World, tmp_path: Path) -> None:
    first = mine(world.config(agree=(), min_agree=1, components=1), tmp_path / "first")
    assert first.concepts["concept_id"].tolist() == [f"random/{c}/0" for c in CLASSES]
    both = mine(world.config(agree=(), min_agree=1, components=None), tmp_path / "all")
    assert both.concepts["concept_id"].tolist() == [f"random/{c}/{i}" for c in CLASSES for i in range(2)]
    named = mine(world.config(agree=(), min_agree=1, concepts=("random/cup/1",)), tmp_path / "named")
    assert named.concepts["concept_id"].tolist() == ["random/cup/1"]
    pd.testing.assert_frame_equal(
        candidates(named), candidates(both).query("concept_id == 'random/cup/1'").reset_index(drop=True)
    )
    with pytest.raises(ConfigError, match="has no concept 'random/egg/0'"):
        mine(world.config(concepts=("random/egg/0",)), tmp_path / "none")


def test_more_votes_than_models_cannot_be_asked_for(world: World) -> None:
    with pytest.raises(ValidationError, match="min_agree is 4, but only 3 models vote"):
        world.config(min_agree=4)
    with pytest.raises(ValidationError, match=r"keep is 25: expected at most top \(24\)"):
        world.config(keep=25)
    ran = run_spurious("mine", "--bank", "b", "--features", "f", "--out", "o", "--min-agree", 2)
    assert "min_agree is 2, but only 1 models vote" in ran.the_error()


def test_an_image_that_changed_since_it_was_scored_is_refused(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", [(f"{i}.jpg", jpeg(i)) for i in range(8)])
    spec = spread_weights_file(tmp_path / "m.safetensors")
    config = FeaturesConfig(model=spec, shards=(str(shard),), backend="eager")
    random_bank(extract_features(config, tmp_path / "store").store, tmp_path / "bank")
    data = bytearray(shard.read_bytes())
    data[512 + 300] ^= 1
    shard.write_bytes(data)
    mining = MineConfig(
        bank=str(tmp_path / "bank"), features=str(tmp_path / "store"), agree=(), min_agree=1, backend="eager"
    )
    with pytest.raises(DataError, match=f"image 0 of {shard} has changed since its features were made"):
        mine(mining, tmp_path / "mined")


def test_images_are_voted_on_within_the_pools_own_size_limits(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", [(f"{i}.png", encoded(picture(i, (6, 6)), "PNG")) for i in range(8)])
    spec = spread_weights_file(tmp_path / "m.safetensors")
    config = FeaturesConfig(model=spec, shards=(str(shard),), backend="eager", limits=DecodeLimits(min_side=4))
    random_bank(extract_features(config, tmp_path / "store").store, tmp_path / "bank")
    mining = MineConfig(
        bank=str(tmp_path / "bank"), features=str(tmp_path / "store"), agree=(spec,), min_agree=2, backend="eager"
    )
    found = candidates(mine(mining, tmp_path / "mined"))
    assert set(found["votes"]) == {2}
    assert set(found["width"]) == {6}


def test_a_pool_without_any_image_of_the_classes_gives_empty_tables(
    world: World, mined: MineResult, tmp_path: Path
) -> None:
    shard = write_tar(tmp_path / "s.tar", [("a.jpg", jpeg(1))])
    config = FeaturesConfig(model=world.store.config.model, shards=(str(shard),), backend="eager")
    store = extract_features(config, tmp_path / "store").store
    assigned = store.parts[0].rows(["top5_index"]).column("top5_index").to_pylist()[0][0]
    others = tuple(f"random/{c}/0" for i, c in enumerate(CLASSES) if i != assigned)
    result = mine(world.config(features=str(tmp_path / "store"), concepts=others), tmp_path / "mined")
    assert result.images == 0
    assert result.concepts["found"].tolist() == [0, 0, 0]
    assert not result.concepts["enough"].any()
    assert candidates(result).empty
    for name in ("candidates.parquet", "concepts.parquet"):
        assert pq.read_schema(result.path / name) == pq.read_schema(mined.path / name)
    again = mine(world.config(features=str(tmp_path / "store"), concepts=others), tmp_path / "mined")
    assert again.resumed


def test_a_moved_store_gives_the_same_candidates(world: World, mined: MineResult, tmp_path: Path) -> None:
    shutil.copytree(world.store.path, tmp_path / "store")
    shutil.copytree(world.root / "bank", tmp_path / "bank")
    config = world.config(features=str(tmp_path / "store"), bank=str(tmp_path / "bank"))
    assert tree(mine(config, tmp_path / "mined").path) == tree(mined.path)


def _moved(world: World, folder: Path) -> World:
    folder.mkdir()
    voters = tuple(shutil.copy(spec.removeprefix("file:"), folder) for spec in world.voters)
    return world._replace(voters=tuple(f"file:{voter}" for voter in voters))


def test_voters_that_were_moved_are_the_same_voters(world: World, mined: MineResult, tmp_path: Path) -> None:
    out = Path(shutil.copytree(mined.path, tmp_path / "mined"))
    again = mine(_moved(world, tmp_path / "moved").config(), out)
    assert again.resumed
    assert tree(out) == tree(mined.path)
    (tmp_path / "linked").symlink_to(tmp_path / "moved")
    linked = world._replace(voters=tuple(f"file:{tmp_path}/linked/voter{i}.safetensors" for i in range(2)))
    assert mine(linked.config(), out).resumed


def test_an_unfinished_run_goes_on_with_voters_that_were_moved(
    world: World, mined: MineResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[mine.__module__], "_CHUNK", 16)

    def stop(step: str, done: int, _: int) -> None:
        if step == "voting" and done > 16:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        mine(world.config(), tmp_path / "mined", progress=stop)
    assert list((tmp_path / "mined" / "unfinished").glob("votes-*"))
    result = mine(_moved(world, tmp_path / "moved").config(), tmp_path / "mined")
    assert tree(result.path).keys() == tree(mined.path).keys()
    found, before = candidates(result), candidates(mined)
    assert found.drop(columns="models").equals(before.drop(columns="models"))
    votes = [[(m["class_id"], m["probability"]) for m in row] for row in before["models"]]
    assert [[(m["class_id"], m["probability"]) for m in row] for row in found["models"]] == votes


@pytest.mark.parametrize("change", ["other weights", "another name", "another order"])
def test_others_in_the_place_of_voters_are_refused(
    change: str, world: World, mined: MineResult, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(mined.path, tmp_path / "mined"))
    moved = _moved(world, tmp_path / "moved")
    if change == "other weights":
        spread_weights_file(tmp_path / "moved" / "voter0.safetensors", seed=5)
    elif change == "another name":
        (tmp_path / "moved" / "voter0.safetensors").rename(tmp_path / "moved" / "voter9.safetensors")
        moved = moved._replace(voters=(f"file:{tmp_path}/moved/voter9.safetensors", moved.voters[1]))
    else:
        moved = moved._replace(voters=moved.voters[::-1])
    with pytest.raises(StoreError, match="was made with other settings, another bank or another pool"):
        mine(moved.config(), out)
    assert tree(out) == tree(mined.path)
