from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from evaluation_helpers import SPURIOUS, dataset_folder, spurious_dataset
from helpers import CLASSES, encoded, jpeg, labelled_shard, picture, weights_file, write_tar
from PIL import Image

from spurious_imagenet import evaluate
from spurious_imagenet.datasets.manifest import MANIFEST, DatasetManifest, RetiredImage, SelectionModel
from spurious_imagenet.datasets.spurious import SpuriousDataset
from spurious_imagenet.errors import ConfigError, DataError
from spurious_imagenet.io import write_json
from spurious_imagenet.leaderboard.store.making import make_version
from spurious_imagenet.leaderboard.store.store import Store
from spurious_imagenet.models import label_space_for


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    # `datasets` knows what it has read by its folder's name.
    return dataset_folder(tmp_path / f"dataset-{os.getpid()}-{tmp_path.name}")


def _shards(tmp_path: Path) -> Path:
    labelled_shard(tmp_path / "val" / "a.tar", [*range(12), 0])
    torn = [("broken.jpg", jpeg(99)[:200]), ("broken.json", b'{"class_id": "apple"}')]
    write_tar(tmp_path / "val" / "b.tar", torn)
    return tmp_path / "val"


def test_the_hashes_are_those_of_an_evaluation(dataset: Path, tmp_path: Path) -> None:
    val = _shards(tmp_path)
    record = evaluate(weights_file(tmp_path / "w.safetensors"), dataset, str(val), device="cpu", backend="eager")
    made, _ = make_version(dataset, val, version="1.0.0", name="Fruit")
    assert (made.info.dataset_sha256, made.info.validation_sha256) == (record.dataset_sha256, record.validation_sha256)
    assert made.info.dataset_sha256 == SpuriousDataset(spurious_dataset()).sha256()
    assert made.info.class_names == {c: c.title() for c in CLASSES[:2]}
    assert len(made.side("validation")) == record.accuracy_images == 12  # a copy counts once
    assert {str(n) for n in made.side("validation")["name"]} >= {"a.tar/a-0000", "a.tar/a-0011"}
    assert made.info.miners == ()


def test_an_image_folder_gives_names_without_its_place(dataset: Path, tmp_path: Path) -> None:
    for i, class_id in enumerate(CLASSES[:3]):
        (tmp_path / "images" / class_id).mkdir(parents=True)
        (tmp_path / "images" / class_id / "x.png").write_bytes(encoded(picture(i), "PNG"))
    made, _ = make_version(dataset, tmp_path / "images", version="1.0.0")
    assert made.side("validation")["name"].tolist() == ["apple/x.png", "bird/x.png", "cup/x.png"]
    fewer, _ = make_version(
        dataset, tmp_path / "images", version="1.0.0", labels=label_space_for(2, class_ids=CLASSES[:2])
    )
    assert len(fewer.side("validation")) == 2


def test_pictures_are_small_and_decoded_safely(tmp_path: Path) -> None:
    rows = [
        ("apple", "npca/apple/0", jpeg(1, (640, 320))),
        ("bird", "npca/bird/0", encoded(picture(2, (90, 40)), "PNG")),
    ]
    folder = dataset_folder(tmp_path / f"wide-{os.getpid()}-{tmp_path.name}", rows)
    made, pictures = make_version(folder, _shards(tmp_path), version="1.0.0")
    store = Store(tmp_path / "board", create=True)
    store.add_version(made, pictures)
    keys = [f"image:{sha256}" for sha256 in made.side("spurious")["sha256"]]
    found = [Image.open(io.BytesIO(store.pictures("latest", keys)[key])) for key in keys]
    assert [(p.format, p.size) for p in found] == [("JPEG", (256, 128)), ("JPEG", (90, 40))]


def test_the_manifest_says_version_miners_and_what_was_retired(dataset: Path, tmp_path: Path) -> None:
    manifest = DatasetManifest(
        kind="spurious-images",
        name="Fruit",
        version="2.1.0",
        code_version="0",
        files=(),
        dataset_sha256=SpuriousDataset(spurious_dataset()).sha256(),
        min_agree=3,
        miners=(SelectionModel(model="timm:resnet50", role="scorer", weights_sha256="a" * 64),),
        retired=(RetiredImage(class_id="apple", concept_id="c", sha256="b" * 64, reason="bad", since="2.0.0"),),
    )
    _write(dataset, manifest, config=True)
    made, _ = make_version(dataset, _shards(tmp_path))
    assert (made.info.name, made.info.version, made.info.min_agree) == ("Fruit", "2.1.0", 3)
    assert (made.info.miners, made.info.retired) == (manifest.miners, manifest.retired)
    with pytest.raises(ConfigError, match=r"is version 2\.1\.0: got --version 1\.0\.0"):
        make_version(dataset, tmp_path / "val", version="1.0.0")
    _write(dataset, manifest.model_copy(update={"dataset_sha256": "c" * 64}))
    with pytest.raises(DataError, match="says that its images have hash cccccccccccc"):
        make_version(dataset, tmp_path / "val")
    _write(dataset, manifest.model_copy(update={"kind": "rankings"}))
    with pytest.raises(DataError, match="holds rankings: expected spurious images"):
        make_version(dataset, tmp_path / "val")


def _write(dataset: Path, manifest: DatasetManifest, *, config: bool = False) -> None:
    write_json(dataset / MANIFEST, manifest.model_dump(mode="json"))
    if config:
        front = (
            "---\nconfigs:\n- config_name: spurious\n  data_files:\n  - split: test\n    path: data/*.parquet\n---\n"
        )
        (dataset / "README.md").write_text(front)


def test_what_cannot_be_made_into_a_version(dataset: Path, tmp_path: Path) -> None:
    val = _shards(tmp_path)
    with pytest.raises(ConfigError, match="does not say its version: expected --version"):
        make_version(dataset, val)
    with pytest.raises(ConfigError, match="expected three numbers"):
        make_version(dataset, val, version="one")
    with pytest.raises(DataError, match="there is no dataset folder"):
        make_version(tmp_path / "nothing", val, version="1.0.0")
    with pytest.raises(DataError, match=r"not a rankings folder"):
        make_version(dataset, val, version="1.0.0", rankings=tmp_path)
    labelled_shard(tmp_path / "few" / "a.tar", range(3), classes=["apple"])
    with pytest.raises(DataError, match="no readable validation image of 1 classes, such as 'bird'"):
        make_version(dataset, tmp_path / "few", version="1.0.0")
    _, pictures = make_version(dataset, val, version="1.0.0", boards=tmp_path)
    with pytest.raises(DataError, match="holds no boards that can be read"):
        list(pictures)


def test_repeated_images_keep_their_rows(tmp_path: Path) -> None:
    rows = [SPURIOUS[0], (SPURIOUS[0][0], "npca/apple/other", SPURIOUS[0][2]), SPURIOUS[1]]
    folder = dataset_folder(tmp_path / f"twice-{os.getpid()}-{tmp_path.name}", rows)
    made, pictures = make_version(folder, _shards(tmp_path), version="1.0.0")
    assert len(made.side("spurious")) == 3
    assert len(list(pictures)) == 2
