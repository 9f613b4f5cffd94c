from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import run_spurious, tree
from huggingface_hub import DatasetCard
from rankings_helpers import DIM, digest, judged_bank, random_features, write_store
from reference.spuriosity import ranked_splits_by_distance, spuriosity_by_definition

from spurious_imagenet.builders.rankings import RankConfig, rank
from spurious_imagenet.builders.rankings.ranking import control_concepts, ranked_splits
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings
from spurious_imagenet.errors import DataError, StoreError

FEATURES = random_features({"ape": 70, "bee": 45, "cat": 31, "dog": 8})
CONCEPTS = {"ape": 3, "bee": 1, "cat": 1}
VERDICTS = ["spurious", "core", "spurious", "spurious", "core"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConceptBank]:
    root = tmp_path_factory.mktemp("bank")
    made = judged_bank(write_store(root / "store", FEATURES), CONCEPTS, VERDICTS)
    made.save(root / "bank")
    return root / "bank", made


def ranked(root: Path, bank: Path, features: Any = FEATURES, **options: Any) -> Path:
    out, store_options = root / "ranked", options.pop("store", {})
    write_store(root / "val", features, **store_options)
    rank(RankConfig(bank=str(bank), features={"val": (str(root / "val"),)}, **options), out)
    return out


@pytest.fixture
def table(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> pd.DataFrame:
    return Rankings.load(ranked(tmp_path, bank[0])).table


def test_ranks_are_what_the_definition_says(table: pd.DataFrame, bank: tuple[Path, ConceptBank]) -> None:
    assert sorted(set(table["class_id"])) == ["ape", "bee"]  # cat's concept is core, dog has none
    for class_id, concepts in (("ape", [0, 2]), ("bee", [3])):
        of_class = table[table["class_id"] == class_id]
        scores = FEATURES[class_id].astype(np.float32) @ bank[1].directions[concepts].T + bank[1].offsets[concepts]
        expected = spuriosity_by_definition(scores.tolist())
        order = np.argsort(expected)
        assert of_class["name"].tolist() == [f"{class_id}/{i:04d}" for i in order]
        assert of_class["sha256"].tolist() == [digest(name).hex() for name in of_class["name"]]
        np.testing.assert_allclose(of_class["spuriosity"], np.sort(expected), atol=1e-5)
        np.testing.assert_allclose(np.stack(list(of_class["concept_scores"])), scores[order], rtol=1e-5, atol=1e-5)
        count = len(of_class)
        assert of_class["rank"].tolist() == list(range(1, count + 1))
        assert set(of_class["of"]) == {count}
        np.testing.assert_allclose(of_class["percentile"], [(r - 0.5) / count for r in range(1, count + 1)])
        assert {tuple(ids) for ids in of_class["concept_ids"]} == {tuple(f"test/{c}" for c in concepts)}
        assert [None if pd.isna(s) else s for s in of_class["ranked_split"]] == ranked_splits_by_distance(count, 10)
        assert set(of_class["class_name"]) == {f"the {class_id}"}
        assert not of_class["control"].any()
        assert set(of_class["split"]) == {"val"}


def test_neither_the_order_of_the_images_nor_their_shards_change_a_byte(
    tmp_path: Path, bank: tuple[Path, ConceptBank]
) -> None:
    found = [
        tree(ranked(tmp_path / str(n), bank[0], store={"shuffle": n, "parts": n + 1}, controls=True)) for n in range(4)
    ]
    assert found[0] == found[1] == found[2] == found[3]


def test_ties_are_in_the_order_of_their_hashes(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    features = {"ape": np.repeat(FEATURES["ape"][:3], 9, axis=0)}
    of_class = Rankings.load(ranked(tmp_path, bank[0], features, store={"shuffle": 1})).table
    assert of_class["spuriosity"].nunique() == 3
    for _, equal in of_class.groupby("spuriosity"):
        assert equal["sha256"].is_monotonic_increasing


def test_the_folder_is_a_dataset(tmp_path: Path, bank: tuple[Path, ConceptBank], monkeypatch: Any) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_store(tmp_path / "val", FEATURES)
    write_store(tmp_path / "train-a", random_features({"ape": 120}, seed=1), unlabelled=3)
    write_store(tmp_path / "train-b", random_features({"bee": 110, "dog": 4}, seed=2))
    stores = [f"val={tmp_path / 'val'}", f"train={tmp_path / 'train-a'}", f"train={tmp_path / 'train-b'}"]
    options = [part for store in stores for part in ("--features", store)]
    ran = run_spurious("rank", "--bank", bank[0], *options, "--out", tmp_path / "out", "--name", "<b>x</b>")
    assert ran.code == 0, ran
    assert "by 3 spurious concepts of 2 classes" in ran.out
    assert "train: 230 images, 2 classes, 0 controls, 1 classes without concept, 3 unlabelled images" in ran.out
    for split, images in (("val", 115), ("train", 230)):
        loaded = datasets.load_dataset(str(tmp_path / "out"), split=split, cache_dir=str(tmp_path / "cache"))
        ours = Rankings.load(tmp_path / "out", split).table
        assert loaded.column_names == RANKINGS_SCHEMA.names
        assert len(loaded) == len(ours) == images
        assert loaded["sha256"][:] == ours["sha256"].tolist()
        assert loaded["concept_scores"][:] == [list(s) for s in ours["concept_scores"]]
        (file,) = (tmp_path / "out" / "data").glob(f"{split}-*.parquet")
        assert file.stem == f"{split}-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
        groups = pq.ParquetFile(file).metadata
        assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)][:-1] == [100] * (images // 100)
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert "<b>" not in card.text
    assert [s["split"] for s in card.data.to_dict()["configs"][0]["data_files"]] == ["val", "train"]
    assert str(tmp_path) not in "".join(p.read_text() for p in (tmp_path / "out").glob("*.*"))


@pytest.mark.parametrize("ends", [1, 2, 3, 10])
def test_ranked_splits_are_what_their_definition_says(ends: int) -> None:
    for count in range(2 * ends, 6 * ends + 3):
        assert ranked_splits(count, ends) == ranked_splits_by_distance(count, ends)


def test_small_classes_keep_their_ranks_and_are_listed(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    features = {"ape": FEATURES["ape"][:19], "dog": FEATURES["dog"]}
    rankings = Rankings.load(ranked(tmp_path, bank[0], features))
    assert rankings.table["rank"].tolist() == list(range(1, 20))
    assert rankings.table["ranked_split"].isna().all()
    left = [(x.split, x.class_id, x.images, x.reason) for x in rankings.info.left_out]
    assert left == [
        ("val", "bee", 0, "no image of the class is in the split"),
        ("val", "ape", 19, "19 images, 20 needed for ends of 10; ranked, but in no ranked split"),
    ]


def test_a_share_depends_on_the_class(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    rankings = Rankings.load(
        ranked(tmp_path, bank[0], FEATURES | {"cat": FEATURES["cat"][:9]}, share=0.1, controls=True)
    )
    counts = rankings.table.groupby("class_id")["ranked_split"].value_counts().to_dict()
    expected = {(c, s): n for c, n in (("ape", 7), ("bee", 4)) for s in ("low", "middle", "high")}
    assert counts == expected
    assert [x.class_id for x in rankings.info.left_out] == ["cat", "dog"]
    assert "a share of 0.1 is no image" in rankings.info.left_out[0].reason


def test_controls_are_ranked_by_the_concepts_of_all_other_classes(
    tmp_path: Path, bank: tuple[Path, ConceptBank]
) -> None:
    rankings = Rankings.load(ranked(tmp_path, bank[0], controls=True))
    assert set(rankings.table.loc[rankings.table["control"], "class_id"]) == {"cat", "dog"}
    assert set(rankings.info.concepts) == {"ape", "bee"}
    cats = rankings.table[rankings.table["class_id"] == "cat"]
    rows = [0, 2, 3]
    scores = FEATURES["cat"].astype(np.float32) @ bank[1].directions[rows].T + bank[1].offsets[rows]
    expected = spuriosity_by_definition(scores.tolist())
    assert cats["name"].tolist() == [f"cat/{i:04d}" for i in np.argsort(expected)]
    # By one concept of each other class alone, too: the first of each.
    assert {tuple(ids) for ids in cats["concept_ids"]} == {("test/0", "test/3")}
    alone = scores[np.argsort(expected)][:, [0, 2]]
    np.testing.assert_allclose(np.stack(list(cats["concept_scores"])), alone, rtol=1e-5, atol=1e-5)
    without = Rankings.load(ranked(tmp_path / "without", bank[0])).table
    with_controls = rankings.table[~rankings.table["control"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(with_controls, without)


def test_controls_are_ranked_by_at_most_20_concepts_of_as_many_classes() -> None:
    class_ids = np.repeat([f"n{i:02d}" for i in range(39)], 2)
    varying = np.ones(78, bool)
    assert control_concepts(class_ids, varying).tolist() == [4 * i for i in range(20)]
    varying[0] = False  # the class's second takes its place
    assert control_concepts(class_ids, varying).tolist() == [1, *(4 * i for i in range(1, 20))]
    few = control_concepts(class_ids[:12][::-1], np.ones(12, bool))
    assert few.tolist() == [0, 2, 4, 6, 8, 10]


def test_repeated_images_count_once(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    features = {"ape": np.concatenate([FEATURES["ape"], FEATURES["ape"][:5]])}
    hashes = {f"ape/{70 + i:04d}": digest(f"ape/{i:04d}") for i in range(5)}
    rankings = Rankings.load(ranked(tmp_path, bank[0], features, store={"hashes": hashes, "shuffle": 3}))
    once = Rankings.load(ranked(tmp_path / "once", bank[0], {"ape": FEATURES["ape"]})).table
    pd.testing.assert_frame_equal(rankings.table, once)
    assert rankings.info.counts["val_repeated_images"] == 5


def test_concepts_that_do_not_vary_count_nothing(tmp_path: Path) -> None:
    features = {"ape": FEATURES["ape"].copy(), "bee": np.ones((30, DIM), np.float16)}
    features["ape"][:, 0] = 7.5
    bank = judged_bank(write_store(tmp_path / "store", features), {"ape": 2, "bee": 1}, ["spurious"] * 3)
    directions = np.eye(DIM, dtype=np.float32)[[0, 1, 0]]
    replace(bank, directions=directions).save(tmp_path / "bank")
    rankings = Rankings.load(ranked(tmp_path, tmp_path / "bank", features))
    assert rankings.info.counts["val_constant_concepts"] == 1
    assert [(x.class_id, x.images) for x in rankings.info.left_out] == [("bee", 30)]
    assert "no concept varies" in rankings.info.left_out[0].reason
    expected = spuriosity_by_definition(features["ape"][:, :2].tolist())
    np.testing.assert_allclose(rankings.table["spuriosity"], np.sort(expected), atol=1e-6)


def test_the_sign_of_an_eigenvector_changes_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", FEATURES)
    vector = np.random.default_rng(0).standard_normal(DIM).astype(np.float32)
    for sign in (1, -1):
        v = sign * vector
        bank = judged_bank(store, {"ape": 1}, ["spurious"])
        replace(bank, directions=(v.sum() * v)[None]).save(tmp_path / f"bank{sign}")  # α of SFE eq. 5, up to the mean
    assert tree(ranked(tmp_path / "a", tmp_path / "bank1")) == tree(ranked(tmp_path / "b", tmp_path / "bank-1"))


def test_an_unjudged_bank_counts_whole_and_the_command_says_so(tmp_path: Path) -> None:
    store = write_store(tmp_path / "val", FEATURES)
    judged_bank(store, CONCEPTS).save(tmp_path / "bank")
    ran = run_spurious("rank", "--bank", tmp_path / "bank", "--features", tmp_path / "val", "--out", tmp_path / "out")
    assert ran.code == 0, ran
    assert "by 5 unjudged concepts of 3 classes" in ran.out
    assert "the bank carries no verdicts: all its concepts count as spurious." in ran.out
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**Not judged.**" in card
    assert yaml.safe_load(card.split("---")[1])["annotations_creators"] == ["machine-generated"]


def test_verdict_and_names_choose_the_concepts(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    core = Rankings.load(ranked(tmp_path / "core", bank[0], verdict="core"))
    assert core.info.concepts == {"ape": ("test/1",), "cat": ("test/4",)}
    named = Rankings.load(ranked(tmp_path / "named", bank[0], concepts=("test/3", "test/1")))
    assert named.info.concepts == {"ape": ("test/1",), "bee": ("test/3",)}


def test_the_card_says_who_judged(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    answers = [
        ("spurious", "spurious"),
        ("core", "core"),
        ("spurious", "core"),
        ("spurious", "spurious"),
        ("core", "core"),
    ]
    votes = [[{"labeler": w, "answer": a, "reason": None} for w, a in zip("xy", pair, strict=True)] for pair in answers]
    votes[2].append({"labeler": "z", "answer": "spurious", "reason": "adjudication; seen twice"})
    # One bank may carry votes of before and after they had a role.
    votes[0][0] |= {"reason": "adjudication; my own word", "role": "labeler"}
    votes[4].append({"labeler": "z", "answer": "core", "reason": "seen twice", "role": "adjudicator"})
    table = bank[1].table.assign(votes=votes)
    replace(bank[1], table=table).save(tmp_path / "bank")
    info = Rankings.load(ranked(tmp_path, tmp_path / "bank")).info
    assert info.judged == (
        "5 concepts of the bank carry a verdict (2 core, 3 spurious), by 2 labelers and, for 2 of them, an "
        "adjudicator; Cohen's κ 0.615 on the 5 concepts whose votes are known."
    )
    unknown = Rankings.load(ranked(tmp_path / "unknown", bank[0])).info
    assert str(unknown.judged).endswith("the single votes are not known.")


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    write_store(tmp_path / "val", FEATURES)
    config = RankConfig(bank=str(bank[0]), features={"val": (str(tmp_path / "val"),)})

    def stop(split: str, done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank(config, tmp_path / "out", progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val"]
    rank(config, tmp_path / "out")
    with pytest.raises(StoreError, match="already exists"):
        rank(config, tmp_path / "out")


def test_features_that_the_bank_does_not_read_are_refused(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    other = replace(bank[1], info=bank[1].info.model_copy(update={"weights_sha256": "cd" * 32}))
    other.save(tmp_path / "other")
    resized = replace(bank[1], info=bank[1].info.model_copy(update={"feature_config_sha256": "cd" * 32}))
    resized.save(tmp_path / "resized")
    with pytest.raises(StoreError, match="weights abababababab, but the concept bank"):
        ranked(tmp_path / "a", tmp_path / "other")
    with pytest.raises(StoreError, match="other preprocessing"):
        ranked(tmp_path / "b", tmp_path / "resized")


def test_bad_options_are_one_sentence(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    write_store(tmp_path / "val", FEATURES)
    write_store(tmp_path / "strange", {"owl": np.ones((4, DIM))}, classes=("owl",))
    judged_bank(write_store(tmp_path / "s", FEATURES), CONCEPTS).save(tmp_path / "unjudged")

    def error(*options: object, bank: Path = bank[0], features: object = tmp_path / "val") -> str:
        ran = run_spurious("rank", "--bank", bank, "--features", features, "--out", tmp_path / "out", *options)
        assert not (tmp_path / "out").exists()
        return ran.the_error()

    assert "k is 5 and share is 0.1: expected one of both" in error("--k", 5, "--share", 0.1)
    assert "--share" in error("--share", 0.6)
    assert "concepts are named and a verdict is given" in error("--concept", "test/0", "--verdict", "core")
    assert "has no concept 'test/9'" in error("--concept", "test/9")
    assert "has no concept with the verdict 'unclear'" in error("--verdict", "unclear")
    assert "has no verdicts" in error("--verdict", "core", bank=tmp_path / "unjudged")
    assert "split name 'a b'" in error("--split", "a b")
    assert "is not a feature store" in error(features=tmp_path / "nowhere")
    assert "is not a concept bank" in error(bank=tmp_path / "nowhere")
    assert "preprocessing" in error(features=tmp_path / "strange")


def test_a_split_without_a_class_to_rank_is_refused(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    with pytest.raises(DataError, match=r"no image of split 'val' .* concepts are of ape, bee, the images of dog"):
        ranked(tmp_path / "a", bank[0], {"dog": FEATURES["dog"]})
    with pytest.raises(DataError, match=r"none of the 3 images of .* has a class"):
        ranked(tmp_path / "b", bank[0], {"ape": np.empty((0, DIM))}, store={"unlabelled": 3})


def test_a_feature_that_is_no_number_is_refused(tmp_path: Path, bank: tuple[Path, ConceptBank]) -> None:
    features = {"ape": FEATURES["ape"].copy()}
    features["ape"][3, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        ranked(tmp_path, bank[0], features)
    assert not (tmp_path / "ranked").exists()


def test_config_without_features_is_refused() -> None:
    with pytest.raises(ValueError, match="no features are given"):
        RankConfig(bank="b", features={})
