"""What every importer keeps to: what was published is read; anything else is one sentence and leaves nothing."""

from __future__ import annotations

import csv
import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import jpeg

from spurious_imagenet.builders import imports
from spurious_imagenet.concepts import ConceptVerdict, ConceptVerdicts
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig
from spurious_imagenet.models import imagenet_label_space

IDS = imagenet_label_space().class_ids
NAMES = ("1", "2", "3")
ALPHAS = "spurious_alphas_train_000.pt"


def salient(root: Path) -> Path:
    """Write the votes of five people on one feature of each of three classes."""
    columns = ["WorkerId", "Input.wordnet_id", "Input.class_index", "Input.feature_index", "Input.feature_rank"]
    rows = [[*columns, "Answer.main", "Answer.confidence", "Answer.reasons"]]
    rows += [[f"{k}{w}", IDS[k], k, 7, 1, "background", "3.0", "why"] for k in range(3) for w in range(5)]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    file = root / "votes.csv"
    file.write_text(text.getvalue(), "utf-8", newline="")
    return file


def components(root: Path) -> Path:
    file = root / "components.npy"
    np.save(file, np.array({0: [0], 1: [1, 2]}, dtype=object))
    return file


def alphas(root: Path) -> Path:
    folder = root / "alphas"
    folder.mkdir()
    torch.save(torch.zeros(len(NAMES), 4), folder / ALPHAS)
    return folder


def training_store(root: Path) -> FeatureStore:
    config = StoreConfig(
        model="m", weights_sha256="0" * 64, label_space="imagenet-1k", class_ids=IDS, feature_dim=2, preprocess={}
    )
    store = FeatureStore.create(root / "store", config)
    rows = [{"key": f"{IDS[0]}/{IDS[0]}_{n}", "class_id": IDS[0], "sha256": n.encode() * 32} for n in NAMES]
    store.write_part(
        shard="0.tar",
        shard_sha256="0" * 64,
        shard_bytes=0,
        features=np.zeros((len(rows), 2), np.float16),
        rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
        rejects=(),
        versions={},
    )
    return store


def read_alphas(folder: Path) -> Any:
    spurious = ConceptVerdict(
        kind="npca", class_index=0, class_id=IDS[0], component=0, verdict="spurious", source="sfe"
    )
    root = folder.parent
    store = FeatureStore.open(root / "store") if (root / "store").exists() else training_store(root)
    return imports.read_sfe_alphas(folder, store, ConceptVerdicts((spurious,)))


def images(root: Path) -> Path:
    file = root / "images.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for i in range(3):
            archive.writestr(f"images/spurious_class_94_hummingbird_comp_2/{i}.jpeg", jpeg(i, (32, 32)))
    return file


def read_images(source: Path) -> Any:
    out = source.parent / "out"
    try:
        return imports.import_spurious_images(imports.ImagesConfig(source=str(source)), out)
    except DataError:
        assert not out.exists()
        raise


@dataclass(frozen=True)
class Importer:
    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    count: Callable[[Any], int]
    expected: int
    file: str = ""
    """The file in the folder that is damaged; empty where the input is one file."""


CASES = {
    "read_salient_imagenet": Importer(salient, imports.read_salient_imagenet, len, 3),
    "read_sfe_components": Importer(components, imports.read_sfe_components, len, 3),
    "read_sfe_alphas": Importer(alphas, read_alphas, lambda found: len(found[0].sha256), 3, ALPHAS),
    "import_spurious_images": Importer(images, read_images, lambda found: found.images, 3),
}


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exit, (3,))


HOSTILE = {
    "empty": b"",
    "zeros": bytes(64),
    "pickle": pickle.dumps(_Code()),
    "text": "nothing of the kind — ∅\n".encode(),
    "npy": b"\x93NUMPY\x01\x00\xff\xff",
}


def test_every_importer_has_its_contract() -> None:
    assert set(CASES) == {name for name in imports.__all__ if name.startswith(("read_", "import_"))}


@pytest.mark.parametrize("name", CASES)
class TestImporter:
    def test_what_was_published_is_read(self, name: str, tmp_path: Path) -> None:
        case = CASES[name]
        assert case.count(case.read(case.write(tmp_path))) == case.expected

    def test_a_missing_source_is_named(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(DataError) as refused:
            CASES[name].read(tmp_path / "missing")
        assert str(tmp_path / "missing") in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1

    @pytest.mark.parametrize("kind", [*HOSTILE, "cut", "cut late"])
    def test_a_damaged_file_is_one_sentence_that_names_it(self, name: str, kind: str, tmp_path: Path) -> None:
        case = CASES[name]
        source = case.write(tmp_path)
        file = source / case.file if case.file else source
        whole = file.read_bytes()
        file.write_bytes(HOSTILE.get(kind, whole[: len(whole) * (1 if kind == "cut" else 3) // 4]))
        with pytest.raises(DataError) as refused:
            case.read(source)
        assert str(source) in str(refused.value) or file.name in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
