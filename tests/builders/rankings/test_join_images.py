from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from helpers import encoded, jpeg, picture, run_spurious, write_tar
from PIL import Image
from rankings_helpers import DIM, judged_bank, write_store

from spurious_imagenet import join_images
from spurious_imagenet.builders.rankings import join
from spurious_imagenet.datasets.rankings import RANKINGS_SCHEMA, Rankings, RankingsInfo
from spurious_imagenet.errors import ConfigError, DataError

IMAGES = {f"{c}/{i:04d}": jpeg(10 * n + i, (16, 12)) for n, c in enumerate(("ape", "bee")) for i in range(5)}
HASH = {name: hashlib.sha256(data).hexdigest() for name, data in IMAGES.items()}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(names: Any = IMAGES) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"name": list(names), "sha256": [HASH[n] for n in names]})


def folder(root: Path, rename: Any = lambda name: f"{name}.JPEG") -> Path:
    for name, data in IMAGES.items():
        path = root / rename(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "notes.txt").write_text("no image")
    return root


def pixels(joined: datasets.Dataset) -> list[bytes]:
    return [np.asarray(row["image"].convert("RGB")).tobytes() for row in joined]


EXPECTED = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).tobytes() for data in IMAGES.values()]


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"{name}.JPEG",
        lambda name: f"val/deep/{name.rpartition('/')[2]}-{name[:3]}.png",
        lambda name: f"{hashlib.md5(name.encode()).hexdigest()}.jpg",
        lambda name: f"{'bee' if name[0] == 'a' else 'ape'}/{name[4:]}.jpg",  # every name is another image's
    ],
)
def test_a_folder_is_joined_whatever_its_names(tmp_path: Path, rename: Any) -> None:
    joined = join_images(table(), folder(tmp_path / "own", rename))
    assert joined.features["image"] == datasets.Image()
    assert pixels(joined) == EXPECTED
    assert joined["name"][:] == list(IMAGES)
    undecoded = joined.cast_column("image", datasets.Image(decode=False))
    assert all(i["bytes"] is None and Path(i["path"]).is_absolute() for i in undecoded["image"][:])


def shards(root: Path, rename: Any = lambda name: f"{name}.jpg") -> Path:
    members = [(rename(name), data) for name, data in IMAGES.items()]
    write_tar(root / "a.tar", members[:3])
    write_tar(root / "b.tar", members[3:])
    return root


@pytest.mark.parametrize("address", ["", "*.tar", "{a,b}.tar"])
def test_shards_are_joined_with_their_bytes(tmp_path: Path, address: str) -> None:
    root = shards(tmp_path / "own")
    joined = join_images(table(list(reversed(IMAGES))), f"{root}/{address}" if address else root)
    assert pixels(joined) == EXPECTED[::-1]
    undecoded = joined.cast_column("image", datasets.Image(decode=False))["image"][:]
    assert [i["bytes"] for i in undecoded] == list(IMAGES.values())[::-1]
    assert [i["path"] for i in undecoded] == [f"{name[4:]}.jpg" for name in reversed(IMAGES)]
    assert joined.cache_files  # not in memory


def test_several_places_are_joined(tmp_path: Path) -> None:
    root = shards(tmp_path / "own", lambda name: f"x/{name}.jpg")
    (root / "b.tar").unlink()
    joined = join_images(table(), [root, folder(tmp_path / "more")])
    assert pixels(joined) == EXPECTED


def test_rankings_are_joined_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"split": "val", "name": name, "sha256": HASH[name], "class_id": name[:3], "class_name": "c", "control": False}
        | {"spuriosity": 0.5, "rank": i, "of": 10, "percentile": 0.5, "ranked_split": None}
        | {"concept_ids": ["x", "y"], "concept_scores": [1.0, 2.0]}
        for i, name in enumerate(IMAGES)
    ]
    full = pa.Table.from_pylist(rows, RANKINGS_SCHEMA).to_pandas()
    info = RankingsInfo(model="m", weights_sha256="w", feature_config_sha256="f", concepts={})
    joined = join_images(Rankings(full, info), folder(tmp_path / "own"))
    assert joined.remove_columns("image").to_list() == rows
    assert pixels(joined) == EXPECTED


def test_names_say_where_to_look_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, read = folder(tmp_path / "own"), []
    original = join._file_bytes
    monkeypatch.setattr(join, "_file_bytes", lambda file: read.append(file) or original(file))
    join_images(table(["bee/0003"]), root)
    assert read == [str(root / "bee/0003.JPEG")]
    read.clear()
    join_images(table(["bee/0003"]).rename_column("name", "key").map(lambda _: {"key": "0003"}), root)
    assert read == [str(root / "ape/0003.JPEG"), str(root / "bee/0003.JPEG")]
    read.clear()
    join_images(table(["bee/0003"]).remove_columns("name"), root)
    assert len(read) == 9


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "own")
    for name in list(IMAGES)[:4]:
        (root / f"{name}.JPEG").unlink()
    (root / "bee/0000.JPEG").write_bytes(IMAGES["bee/0000"] + b"\0")  # another file under its name
    with pytest.raises(DataError) as error:
        join_images(table(), root)
    assert str(error.value) == (
        f"5 of 10 images are not in {root} ('ape/0000', 'ape/0001', 'ape/0002' and so on): expected files of the same "
        "bytes; missing='drop' leaves out those that are not there."
    )
    joined = join_images(table(), root, missing="drop")
    assert joined["name"][:] == ["ape/0004", "bee/0001", "bee/0002", "bee/0003", "bee/0004"]
    assert pixels(joined) == [EXPECTED[i] for i in (4, 6, 7, 8, 9)]
    with pytest.raises(DataError, match="4 of 4 images"):
        join_images(table(list(IMAGES)[:4]), root, missing="drop")


def test_an_image_that_is_ranked_in_two_classes_is_joined_twice(tmp_path: Path) -> None:
    joined = join_images(table(["ape/0000", "bee/0001", "ape/0000"]), shards(tmp_path / "own"))
    assert pixels(joined) == [EXPECTED[0], EXPECTED[6], EXPECTED[0]]


def test_names_in_a_tar_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "secret.jpg"
    outside.write_bytes(IMAGES["ape/0000"])
    (tmp_path / "own").mkdir()
    with tarfile.open(tmp_path / "own" / "a.tar", "w") as tar:
        link = tarfile.TarInfo("ape/0000.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
        for name, data in (("../ape/0000.jpg", IMAGES["ape/0000"]), (str(outside), b"x"), ("b.jpg", jpeg(99))):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="1 of 1 images are not in"):
        join_images(table(["ape/0000"]), tmp_path / "own")
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_odd_names_in_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "real").mkdir(parents=True)
    (root / "real" / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.jpg")
    (root / "broken.jpg").symlink_to(root / "nowhere.jpg")
    data = IMAGES["ape/0000"]
    Path(os.fsdecode(os.fsencode(root) + b"/real/\xff\xfe.jpg")).write_bytes(data)
    joined = join_images(table(["ape/0000"]), root)
    assert pixels(joined) == EXPECTED[:1]


def test_what_cannot_be_joined_is_one_sentence(tmp_path: Path) -> None:
    root = folder(tmp_path / "own")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has the columns"):
        join_images(table().remove_columns("sha256"), root)
    with pytest.raises(DataError, match="a column 'image' already"):
        join_images(join_images(table(), root), root)
    with pytest.raises(DataError, match="with a DatasetDict: expected one split"):
        join_images(datasets.DatasetDict({"val": table()}), root)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="missing='skip'"):
        join_images(table(), root, missing="skip")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="were not found"):
        join_images(table(), tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no images"):
        join_images(table(), tmp_path / "empty")
    with pytest.raises(DataError, match="no place holds no images"):
        join_images(table(), [])
    with pytest.raises(ConfigError, match="pipe:"):
        join_images(table(), "pipe:cat x.tar")


def test_bytes_that_change_while_they_are_joined_are_refused(tmp_path: Path) -> None:
    own = join.OwnImages(folder(tmp_path / "own"))
    name = "ape/0000"
    (found,) = own.find([HASH[name]], [name])
    assert found is not None
    (tmp_path / "own" / "ape" / "0000.JPEG").write_bytes(b"another")
    with pytest.raises(DataError, match=r"0000\.JPEG .* has changed while it was joined"):
        own.read([HASH[name]], [found])


def rank_with_pixels(tmp_path: Path, out: str, *options: object) -> Any:
    features = {c: np.random.default_rng(n).standard_normal((5, DIM)) for n, c in enumerate(("ape", "bee"))}
    if not (tmp_path / "val").exists():
        hashes = {name: bytes.fromhex(h) for name, h in HASH.items()}
        store = write_store(tmp_path / "val", features, hashes=hashes)
        judged_bank(store, {"ape": 1, "bee": 1}, ["spurious"] * 2).save(tmp_path / "bank")
    given = ("--bank", tmp_path / "bank", "--features", tmp_path / "val", "--k", 2, "--out", tmp_path / out)
    return run_spurious("rank", *given, *options)


def test_pixels_are_embedded_where_their_licence_allows(tmp_path: Path) -> None:
    places = {"a": folder(tmp_path / "files"), "b": shards(tmp_path / "shards")}
    for out, place in places.items():
        ran = rank_with_pixels(tmp_path, out, "--embed", place, "--image-license", "CC-BY 4.0, see | <i>each</i>")
        assert ran.code == 0, ran
        loaded = datasets.load_dataset(str(tmp_path / out), split="val", cache_dir=str(tmp_path / "cache"))
        assert loaded.features["image"] == datasets.Image()
        assert pixels(loaded) == [EXPECTED[list(IMAGES).index(name)] for name in loaded["name"][:]]
        ours = Rankings.load(tmp_path / out).table
        assert ours["sha256"].tolist() == loaded["sha256"][:]
        card = (tmp_path / out / "README.md").read_text()
        assert "under this licence: CC-BY 4.0, see \\| &lt;i&gt;each" in card
        assert "join_images" not in card


def test_pixels_without_a_licence_or_not_there_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path / "files")
    assert "only under a licence" in rank_with_pixels(tmp_path, "a", "--embed", root).the_error()
    assert (
        "only under a licence" in rank_with_pixels(tmp_path, "a", "--embed", root, "--image-license", " ").the_error()
    )
    assert "no images are embedded" in rank_with_pixels(tmp_path, "a", "--image-license", "CC0").the_error()
    (root / "bee/0003.JPEG").write_bytes(encoded(picture(5)))
    ran = rank_with_pixels(tmp_path, "a", "--embed", root, "--image-license", "CC0")
    assert "image 'bee/0003' is not in" in ran.the_error()
    assert not (tmp_path / "a").exists()
