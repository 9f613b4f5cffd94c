"""The images of feature stores by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spurious_imagenet.errors import DataError
from spurious_imagenet.features.labelled import LabelledFeatures, TrainingIndex
from spurious_imagenet.features.store import ROW_SCHEMA, FeatureStore, StoreConfig

DIM = 3
#: Class id and label of each image of each part; the rows' classes need not be the model's.
PARTS = (
    [("cat", 2), ("ape", 0), (None, -1)],
    [],
    [("ape", 0), ("zebra", -1), ("cat", 2), ("bee", 1)],
)
CLASSES = ("ape", "bee", "cat")


def a_store(path: Path, first: int = 0) -> FeatureStore:
    config = StoreConfig(
        model="file:m", weights_sha256="w", label_space="custom", class_ids=CLASSES, feature_dim=DIM, preprocess={}
    )
    store = FeatureStore.create(path, config)
    for number, part in enumerate(PARTS):
        ids = range(first, first + len(part))
        rows = [
            {"key": str(i), "class_id": class_id, "label": label, "top5_index": [0, 1, 2, -1, -1]}
            for i, (class_id, label) in zip(ids, part, strict=True)
        ]
        store.write_part(
            shard=f"{number}.tar",
            shard_sha256=f"{number}" * 64,
            shard_bytes=0,
            features=np.repeat(np.array(ids, np.float16)[:, None], DIM, axis=1),
            rows=pa.Table.from_pylist(rows, schema=ROW_SCHEMA),
            rejects=(),
            versions={},
        )
        first += len(part)
    return store


def test_classes_are_those_of_the_rows_unless_others_are_asked_for(tmp_path: Path) -> None:
    store = a_store(tmp_path / "s")
    images = LabelledFeatures(store)
    assert images.class_ids == ("ape", "bee", "cat", "zebra")
    assert {c: images.images(c).tolist() for c in images.class_ids} == {
        "ape": [1, 3],
        "bee": [6],
        "cat": [0, 5],
        "zebra": [4],
    }
    assert images.label.tolist() == [2, 0, -1, 0, 3, 2, 1]
    assert (len(images), images.unlabelled, images.present) == (7, 1, [0, 1, 2, 3])
    some = LabelledFeatures(store, class_ids=["zebra", "dog", "ape"])
    assert [some.images(c).tolist() for c in ("zebra", "dog", "ape")] == [[4], [], [1, 3]]
    assert [some.images(k).tolist() for k in range(3)] == [[4], [], [1, 3]]
    assert (some.unlabelled, some.present) == (4, [0, 2])


def test_several_stores_are_one_after_another(tmp_path: Path) -> None:
    images = LabelledFeatures(a_store(tmp_path / "a"), a_store(tmp_path / "b", 7), a_store(tmp_path / "c", 14))
    assert (len(images), images.unlabelled) == (21, 3)
    assert images.images("cat").tolist() == [0, 5, 7, 12, 14, 19]
    assert images.features(images.images("cat"))[:, 0].tolist() == [0, 5, 7, 12, 14, 19]


def test_features_come_in_the_order_asked_for(tmp_path: Path) -> None:
    images = LabelledFeatures(a_store(tmp_path / "s"))
    for ids in ([], [6, 0, 3], [5, 5, 1], list(range(7))):
        found = images.features_in_order(np.array(ids, np.int64))
        assert found.shape == (len(ids), DIM)
        assert found[:, 0].tolist() == ids


def test_the_model_s_classes_are_known_by_their_number(tmp_path: Path) -> None:
    store = a_store(tmp_path / "s")
    index = TrainingIndex(store)
    assert [index.images(k).tolist() for k in range(3)] == [[1, 3], [6], [0, 5]]
    assert (index.unlabelled, index.left_out, index.present) == (2, 0, [0, 1, 2])
    assigned = TrainingIndex(store, predicted=True)  # the model says ape of all
    assert [assigned.images(k).tolist() for k in range(3)] == [[1, 3], [], []]
    assert (assigned.unlabelled, assigned.left_out, assigned.present) == (2, 3, [0])


def test_a_label_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    store = a_store(tmp_path / "s")
    store.config = store.config.model_copy(update={"class_ids": CLASSES[:2]})
    with pytest.raises(DataError, match="holds labels from -1 to 2"):
        TrainingIndex(store)


def test_the_hash_of_a_store_is_that_of_what_its_parts_hold(tmp_path: Path) -> None:
    one, same, other = (a_store(tmp_path / name, first) for name, first in (("a", 0), ("b", 0), ("c", 1)))
    assert one.sha256 == same.sha256 != other.sha256
    empty = FeatureStore.create(tmp_path / "d", one.config)
    assert empty.sha256 not in {one.sha256, other.sha256}
