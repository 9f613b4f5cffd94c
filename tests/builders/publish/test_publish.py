from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from helpers import encoded, picture, random_bank, run_spurious, spread_weights_file, tree, write_tar
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt
from PIL import Image

from spurious_imagenet.builders.features import FeaturesConfig, extract_features
from spurious_imagenet.builders.mining import MineConfig, mine
from spurious_imagenet.builders.publish import PublishConfig, PublishResult, publish
from spurious_imagenet.builders.publish.schema import attribution
from spurious_imagenet.errors import ConfigError, DataError, StoreError
from spurious_imagenet.models.spec import public_spec

CLASSES = ("n01", "n02", "n03", "n04")
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "[link](http://evil.example) | pipe || \\| ![img](http://evil.example/x.png)",
    "line\nbreak\r\n\n# heading `code` **bold** __b__ ~~s~~ $x$",
    "&lt;b&gt; &amp; <!-- comment --> <a href='javascript:1'>x</a> {{ 7 * 7 }} {% raw %}",
)
OPEN_IMAGES = {
    "ImageID": "000a1249af2bc5f0",
    "License": "https://creativecommons.org/licenses/by/2.0/",
    "Author": "Jane | <b>Doe</b>",
    "Title": "Bird feeder",
    "OriginalLandingURL": "https://www.flickr.com/photos/1/2",
    "OriginalURL": "https://farm1.staticflickr.com/2.jpg",
}
ATTRIBUTION = ("source_id", "license", "author", "title", "landing_url", "original_url")


class World(NamedTuple):
    root: Path
    images: dict[str, bytes]

    def mine(self, out: str, **options: object) -> Path:
        fixed = {"bank": str(self.root / "bank"), "features": str(self.root / "store"), "agree": ()}
        sizes = {"min_agree": 1, "top": 60, "keep": 60, "near_duplicate_bits": 0, "backend": "eager"}
        return mine(MineConfig(**(fixed | sizes | options)), self.root / out).path


def metadata_of(number: int) -> dict[str, object] | None:
    """Every kind of description that a pool may carry."""
    kinds = [OPEN_IMAGES, {"image": {"id": 7, "license": "cc0", "author": "A", "url": "u"}, "title": "outer"}, {}, None]
    return kinds[number % 4]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("a`<b>") / "where the publisher keeps it"
    images, number = {}, 0
    for s in range(2):
        members: list[tuple[str, bytes]] = []
        for i in range(70):
            key = f"dir/{s}-{i:02d}"
            images[key] = encoded(picture(100 * s + i, (32, 32)), "PNG" if i % 2 else "JPEG")
            members.append((f"{key}.{'png' if i % 2 else 'jpg'}", images[key]))
            if (meta := metadata_of(number)) is not None:
                members.append((f"{key}.json", json.dumps(meta).encode()))
            number += 1
        write_tar(root / "shards" / f"pool-{s}.tar", members)
    spec = spread_weights_file(root / "scorer.safetensors", classes=CLASSES, names=HOSTILE, size=32)
    config = FeaturesConfig(model=spec, shards=(str(root / "shards"),), backend="eager", workers=2)
    random_bank(extract_features(config, root / "store").store, root / "bank", names=HOSTILE)
    return World(root, images)


@pytest.fixture(scope="module")
def candidates(world: World) -> Path:
    return world.mine("candidates")


@pytest.fixture(scope="module")
def published(world: World, candidates: Path) -> PublishResult:
    return publish(PublishConfig(unreviewed=True, candidates=str(candidates)), world.root / "published")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection can be made, and none is tried: the Hub's libraries would retry, and take long."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def kept(candidates: Path) -> pd.DataFrame:
    table = pq.read_table(candidates / "candidates.parquet").to_pandas()
    return table[table["status"] == "kept"]


def rows(folder: Path) -> list[dict]:
    return pq.read_table(folder / "data").to_pylist()


@pytest.mark.usefixtures("offline")
def test_datasets_opens_the_folder_with_the_same_bytes(
    world: World, candidates: Path, published: PublishResult, tmp_path: Path
) -> None:
    opened = datasets.load_dataset(str(published.path), split="test", cache_dir=str(tmp_path))
    assert len(opened) == published.images == kept(candidates)["key"].nunique() > 100
    features = opened.features
    assert isinstance(features["image"], datasets.Image)
    assert {n: features[n].dtype for n in ("alpha", "rank", "component", "votes", "shard_offset", "sha256")} == {
        "alpha": "float32", "rank": "int32", "component": "int32", "votes": "int32", "shard_offset": "int64",
        "sha256": "string",
    }  # fmt: skip
    assert isinstance(features["models"], datasets.List)
    assert opened[0]["image"].size == (32, 32)
    for row in opened.cast_column("image", datasets.Image(decode=False)):
        data = row["image"]["bytes"]
        assert data == world.images[row["key"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert row["image"]["path"] == row["key"].rpartition("/")[2] + (".png" if data[:4] == b"\x89PNG" else ".jpg")
        assert Image.open(io.BytesIO(data)).size == (row["width"], row["height"])


def test_rows_are_the_kept_candidates_each_image_once_a_class(candidates: Path, published: PublishResult) -> None:
    wanted = kept(candidates)
    best = wanted.sort_values(["rank", "component"], kind="stable").drop_duplicates(["class_id", "sha256"])
    best = best.sort_values(["class_id", "component", "rank"], kind="stable").reset_index(drop=True)
    found = pd.DataFrame(rows(published.path))
    columns = ["class_id", "class_name", "concept_id", "component", "alpha", "rank", "votes", "key", "sha256"]
    pd.testing.assert_frame_equal(found[columns], best[columns], check_dtype=False)
    assert found["perceptual_hash"].tolist() == best["phash"].tolist()
    assert (found["shard_offset"].tolist(), found["shard_size"].tolist()) == (
        best["offset"].tolist(),
        best["size"].tolist(),
    )
    assert published.repeated == len(wanted) - len(best) > 0
    assert published.left_out.empty
    counts = found.groupby("concept_id").size().to_dict()
    assert dict(zip(published.concepts["concept_id"], published.concepts["images"], strict=True)) == counts


def test_row_groups_hold_a_hundred_images(published: PublishResult) -> None:
    (file,) = (published.path / "data").iterdir()
    meta = pq.ParquetFile(file).metadata
    sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    assert sizes == [100, published.images - 100]


def test_publishing_twice_gives_the_same_bytes(candidates: Path, published: PublishResult, tmp_path: Path) -> None:
    again = publish(PublishConfig(unreviewed=True, candidates=str(candidates)), tmp_path / "again")
    assert tree(again.path) == tree(published.path)
    tables = {file.path for file in again.manifest.files}
    samples = {name for name in tree(again.path) if name.startswith("samples/")}
    folders = {"data", "concepts", "retired", "samples"}
    assert set(tree(again.path)) == {"README.md", "dataset.json", "croissant.json"} | folders | tables | samples
    assert all(file.sha256[:16] in file.path for file in again.manifest.files)
    assert 1 <= len(samples) <= 6


@pytest.mark.usefixtures("offline")
def test_folders_of_one_name_are_not_taken_for_each_other(
    candidates: Path, published: PublishResult, tmp_path: Path
) -> None:
    concept = sorted(kept(candidates)["concept_id"].unique())[0]
    config = PublishConfig(unreviewed=True, candidates=str(candidates), concepts=(concept,))
    few = publish(config, tmp_path / "elsewhere" / published.path.name)
    assert (
        len(datasets.load_dataset(str(published.path), split="test", cache_dir=str(tmp_path / "cache")))
        == published.images
    )
    assert (
        len(datasets.load_dataset(str(few.path), split="test", cache_dir=str(tmp_path / "cache")))
        == few.images
        < published.images
    )
    shutil.rmtree(few.path)
    more = publish(PublishConfig(unreviewed=True, candidates=str(candidates)), few.path)
    assert len(datasets.load_dataset(str(more.path), split="test", cache_dir=str(tmp_path / "cache"))) == more.images


def test_attribution_comes_from_the_samples_metadata(published: PublishResult) -> None:
    expected = {
        0: tuple(OPEN_IMAGES.values()),
        1: ("7", "cc0", "A", "outer", None, "u"),
        2: (None,) * 6,
        3: (None,) * 6,
    }
    seen = set()
    for row in rows(published.path):
        shard, _, i = row["key"].removeprefix("dir/").partition("-")
        kind = (70 * int(shard) + int(i)) % 4
        assert tuple(row[name] for name in ATTRIBUTION) == expected[kind]
        assert json.loads(row["metadata"] or "{}") == (metadata_of(kind) or {})
        seen.add(kind)
    assert seen == {0, 1, 2, 3}


def test_attribution_is_text_or_nothing() -> None:
    assert attribution({"LICENCE": "by", "image id": "7", "original-url": "u"}) == dict.fromkeys(
        ("author", "title", "landing_url")
    ) | {"license": "by", "source_id": "7", "original_url": "u"}
    found = attribution({"License": {"name": "x"}, "Author": "", "author": "B", "Title": 5, "url": ["a"], "id": None})
    assert found == dict.fromkeys(ATTRIBUTION) | {"author": "B", "title": "5"}


def test_nothing_says_where_the_publisher_keeps_things(world: World, published: PublishResult) -> None:
    content = rows(published.path)
    assert {row["shard"] for row in content} == {"pool-0.tar", "pool-1.tar"}
    assert {o["model"] for row in content for o in row["models"]} == {"file:scorer.safetensors"}
    for part in ("where the publisher", str(world.root)):
        assert part not in (published.path / "README.md").read_text()
        assert part not in json.dumps([{k: v for k, v in row.items() if k != "image"} for row in content])
    assert public_spec("file:/a/b/m.pth?arch=x&labels=/c/d/l.txt") == "file:m.pth?arch=x&labels=l.txt"
    assert public_spec("robust:m.pt?temperature=0.7") == "robust:m.pt?temperature=0.7"
    assert public_spec("timm:hf-hub:org/name@rev") == "timm:hf-hub:org/name@rev"


def rendered(text: str) -> list:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def test_hostile_names_are_inert_in_the_card(world: World, candidates: Path, tmp_path: Path) -> None:
    name = f"My: [set](x)\n---\n# {HOSTILE[0]}"
    folder = publish(PublishConfig(unreviewed=True, candidates=str(candidates), name=name), tmp_path / "named").path
    text = (folder / "README.md").read_text(encoding="utf-8")
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(front)["pretty_name"] == " ".join(name.split())
    tokens = rendered(body)
    inline = [t for token in tokens for t in (token.children or [])]
    assert not {"html_block", "html_inline"} & {t.type for t in [*tokens, *inline]}
    addresses = [t.attrs.get("src") or t.attrs.get("href") for t in inline if t.type in {"image", "link_open"}]
    assert all(a.startswith("samples/") or a in OPEN_IMAGES.values() for a in addresses), addresses
    title = next(tokens[i + 1] for i, t in enumerate(tokens) if t.type == "heading_open")
    assert "".join(t.content for t in title.children) == " ".join(name.split())
    assert [t.content for t in tokens if t.type == "inline" and t.level == 1].count("Content") == 1
    said = {"".join(c.content for c in t.children) for t in tokens if t.type == "inline"}
    counts = kept(candidates).drop_duplicates(["class_id", "sha256"])
    assert {" ".join(h.split()) for h in HOSTILE} <= said
    assert set(counts["concept_id"]) & said


def test_the_cards_metadata_are_the_hubs(published: PublishResult) -> None:
    card = DatasetCard.load(published.path / "README.md")
    data = card.data.to_dict()
    (file,) = (published.path / "data").iterdir()
    files = [{"split": "test", "path": f"data/{file.name}"}]
    assert data["configs"][0] == {"config_name": "spurious", "default": True, "data_files": files}
    assert [c["config_name"] for c in data["configs"]] == ["spurious", "concepts", "retired"]
    assert data["size_categories"] == ["n<1K"]
    assert data["task_categories"] == ["image-classification"]
    assert "Not reviewed" in card.text


def test_what_to_publish_can_be_narrowed(candidates: Path, published: PublishResult, tmp_path: Path) -> None:
    concepts = sorted(kept(candidates)["concept_id"].unique())
    one = publish(PublishConfig(unreviewed=True, candidates=str(candidates), concepts=(concepts[0],)), tmp_path / "one")
    assert {row["concept_id"] for row in rows(one.path)} == {concepts[0]}
    few = publish(PublishConfig(unreviewed=True, candidates=str(candidates), per_concept=3), tmp_path / "few")
    assert set(few.concepts["images"]) == {3}
    every = pd.DataFrame(rows(published.path))
    highest = every.sort_values("alpha", ascending=False).groupby("concept_id").head(3)
    assert {row["sha256"] for row in rows(few.path)} == set(highest["sha256"])
    assert set(few.concepts["concept_id"]) == set(concepts)


def test_concepts_with_too_few_images_are_left_out_and_said(world: World, tmp_path: Path) -> None:
    mined = world.mine("few", keep=4, top=60)
    every = publish(PublishConfig(unreviewed=True, candidates=str(mined)), tmp_path / "every").concepts
    least, most = every["images"].min(), every["images"].max()
    assert least < most, "some image must serve two components"
    result = publish(PublishConfig(unreviewed=True, candidates=str(mined), min_images=int(most)), tmp_path / "most")
    assert set(result.concepts["images"]) == {most}
    assert set(result.left_out["concept_id"]) == set(every.loc[every["images"] < most, "concept_id"])
    ran = run_spurious(
        "publish", "--unreviewed", "--candidates", mined, "--out", tmp_path / "cli", "--min-images", most
    )
    assert ran.code == 0
    assert ran.err.count("left out: ") == len(result.left_out)
    with pytest.raises(ConfigError, match=r"nothing to publish: no concept in .* has 61 kept images or more"):
        publish(PublishConfig(unreviewed=True, candidates=str(mined), min_images=61), tmp_path / "none")
    with pytest.raises(ConfigError, match="concept 'random/egg/0' has no candidates"):
        publish(PublishConfig(unreviewed=True, candidates=str(mined), concepts=("random/egg/0",)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_changed_image_is_refused_and_nothing_left(world: World, candidates: Path, tmp_path: Path) -> None:
    victim = kept(candidates).iloc[5]
    shard = Path(victim["shard"])
    intact = shard.read_bytes()
    changed = bytearray(intact)
    changed[victim["offset"] + victim["size"] // 2] ^= 1
    shard.write_bytes(changed)
    try:
        with pytest.raises(DataError, match=f"image {victim['key']} of .* has changed since it was mined"):
            publish(PublishConfig(unreviewed=True, candidates=str(candidates)), tmp_path / "out")
    finally:
        shard.write_bytes(intact)
    assert list(tmp_path.iterdir()) == []


def test_changed_or_unfinished_candidates_and_taken_folders_are_refused(candidates: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in candidates.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    table = pq.read_table(copy / "candidates.parquet")
    pq.write_table(table.slice(0, 50), copy / "candidates.parquet", compression="zstd")
    with pytest.raises(StoreError, match=r"candidates\.parquet has changed since it was mined"):
        publish(PublishConfig(unreviewed=True, candidates=str(copy)), tmp_path / "out")
    (copy / "receipt.json").unlink()
    with pytest.raises(StoreError, match="holds no finished candidates"):
        publish(PublishConfig(unreviewed=True, candidates=str(copy)), tmp_path / "out")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="already exists"):
        publish(PublishConfig(unreviewed=True, candidates=str(candidates)), tmp_path / "taken")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in (tmp_path / "taken").iterdir()] == ["notes.txt"]
