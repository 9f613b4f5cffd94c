from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import run_spurious, tree
from spufix_helpers import DIGESTS

from spurious_imagenet.benchmark.mitigation.spufix_alphas import read_alphas, write_alphas
from spurious_imagenet.builders.imports import read_sfe_alphas
from spurious_imagenet.concepts import ConceptVerdict, ConceptVerdicts
from spurious_imagenet.errors import DataError
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, Reject, StoreConfig
from spurious_imagenet.models import imagenet_label_space

CLASS_IDS = imagenet_label_space().class_ids
#: In torchvision's order; as stems they would sort otherwise.
NUMBERS = {"n01440764": ["10026", "10027", "1", "9"], "n01833805": ["10", "2", "20", "3"]}


def sorted_as_torchvision(class_id: str) -> list[str]:
    return sorted(f"{class_id}_{number}.JPEG" for number in NUMBERS[class_id])


def digest_of(name: str) -> bytes:
    stems = [f"{k}_{n}" for k, numbers in NUMBERS.items() for n in numbers]
    return DIGESTS[stems.index(name.removesuffix(".JPEG"))]


def imagenet_store(path: Path, *, rejected: str | None = None, keys: str = "{k}/{k}_{n}") -> FeatureStore:
    config = StoreConfig(
        model="m",
        weights_sha256="ab" * 32,
        label_space="imagenet-1k",
        class_ids=CLASS_IDS,
        feature_dim=2,
        preprocess={},
    )
    store = FeatureStore.create(path, config)
    images = [(k, n) for k, numbers in NUMBERS.items() for n in numbers]
    for part in range(2):
        some = images[part::2]
        rows = [
            {"key": keys.format(k=k, n=n), "class_id": k, "sha256": digest_of(f"{k}_{n}")}
            for k, n in some
            if f"{k}_{n}" != rejected
        ]
        rejects = [Reject(key=f"{k}/{k}_{n}", reason="torn") for k, n in some if f"{k}_{n}" == rejected]
        store.write_part(
            shard=f"{part}.tar",
            shard_sha256="0" * 64,
            shard_bytes=0,
            features=np.zeros((len(rows), 2), np.float16),
            rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
            rejects=rejects,
            versions={},
        )
    return store


def components(found: dict[str, list[int]]) -> ConceptVerdicts:
    return ConceptVerdicts(
        tuple(
            ConceptVerdict(
                kind="npca",
                class_index=CLASS_IDS.index(k),
                class_id=k,
                component=c,
                verdict="spurious",
                source="sfe",
            )
            for k, listed in found.items()
            for c in listed
        )
    )


SPURIOUS = components({"n01833805": [4, 1], "n01440764": [0]})


def publish(folder: Path) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    rng = torch.Generator().manual_seed(0)
    made = {k: torch.randn(len(NUMBERS[k]), 6, generator=rng) for k in NUMBERS}
    for class_id, matrix in made.items():
        torch.save(matrix, folder / f"spurious_alphas_train_{CLASS_IDS.index(class_id):03d}.pt")
    return made


def test_rows_are_found_by_the_order_of_names_and_columns_by_component(tmp_path: Path) -> None:
    made = publish(tmp_path / "pt")
    classes = read_sfe_alphas(tmp_path / "pt", imagenet_store(tmp_path / "store"), SPURIOUS)
    assert [(c.class_id, c.components) for c in classes] == [("n01440764", (0,)), ("n01833805", (1, 4))]
    for one in classes:
        assert one.concept_ids == tuple(f"npca/{one.class_id}/{c}" for c in one.components)
        found = dict(zip(one.sha256, one.alpha.tolist(), strict=True))
        for row, name in enumerate(sorted_as_torchvision(one.class_id)):
            assert found[digest_of(name)] == made[one.class_id][row, list(one.components)].tolist()


def test_an_image_that_the_store_rejected_keeps_its_place(tmp_path: Path) -> None:
    publish(tmp_path / "pt")
    whole = read_sfe_alphas(tmp_path / "pt", imagenet_store(tmp_path / "store"), SPURIOUS)
    gap = read_sfe_alphas(tmp_path / "pt", imagenet_store(tmp_path / "gap", rejected="n01833805_20"), SPURIOUS)
    before, after = (dict(zip(c[1].sha256, c[1].alpha.tolist(), strict=True)) for c in (whole, gap))
    assert after == {k: v for k, v in before.items() if k != digest_of("n01833805_20")}


def test_alphas_go_through_a_file(tmp_path: Path) -> None:
    publish(tmp_path / "pt")
    imagenet_store(tmp_path / "store")
    SPURIOUS.save(tmp_path / "components.parquet")
    arguments = ("--features", tmp_path / "store", "--components", tmp_path / "components.parquet")
    out = tmp_path / "alphas.parquet"
    ran = run_spurious("import", "sfe-alphas", tmp_path / "pt", *arguments, "--out", out)
    assert ran.code == 0, ran
    assert ran.out == f"{out}: α of 8 training images of 2 classes on 3 components.\n"
    expected = read_sfe_alphas(tmp_path / "pt", FeatureStore.open(tmp_path / "store"), SPURIOUS)
    for one, own in zip(read_alphas(out), expected, strict=True):
        assert (one.class_id, one.components, one.concept_ids) == (own.class_id, own.components, own.concept_ids)
        own_rows = dict(zip(own.sha256, own.alpha.tolist(), strict=True))
        assert dict(zip(one.sha256, one.alpha.tolist(), strict=True)) == own_rows


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_hostile_files_are_refused_in_one_sentence_and_run_nothing(tmp_path: Path) -> None:
    publish(tmp_path / "pt")
    imagenet_store(tmp_path / "store")
    SPURIOUS.save(tmp_path / "components.parquet")
    file = tmp_path / "pt" / "spurious_alphas_train_000.pt"
    arguments = ("--features", tmp_path / "store", "--components", tmp_path / "components.parquet")
    good, exploded = file.read_bytes(), tmp_path / "exploded"
    bombs = [pickle.dumps(Bomb(exploded))]
    torch.save({"x": Bomb(exploded)}, file)
    bombs += [file.read_bytes(), good[: len(good) // 2], b"", b"\x00" * 100, os.urandom(300)]
    for content in bombs:
        file.write_bytes(content)
        before = tree(tmp_path)
        ran = run_spurious("import", "sfe-alphas", tmp_path / "pt", *arguments, "--out", tmp_path / "a.parquet")
        assert f"{file} cannot be read without running code in it" in ran.the_error()
        assert tree(tmp_path) == before
    assert not exploded.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(4), "of 1 axes: expected a matrix"),
        (torch.zeros(4, 6, dtype=torch.int64), "int64 tensor of 2 axes: expected a matrix"),
        ({"a": torch.zeros(4, 6)}, "holds no tensor"),
        (torch.zeros(3, 6), "has 3 rows, but .* has 4 images of class 'n01440764'"),
        (torch.zeros(4, 0), "has 0 columns: expected one of component 0"),
        (torch.full((4, 6), torch.nan), "NaN or infinite"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(tmp_path: Path, content: object, said: str) -> None:
    publish(tmp_path / "pt")
    torch.save(content, tmp_path / "pt" / "spurious_alphas_train_000.pt")
    with pytest.raises(DataError, match=said):
        read_sfe_alphas(tmp_path / "pt", imagenet_store(tmp_path / "store"), SPURIOUS)


def test_stores_and_verdicts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    publish(tmp_path / "pt")
    numbered = imagenet_store(tmp_path / "numbered", keys="{n}")
    with pytest.raises(DataError, match=r"has the key '10026' in class 'n01440764': expected names of ImageNet's"):
        read_sfe_alphas(tmp_path / "pt", numbered, SPURIOUS)
    other = imagenet_store(tmp_path / "other", keys="n00000000_{n}")
    with pytest.raises(DataError, match="expected names"):
        read_sfe_alphas(tmp_path / "pt", other, SPURIOUS)
    with pytest.raises(DataError, match=r"there is no file .*spurious_alphas_train_001\.pt"):
        read_sfe_alphas(tmp_path / "pt", imagenet_store(tmp_path / "s"), components({"n01443537": [0]}))
    core = ConceptVerdicts(tuple(v.model_copy(update={"verdict": "core"}) for v in SPURIOUS))
    with pytest.raises(DataError, match="name no spurious component"):
        read_sfe_alphas(tmp_path / "pt", FeatureStore.open(tmp_path / "s"), core)


def test_files_of_alphas_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    publish(tmp_path / "pt")
    classes = read_sfe_alphas(tmp_path / "pt", imagenet_store(tmp_path / "store"), SPURIOUS)
    path = tmp_path / "a.parquet"
    write_alphas(path, classes)
    table = pq.read_table(path)
    rows = table.to_pylist()
    wrong = {
        "lacks components": rows[:-1],
        "two α of one component": [*rows, rows[0]],
        "expected 64 hexadecimal": [rows[0] | {"sha256": "xyz"}, *rows[1:]],
        "NaN or infinite": [rows[0] | {"alpha": float("nan")}, *rows[1:]],
        "empty cells": [rows[0] | {"class_id": None}, *rows[1:]],
        "holds no rows": [],
    }
    for said, changed in wrong.items():
        pq.write_table(pa.Table.from_pylist(changed, schema=table.schema), path)
        with pytest.raises(DataError, match=said):
            read_alphas(path)
    pq.write_table(table.drop(["alpha"]), path)
    with pytest.raises(DataError, match="holds no α: expected parquet with"):
        read_alphas(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="holds no α: expected parquet"):
        read_alphas(path)
