from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from helpers import encoded, picture, random_bank, run_spurious, spread_weights_file, tree, write_tar

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.builders.mining import MineConfig, mine
from spurious_imagenet.builders.mining.selection_models import architecture_of, read_selection_models
from spurious_imagenet.builders.publish import (
    AnnotationsConfig,
    PublishConfig,
    check_dataset,
    diff_datasets,
    publish,
    publish_annotations,
)
from spurious_imagenet.concepts import ConceptVerdict, ConceptVerdicts, Vote
from spurious_imagenet.datasets.manifest import DatasetManifest, SelectionModel
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.errors import ConfigError, DataError, StoreError

CLASSES = ("n01440764", "n02", "n03")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("versions")
    write_tar(root / "shards" / "0.tar", [(f"{i:02d}.jpg", encoded(picture(i, (32, 32)), "JPEG")) for i in range(60)])
    scorer = spread_weights_file(root / "scorer.safetensors", classes=CLASSES, size=32)
    voter = spread_weights_file(root / "voter.safetensors", seed=1, classes=CLASSES, size=32)
    config = FeaturesConfig(model=scorer, shards=(str(root / "shards"),), backend="eager", workers=1)
    random_bank(extract_features(config, root / "store").store, root / "bank", names=CLASSES)
    sizes = {"min_agree": 1, "top": 30, "keep": 30, "near_duplicate_bits": 0, "backend": "eager"}
    mine(
        MineConfig(bank=str(root / "bank"), features=str(root / "store"), agree=(voter,), **sizes), root / "candidates"
    )
    return root


@pytest.fixture(scope="module")
def first(world: Path) -> Path:
    config = PublishConfig(unreviewed=True, candidates=str(world / "candidates"), bank=str(world / "bank"))
    return publish(config, world / "first").path


def images(folder: Path) -> list[dict]:
    return pq.read_table(folder / "data").to_pylist()


def retire(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("class_id", "sha256", "reason"), *rows])
    return path


def second_config(world: Path, first: Path, path: Path | None, **more: object) -> PublishConfig:
    return PublishConfig(
        unreviewed=True,
        candidates=str(world / "candidates"),
        bank=str(world / "bank"),
        previous=str(first),
        retire=None if path is None else str(path),
        **{"version": "1.1.0"} | more,
    )


@pytest.mark.slow
def test_another_process_with_another_hash_seed_writes_the_same_bytes(world: Path, first: Path, tmp_path: Path) -> None:
    code = "from spurious_imagenet.cli import main; main()"
    given = ["--unreviewed", "--candidates", world / "candidates", "--bank", world / "bank", "--out", tmp_path / "out"]
    subprocess.run(
        [sys.executable, "-c", code, "publish", *map(str, given)],
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert tree(tmp_path / "out") == tree(first)


@pytest.mark.parametrize("streaming", [False, True])
def test_every_config_loads_whole_by_columns_and_by_filters(first: Path, tmp_path: Path, streaming: bool) -> None:
    def load(config: str, **how: object) -> list[dict]:
        cache = str(tmp_path / "cache")
        return list(
            datasets.load_dataset(str(first), config, split="test", streaming=streaming, cache_dir=cache, **how)
        )

    rows = images(first)
    assert datasets.get_dataset_config_names(str(first)) == ["spurious", "concepts", "retired"]
    assert len(load("spurious")) == len(rows)
    assert {tuple(row) for row in load("spurious", columns=["class_id", "alpha"])} == {("class_id", "alpha")}
    of_class = load("spurious", columns=["sha256", "wnid"], filters=[("class_id", "==", CLASSES[0])])
    assert {r["sha256"] for r in of_class} == {r["sha256"] for r in rows if r["class_id"] == CLASSES[0]} != set()
    assert {r["wnid"] for r in of_class} == {CLASSES[0]}
    assert {r["wnid"] for r in rows if r["class_id"] != CLASSES[0]} == {None}
    counted = {r["concept_id"]: r["images"] for r in load("concepts")}
    assert counted == {c: sum(r["concept_id"] == c for r in rows) for c in counted}
    assert [(r["sha256"], r["since"]) for r in load("retired")] == [(None, "1.0.0")]


def test_the_manifest_knows_the_miners_and_evaluation_the_images(world: Path, first: Path) -> None:
    made = DatasetManifest.load(first)
    assert [m.model for m in made.miners] == ["file:scorer.safetensors", "file:voter.safetensors"]
    assert [m.role for m in made.miners] == ["scorer", "voter"]
    assert len({m.weights_sha256 for m in made.miners} - {None}) == 2
    assert {m.architecture for m in made.miners} == {"test_resnet"}
    assert SpuriousDataset(first).sha256() == made.dataset_sha256
    opened = datasets.load_dataset(str(first), cache_dir=str(world / "cache"))
    assert SpuriousDataset(opened).sha256() == made.dataset_sha256
    assert architecture_of("timm:resnet50.a1_in1k") == "resnet50"
    assert architecture_of("timm:hf-hub:org/name") is None


def test_candidates_of_older_versions_tell_the_scorers_weights_only(world: Path, tmp_path: Path) -> None:
    receipt = json.loads((world / "candidates" / "receipt.json").read_text())
    new = read_selection_models(world / "candidates")
    del receipt["miners"]
    (tmp_path / "receipt.json").write_text(json.dumps(receipt))
    old = read_selection_models(tmp_path)
    assert [m.model for m in old] == [m.model for m in new]
    assert [m.weights_sha256 for m in old] == [new[0].weights_sha256, None]


def test_retired_images_stay_away_with_reason_and_version(world: Path, first: Path, tmp_path: Path) -> None:
    victims = [images(first)[0], images(first)[7]]
    listed = retire(tmp_path / "r.csv", [(v["class_id"], v["sha256"], "shows | the <b>object</b>") for v in victims])
    second = publish(second_config(world, first, listed, change="Took two back."), tmp_path / "second")
    keys = {(v["class_id"], v["sha256"]) for v in victims}
    assert not keys & {(r["class_id"], r["sha256"]) for r in images(second.path)}
    assert second.images == len(images(first)) - 2
    table = pq.read_table(second.path / "retired").to_pylist()
    assert {(r["class_id"], r["sha256"]) for r in table} == keys
    assert {(r["since"], r["reason"]) for r in table} == {("1.1.0", "shows | the <b>object</b>")}
    assert [c.version for c in second.manifest.changes] == ["1.1.0", "1.0.0"]
    assert "<b>object" not in (second.path / "README.md").read_text("utf-8")

    third = publish(second_config(world, second.path, None, version="1.2.0"), tmp_path / "third")
    assert third.manifest.retired == second.manifest.retired
    assert third.images == second.images
    assert third.manifest.changes[0].text == "0 images added, 0 retired."

    found = diff_datasets(first, second.path)
    assert {(r.class_id, r.sha256) for r in found.retired} == keys
    assert (found.added, found.removed, found.changed) == ((), (), {})
    assert {n: c.new - c.old for n, c in found.concepts.items()} == {
        c: -sum(v["concept_id"] == c for v in victims) for c in {v["concept_id"] for v in victims}
    }
    ran = run_spurious("publish", "--diff", first, second.path, "--json")
    assert json.loads(ran.out)["versions"] == {"old": "1.0.0", "new": "1.1.0"}
    assert "retired: 2" in run_spurious("publish", "--diff", first, second.path).out


def test_what_cannot_be_retired_is_refused_by_row(world: Path, first: Path, tmp_path: Path) -> None:
    row = images(first)[0]
    known = (row["class_id"], row["sha256"])
    for rows, said in (
        ([(known[0], "0" * 64, "why")], "row 2: the previous version has no image"),
        ([(*known, "why"), (*known, "again")], "row 3: .* is given twice"),
        ([(*known, "  ")], "row 2: a reason has 1 to"),
        ([], "names no image"),
    ):
        with pytest.raises(DataError, match=said):
            publish(second_config(world, first, retire(tmp_path / "r.csv", rows)), tmp_path / "out")
    for text, said in (
        (f"Class ID;SHA256;reason\n;;\n{known[0]};{known[1]};\n", "row 3: a reason has 1 to"),
        ("class_id,sha256,reasons\na,b,c\n", "row 1: .*expected class_id, sha256 and reason"),
        ("class_id,sha256,reason\na,b,old, torn\n", "row 2: got 4 cells, expected 3"),
    ):
        (tmp_path / "r.csv").write_text(text)
        with pytest.raises(DataError, match=said):
            publish(second_config(world, first, tmp_path / "r.csv"), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"version 1\.0\.0 is not after 1\.0\.0"):
        publish(second_config(world, first, None, version="1.0.0"), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"images of the previous version are gone, such as .* with the reason"):
        publish(second_config(world, first, None, per_concept=2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_verdicts_of_another_model_are_refused(world: Path, tmp_path: Path) -> None:
    other = ConceptVerdicts((verdict(weights_sha256="0" * 64),))
    other.save(tmp_path / "v.parquet")
    config = PublishConfig(unreviewed=True, candidates=str(world / "candidates"), verdicts=str(tmp_path / "v.parquet"))
    with pytest.raises(StoreError, match="weights 000000000000, but the candidates"):
        publish(config, tmp_path / "out")


def damage_manifest(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text())
    content["counts"]["images"] += 1
    (folder / "dataset.json").write_text(json.dumps(content))


def damage_table(folder: Path) -> None:
    path = next((folder / "data").iterdir())
    path.write_bytes(path.read_bytes()[:-9])


def damage_card(folder: Path) -> None:
    text = (folder / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(text.replace("config_name: concepts", "config_name: other"), "utf-8")


def leak(folder: Path) -> None:
    (folder / "README.md").open("a").write("\nsee /home/someone/candidates\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_manifest, "the manifest counts"),
        (damage_table, "has SHA-256"),
        (damage_card, "does not list concepts/"),
        (leak, "README.md holds the local path '/home/someone/candidates'"),
        (lambda folder: (folder / "dataset.json").unlink(), "is not a dataset's manifest"),
        (lambda folder: shutil.copy(next((folder / "data").iterdir()), folder / "x.parquet"), "x.parquet is not in"),
    ],
    ids=["manifest", "table", "card", "leak", "missing", "foreign"],
)
def test_the_check_says_what_is_wrong(first: Path, tmp_path: Path, damage: object, said: str) -> None:
    folder = Path(shutil.copytree(first, tmp_path / "copy"))
    damage(folder)
    assert any(said in problem for problem in check_dataset(folder)), check_dataset(folder)
    ran = run_spurious("publish", "--check", folder)
    assert ran.code == 1
    assert said in ran.out


def test_the_check_finds_nothing_wrong_with_what_is_published(first: Path) -> None:
    assert check_dataset(first) == []
    assert run_spurious("publish", "--check", first).out.endswith("nothing wrong.\n")


def verdict(**changed: object) -> ConceptVerdict:
    votes = (
        Vote(labeler="ann", answer="spurious", reason="heat: yes", time="2026-11-22T09:29:33.677+00:00"),
        Vote(labeler="ben", answer="core", time="2026-11-20T09:29:33.677+00:00"),
        Vote(
            labeler="eve", answer="spurious", reason="heat: yes", time="2026-11-23T01:00:00+00:00", role="adjudicator"
        ),
    )
    plain = {"concept_id": "npca/a/0", "kind": "npca", "class_index": 0, "class_id": "n01440764", "component": 0}
    return ConceptVerdict(**plain | {"verdict": "spurious", "source": "review:boards", "votes": votes} | changed)


def test_annotations_are_published_under_pseudonyms_and_read_back_as_verdicts(tmp_path: Path) -> None:
    ConceptVerdicts((verdict(), verdict(component=1, concept_id="npca/a/1"))).save(tmp_path / "v.parquet")
    made = publish_annotations(AnnotationsConfig(annotations=str(tmp_path / "v.parquet")), tmp_path / "out")
    assert (made.counts["labelers"], made.counts["votes"], made.counts["spurious"]) == (2, 6, 2)
    back = ConceptVerdicts.load(tmp_path / "out" / made.files[0].path)
    votes = [(v.labeler, v.time) for v in back.rows[0].votes]
    assert votes == [("labeler 1", "2026-11-22"), ("labeler 2", "2026-11-20"), ("adjudicator", "2026-11-23")]
    for name in ("ann", "ben", "eve"):
        assert f'"{name}"' not in (tmp_path / "out" / "dataset.json").read_text()
    (loaded,) = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")).values()
    assert loaded["verdict"][:] == ["spurious", "spurious"]
    assert check_dataset(tmp_path / "out") == []


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_labeler_whose_reason_mentions_adjudication_stays_a_labeler(tmp_path: Path, form: str) -> None:
    votes = tuple(
        Vote(labeler=who, answer="core", reason="adjudication; whatever I said", role=role)
        for who, role in (("ann", "labeler"), ("ben", "labeler"), ("eve", "adjudicator"))
    )
    ConceptVerdicts((verdict(votes=votes),)).save(tmp_path / f"v.{form}")
    made = publish_annotations(AnnotationsConfig(annotations=str(tmp_path / f"v.{form}")), tmp_path / "out")
    assert made.counts["labelers"] == 2
    back = ConceptVerdicts.load(tmp_path / "out" / made.files[0].path).rows[0].votes
    assert [(v.labeler, v.role) for v in back] == [
        ("labeler 1", "labeler"),
        ("labeler 2", "labeler"),
        ("adjudicator", "adjudicator"),
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [("salient-imagenet", "not to be given to third parties"), ("somebody", "whose licence is not known")],
)
def test_annotations_of_others_are_refused_with_the_reason(tmp_path: Path, source: str, said: str) -> None:
    ConceptVerdicts((verdict(source=source),)).save(tmp_path / "v.parquet")
    with pytest.raises(ConfigError, match=f"1 verdicts of source '{source}'.*{said}"):
        publish_annotations(AnnotationsConfig(annotations=str(tmp_path / "v.parquet")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_annotations_that_may_be_passed_on_carry_their_notice(tmp_path: Path) -> None:
    ConceptVerdicts((verdict(source="sfe", votes=()),)).save(tmp_path / "v.parquet")
    publish_annotations(AnnotationsConfig(annotations=str(tmp_path / "v.parquet")), tmp_path / "out")
    assert "Permission is hereby granted" in (tmp_path / "out" / "NOTICE.txt").read_text()
    assert "MIT" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "got none of --candidates"),
        (("--candidates", "a", "--rankings", "b"), "got --candidates and --rankings of"),
        (("--rankings", "a", "--out", "o", "--boards", "b"), "--boards does not go with --rankings"),
        (("--check", "a", "--out", "o"), "--out does not go with --check"),
        (("--annotations", "a"), "--annotations without --out"),
        (("--check", "a", "--pull-request"), "--pull-request without --push"),
        (("--candidates", "a", "--out", "o", "--unreviewed", "--retire", "r"), "give --previous FOLDER with --retire"),
        (("--candidates", "a", "--out", "o", "--unreviewed", "--version", "v1"), "--version"),
    ],
)
def test_options_that_do_not_go_together_are_said(given: tuple[str, ...], said: str) -> None:
    assert said in run_spurious("publish", *given).the_error()


@pytest.mark.parametrize(
    ("text", "said"),
    [("1: 2", "unknown key '1'"), ("licence: mit", "did you mean 'license'?"), ("- a", "no mapping"), ("", "mapping")],
)
def test_a_card_file_of_another_kind_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "card.yaml").write_text(text)
    given = ("--candidates", "a", "--out", "o", "--unreviewed", "--card", tmp_path / "card.yaml")
    assert said in run_spurious("publish", *given).the_error()


def test_a_file_beside_the_tables_that_is_no_text_is_a_problem(first: Path, tmp_path: Path) -> None:
    shutil.copytree(first, tmp_path / "copy")
    (tmp_path / "copy" / "notes.txt").write_bytes("für".encode("latin-1"))
    (problem,) = check_dataset(tmp_path / "copy")
    assert problem.startswith("notes.txt cannot be read: ")


def test_the_votes_that_an_image_needed_are_those_of_mining(world: Path, tmp_path: Path) -> None:
    table = pq.read_table(world / "candidates" / "candidates.parquet").to_pandas()
    best = table[table["status"] == "kept"].sort_values("rank").drop_duplicates("concept_id")
    chosen = tuple(best.loc[best["votes"] == 2, "concept_id"])
    settings = {"unreviewed": True, "candidates": str(world / "candidates"), "concepts": chosen, "per_concept": 1}
    made = publish(PublishConfig(**settings), tmp_path / "out")
    assert {row["votes"] for row in images(made.path)} == {2}
    assert made.manifest.min_agree == 1


def test_a_voter_whose_weights_change_half_way_is_noticed(tmp_path: Path) -> None:
    from spurious_imagenet.builders.mining.selection_models import remember_voters, remembered_voters

    folder = tmp_path / "unfinished"
    folder.mkdir()
    voter = SelectionModel(model="file:v.safetensors", role="voter", weights_sha256="a" * 64, architecture=None)
    remember_voters(folder, [voter])
    remember_voters(folder, [voter])
    assert remembered_voters(folder, [voter.model]) == (voter,)
    with pytest.raises(StoreError, match=r"file:v\.safetensors has other weights"):
        remember_voters(folder, [voter.model_copy(update={"weights_sha256": "b" * 64})])
