from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import jpeg, random_bank, run_spurious, spread_weights_file, write_tar

from spurious_imagenet.benchmark.trace.checks import Evidence
from spurious_imagenet.benchmark.trace.find import find_image
from spurious_imagenet.benchmark.trace.record import Trace
from spurious_imagenet.benchmark.trace.trace import trace, trace_row
from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.builders.mining import MineConfig, mine
from spurious_imagenet.builders.mining.candidates import read_candidates
from spurious_imagenet.builders.mining.selection_models import read_selection_models
from spurious_imagenet.concepts import ConceptBank
from spurious_imagenet.datasets.manifest import DataFile, DatasetManifest, RetiredImage, SelectionModel
from spurious_imagenet.errors import ConfigError, DataError, ModelError, SpuriousImagenetError
from spurious_imagenet.features.store import FeatureStore
from spurious_imagenet.models import load_classifier

CLASSES = ("n01", "n02", "n03")


class World(NamedTuple):
    root: Path
    specs: tuple[str, str]
    store: FeatureStore

    @property
    def dataset(self) -> str:
        return str(self.root / "dataset")

    @cache  # noqa: B019 - loading models takes longer than all else here
    def evidence(self) -> Evidence:
        miners = read_selection_models(self.root / "candidates")
        return Evidence(
            shards=str(self.root / "shards"),
            candidates=read_candidates(self.root / "candidates"),
            miners=tuple(m.model_copy(update={"model": _name(m.model)}) for m in miners),
            bank=ConceptBank.load(self.root / "bank"),
            models={_name(spec): load_classifier(spec) for spec in self.specs},
        )

    def rows(self) -> list[dict[str, Any]]:
        return pq.read_table(self.root / "dataset" / "data" / "test.parquet").to_pylist()


def _name(spec: str) -> str:
    return "file:" + spec.rsplit("/", 1)[-1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A pool that was mined for real, and a dataset whose rows are written here, from what mining left."""
    root = tmp_path_factory.mktemp("traced")
    for s in range(2):
        members = [(f"{s}-{i:02d}.jpg", jpeg(100 * s + i, (32, 32))) for i in range(30)]
        write_tar(root / "shards" / f"pool-{s}.tar", members)
    specs = tuple(
        spread_weights_file(root / "models" / f"{n}.safetensors", i, CLASSES, size=32) for i, n in enumerate("ab")
    )
    config = FeaturesConfig(model=specs[0], shards=(str(root / "shards"),), backend="eager", workers=1)
    store = extract_features(config, root / "store").store
    random_bank(store, root / "bank")
    settings = {"min_agree": 1, "top": 20, "keep": 20, "near_duplicate_bits": 0, "backend": "eager"}
    mined = MineConfig(bank=str(root / "bank"), features=str(root / "store"), agree=(specs[1],), **settings)
    mine(mined, root / "candidates")
    made = World(root, (specs[0], specs[1]), store)
    publish(made, root / "dataset", [published(row) for row in _kept(made)])
    return made


def _kept(world: World) -> list[dict[str, Any]]:
    candidates = read_candidates(world.root / "candidates")
    return candidates[candidates["status"] == "kept"].to_dict("records")


def published(candidate: dict[str, Any]) -> dict[str, Any]:
    with Path(candidate["shard"]).open("rb") as file:
        file.seek(candidate["offset"])
        data = file.read(candidate["size"])
    taken = ("class_id", "class_name", "concept_id", "component", "alpha", "rank", "votes", "key", "sha256")
    said = [{"labeler": f"labeler {i}", "outcome": "accept", "date": f"2026-0{i}-01"} for i in (1, 2)]
    return {name: candidate[name] for name in taken} | {
        "image": {"bytes": data, "path": "x.jpg"},
        "models": [dict(o, model=_name(o["model"])) for o in candidate["models"]],
        "verdicts": said,
        "shard": Path(candidate["shard"]).name,
        "shard_offset": candidate["offset"],
        "shard_size": candidate["size"],
        "author": "Jane [bold]Doe[/bold]\x1b[31m\u202e",
        "license": "https://creativecommons.org/licenses/by/2.0/",
    }


def publish(world: World, folder: Path, rows: list[dict[str, Any]], **manifest: Any) -> Path:
    (folder / "data").mkdir(parents=True)
    path = folder / "data" / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    pq.write_table(pa.table({"concept_id": ["x"], "sha256": [rows[0]["sha256"]]}), folder / "data" / "other.parquet")
    miners = tuple(
        SelectionModel(
            model=_name(spec),
            role=role,
            weights_sha256=load_classifier(spec).weights_sha256,
            architecture="test_resnet",
        )
        for spec, role in zip(world.specs, ("scorer", "voter"), strict=True)
    )
    files = tuple(
        DataFile(
            config=c,
            split="test",
            path=f"data/{n}.parquet",
            rows=1,
            bytes=1,
            sha256=_sha256(folder / f"data/{n}.parquet"),
        )
        for c, n in (("spurious", "test"), ("concepts", "other"))
    )
    made = {"kind": "spurious-images", "name": "W", "version": "1.2.0", "code_version": "0", "files": files}
    written = DatasetManifest(**(made | {"miners": miners} | manifest))
    (folder / "dataset.json").write_text(written.model_dump_json(), encoding="utf-8")
    return folder


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def states(traced: Trace) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for link in traced.links:
        found.setdefault(link.link, set()).add(link.state)
    return found


ALONE = {
    **{name: {"verified"} for name in ("file", "image", "votes")},
    **{name: {"not checked"} for name in ("verdicts", "candidates", "shard", "alpha", "vote", "weights")},
}


def test_the_dataset_alone_tells_the_whole_chain(world: World) -> None:
    row = world.rows()[5]
    traced = trace(row["sha256"][:12], world.dataset, concept=row["concept_id"])
    assert states(traced) == ALONE
    assert not traced.wrong
    assert (traced.version, traced.sha256, traced.key) == ("1.2.0", row["sha256"], row["key"])
    assert (traced.shard, traced.shard_offset, traced.shard_size) == tuple(
        row[c] for c in ("shard", "shard_offset", "shard_size")
    )
    assert [v.date for v in traced.verdicts] == ["2026-01-01", "2026-02-01"]
    weights = [load_classifier(spec).weights_sha256 for spec in world.specs]
    assert [(v.role, v.weights_sha256, v.architecture) for v in traced.votes] == [
        ("scorer", weights[0], "test_resnet"),
        ("voter", weights[1], "test_resnet"),
    ]
    assert [v.probability for v in traced.votes] == [o["probability"] for o in row["models"]]
    assert traced.attribution["license"] == row["license"]


def test_every_link_of_an_image_holds(world: World) -> None:
    at_hand = world.evidence()
    for row in world.rows()[::4]:
        traced = trace(row["sha256"], world.dataset, concept=row["concept_id"], at_hand=at_hand)
        assert states(traced) == {name: {"verified"} for name in ALONE} | {"verdicts": {"not checked"}}, traced.links


def test_alpha_is_that_of_the_features_that_were_mined(world: World) -> None:
    """The α that is computed again is compared with float64 products of the stored features, not with itself."""
    bank = ConceptBank.load(world.root / "bank")
    features = {}
    for part in world.store.parts:
        digests = part.rows(["sha256"]).column("sha256").to_pylist()
        features |= {d.hex(): f.astype(np.float64) for d, f in zip(digests, part.features(), strict=True)}
    for row in world.rows()[:10]:
        place = int(np.flatnonzero(bank.table["concept_id"] == row["concept_id"])[0])
        alpha = features[row["sha256"]] @ bank.directions[place].astype(np.float64) + bank.offsets[place]
        assert row["alpha"] == pytest.approx(alpha, rel=1e-6)
        link = next(k for k in trace_row(row, dataset="W", at_hand=world.evidence()).links if k.link == "alpha")
        assert f"computed again it is {alpha:.4g}"[:-1] in str(link.note)


def change(name: str, to: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def apply(row: dict[str, Any]) -> None:
        row[name] = to(row[name])

    return apply


def _opinion(**new: Any) -> Callable[[Any], Any]:
    return lambda models: [models[0], models[1] | new]


@pytest.mark.parametrize(
    ("lie", "wrong"),
    [
        (change("alpha", lambda a: a + 0.05 * abs(a) + 0.05), {"alpha", "candidates"}),
        (change("rank", lambda r: r + 1), {"candidates"}),
        (change("shard_offset", lambda o: o + 512), {"shard", "candidates"}),
        (change("shard_offset", lambda o: o + 10**9), {"shard", "candidates"}),
        (change("shard_size", lambda s: s - 1), {"shard", "candidates"}),
        (change("sha256", lambda s: s[::-1]), {"image", "shard", "candidates"}),
        (change("image", lambda i: i | {"bytes": jpeg(999, (32, 32))}), {"image", "alpha", "vote"}),
        (change("votes", lambda v: v + 1), {"votes"}),
        (change("models", _opinion(probability=0.123)), {"vote"}),
        (change("verdicts", lambda v: [v[0], v[1] | {"outcome": "reject"}]), {"verdicts"}),
        (change("verdicts", lambda v: [v[0], v[0]]), {"verdicts"}),
        (change("concept_id", lambda _: "random/n01/99"), {"alpha", "candidates"}),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else "",
)
def test_a_lie_anywhere_is_found_where_it_is(
    world: World, lie: Callable[[dict[str, Any]], None], wrong: set[str]
) -> None:
    row = world.rows()[3]
    lie(row)
    traced = trace_row(row, dataset="W", miners=DatasetManifest.load(world.dataset).miners, at_hand=world.evidence())
    assert {link.link for link in traced.wrong} == wrong, traced.wrong
    assert all(link.note for link in traced.wrong)


def test_an_adjudicator_decides_between_two_labelers(world: World) -> None:
    row = world.rows()[0]
    row["verdicts"][1]["outcome"] = "reject"
    decided = {"labeler": "adjudicator", "outcome": "accept", "date": "2026-03-01"}
    assert not trace_row(row | {"verdicts": [*row["verdicts"], decided]}, dataset="W").wrong
    refused = [*row["verdicts"], decided | {"outcome": "reject"}]
    assert [link.link for link in trace_row(row | {"verdicts": refused}, dataset="W").wrong] == ["verdicts"]
    assert states(trace_row(row | {"verdicts": None}, dataset="W"))["verdicts"] == {"not checked"}


def test_other_weights_of_the_same_name_are_found(world: World, tmp_path: Path) -> None:
    other = load_classifier(spread_weights_file(tmp_path / "a.safetensors", 7, CLASSES, size=32))
    row, miners = world.rows()[0], DatasetManifest.load(world.dataset).miners
    at_hand = replace(world.evidence(), models={"file:a.safetensors": other})
    traced = trace_row(row, dataset="W", miners=miners, at_hand=at_hand)
    assert {"alpha", "weights"} <= {link.link for link in traced.wrong}
    named = replace(at_hand, models={"file:z.safetensors": other})
    with pytest.raises(
        ModelError, match=r"file:z.safetensors is not one of those .* expected one of file:a.safetensors"
    ):
        trace_row(row, dataset="W", miners=miners, at_hand=named)


def test_other_preprocessing_is_not_called_a_lie(world: World) -> None:
    larger = {"file:a.safetensors": load_classifier(world.specs[0], image_size=64)}
    traced = trace_row(world.rows()[0], dataset="W", at_hand=replace(world.evidence(), models=larger))
    link = next(k for k in traced.links if k.link == "alpha")
    assert (link.state, link.note) == (
        "not checked",
        "the bank's features were made with other preprocessing or precision",
    )


def test_a_file_that_changed_since_it_was_published_is_found(world: World, tmp_path: Path) -> None:
    folder = publish(world, tmp_path / "dataset", world.rows())
    pq.write_table(pa.Table.from_pylist(world.rows()), folder / "data" / "test.parquet")
    row = world.rows()[0]
    traced = trace(row["sha256"], str(folder), concept=row["concept_id"])
    assert [link.link for link in traced.wrong] == ["file"]


def test_a_dataset_of_before_manifests_is_traced_too(world: World, tmp_path: Path) -> None:
    folder = publish(world, tmp_path / "dataset", world.rows())
    (folder / "dataset.json").unlink()
    row = world.rows()[0]
    traced = trace(row["sha256"], str(folder), concept=row["concept_id"], at_hand=world.evidence())
    assert not traced.wrong
    assert traced.version is None
    assert states(traced)["file"] == {"not checked"}
    assert states(traced)["weights"] == {"verified"}  # the candidates say whose they are
    alone = trace(row["sha256"], str(folder), concept=row["concept_id"])
    assert [link.note for link in alone.links if link.link == "weights"] == ["the dataset does not say their hash"] * 2


def test_which_image_is_meant(world: World, tmp_path: Path) -> None:
    rows = [dict(row) for row in world.rows()[:4]]
    for i, row in enumerate(rows):
        row["sha256"] = ("ab" if i < 2 else "abcd" if i == 2 else "ffff") + hashlib.sha256(bytes([i])).hexdigest()[4:]
        row["sha256"] = row["sha256"][:64].ljust(64, "0")
    rows.append(rows[3] | {"concept_id": "random/n03/1"})
    gone = RetiredImage(class_id="n01", concept_id="c", sha256="e" * 64, reason="shows a bird", since="1.1.0")
    folder = str(publish(world, tmp_path / "dataset", rows, retired=(gone,)))
    assert find_image("ABCD", folder).row["sha256"] == rows[2]["sha256"]
    assert find_image("ffff", folder, "random/n03/1").row["concept_id"] == "random/n03/1"
    for image, sentence in {
        "0000": "no image of .* has a SHA-256 that begins with 0000",
        "eeee": "begins with eeee: it was retracted in version 1.1.0, shows a bird",
        "ffff": f"ffff.* is published for {rows[3]['concept_id']}, random/n03/1: say which by --concept",
    }.items():
        with pytest.raises(DataError, match=sentence):
            find_image(image, folder)
    both = sorted({rows[2]["sha256"], rows[3]["sha256"]})
    assert len(both) == 2
    for image in ("", "abc", "xyz12345", "a" * 65, "../../etc"):
        with pytest.raises(ConfigError, match="expected its SHA-256"):
            find_image(image, folder)


def test_a_prefix_of_several_images_is_refused(world: World, tmp_path: Path) -> None:
    rows = [dict(row) for row in world.rows()[:2]]
    for i, row in enumerate(rows):
        row["sha256"] = "abcd" + str(i) * 60
    folder = str(publish(world, tmp_path / "dataset", rows))
    with pytest.raises(DataError, match=r"2 images of .* begin with abcd, such as abcd0000.* and abcd1111"):
        find_image("abcd", folder)
    assert find_image("abcd1", folder).row["sha256"] == rows[1]["sha256"]


@pytest.mark.parametrize("spoil", ["none", "manifest", "parquet", "shards"])
def test_what_cannot_be_read_is_said_in_one_sentence(world: World, tmp_path: Path, spoil: str) -> None:
    folder, row = publish(world, tmp_path / "dataset", world.rows()), world.rows()[0]
    at_hand = Evidence(shards=str(tmp_path / "other")) if spoil == "shards" else None
    write_tar(tmp_path / "other" / "pool-9.tar", [("a.jpg", jpeg(1))])
    if spoil == "manifest":
        (folder / "dataset.json").write_text("{}", encoding="utf-8")
    if spoil == "parquet":
        (folder / "data" / "test.parquet").write_bytes(b"PAR1")
    dataset = str(tmp_path / "nothing") if spoil == "none" else str(folder)
    expected = {
        "none": "there is no dataset",
        "manifest": "dataset.json of .* is not of this schema",
        "parquet": "cannot be read",
        "shards": r"there is no shard pool-\d.tar in .*: 1 others are there",
    }
    with pytest.raises(SpuriousImagenetError, match=expected[spoil]) as caught:
        trace(row["sha256"], dataset, concept=row["concept_id"], at_hand=at_hand)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["alpha", "models", "shard_offset"])
def test_an_image_that_was_imported_has_no_way_back(world: World, tmp_path: Path, column: str) -> None:
    row = world.rows()[0]
    folder = publish(world, tmp_path / "dataset", [row, row | {"sha256": "f" * 64, column: None}])
    error = run_spurious("trace", "f" * 64, "--dataset", folder).the_error()
    assert error.startswith(f"image ffffffffffff of {folder} has no {column}: expected an image that was mined")


def test_a_row_of_another_schema_is_refused_in_one_sentence(world: World) -> None:
    for change in ({"models": [{"name": "m"}]}, {"alpha": "high"}, {"verdicts": [{"labeler": 1}]}):
        with pytest.raises(DataError, match="of W cannot be traced: ") as caught:
            trace_row(world.rows()[0] | change, dataset="W")
        assert "\n" not in str(caught.value)


def test_a_row_of_the_board_has_no_bytes_and_is_traced_all_the_same(world: World) -> None:
    row = {name: value for name, value in world.rows()[0].items() if name not in ("image", "key")}
    traced = trace_row(row, dataset="W", version="1.2.0", at_hand=replace(world.evidence(), models={}))
    assert states(traced)["image"] == {"not checked"}
    assert states(traced)["shard"] == states(traced)["candidates"] == {"verified"}


def test_the_command_prints_the_chain_and_its_code_says_whether_it_holds(world: World, tmp_path: Path) -> None:
    row = world.rows()[0]
    wanted = (row["sha256"][:16], "--dataset", world.dataset, "--concept", row["concept_id"])
    models = [part for spec in world.specs for part in ("--model", spec)]
    places = [p for n in ("shards", "bank", "candidates") for p in (f"--{n}", world.root / n)]
    ran = run_spurious("trace", *wanted, *models, *places, "--out", tmp_path / "image.jpg")
    assert ran.code == 0, ran
    assert (tmp_path / "image.jpg").read_bytes() == row["image"]["bytes"]
    assert row["sha256"] in ran.out.replace("\n", "")
    assert ran.out.count("verified") == 10
    assert "Jane [bold]Doe[/bold]" in ran.out
    assert not {"\x1b", "\u202e"} & set(ran.out)
    told = Trace.model_validate_json(run_spurious("trace", *wanted, "--json").out)
    assert states(told) == ALONE
    lied = publish(world, tmp_path / "lied", [row | {"votes": 9}])
    ran = run_spurious("trace", row["sha256"], "--dataset", lied)
    assert ran.the_error() == f"image {row['sha256'][:12]} of {lied}: these links are wrong: votes."
    assert "WRONG" in ran.out
    assert json.loads(run_spurious("trace", row["sha256"], "--dataset", lied, "--json").out)["version"] == "1.2.0"


def test_candidates_that_never_held_the_image_are_found(world: World) -> None:
    at_hand = Evidence(candidates=pd.DataFrame(_kept(world)).iloc[1:])
    first = _kept(world)[0]
    traced = trace_row(published(first), dataset="W", at_hand=at_hand)
    assert [link.note for link in traced.wrong] == ["it is not among the candidates"]
