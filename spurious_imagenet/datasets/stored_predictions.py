"""Predictions of labelled images from a feature store, so that accuracies and gaps need no second pass over images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spurious_imagenet.datasets.predictions import PREDICTIONS_SCHEMA, Predictions
from spurious_imagenet.errors import DataError, StoreError
from spurious_imagenet.features.store import FeaturePart, FeatureStore
from spurious_imagenet.models.labels import LabelSpace

__all__ = ["predictions_of_store"]


def predictions_of_store(store: FeatureStore, labels: LabelSpace | None = None) -> Predictions:
    """Read validation-side predictions from a feature store, which keeps the five best classes of every image.

    ``probability`` is that of the image's class where it is among the five, else 0: below the fifth, not known more
    exactly. Images without a label, or with a class that the model does not know, are left out.

    Args:
        store: Features of labelled images.
        labels: The model's classes; the store's own where left out.

    Raises:
        StoreError: The store is of other classes, or has none.
        DataError: It holds no labelled image.
    """
    class_ids = store.config.class_ids
    if labels is not None and labels.class_ids != class_ids:
        raise StoreError(
            f"{store.path} has the {len(class_ids)} classes of {store.config.label_space!r}: expected the "
            f"{len(labels)} of {labels.name!r}."
        )
    if not class_ids:
        raise StoreError(f"{store.path} holds features of a bare encoder: expected a model with classes.")
    tables = [_part_predictions(part, class_ids) for part in store.parts]
    table = pa.concat_tables(tables) if tables else PREDICTIONS_SCHEMA.empty_table()
    if not len(table):
        raise DataError(f"{store.path} holds no labelled image: expected the features of labelled images.")
    return Predictions(table.to_pandas())


def _part_predictions(part: FeaturePart, class_ids: tuple[str, ...]) -> pa.Table:
    rows = part.rows(["key", "sha256", "class_id", "label", "top5_index", "top5_probability"])
    rows = rows.filter(pc.fill_null(pc.greater_equal(rows["label"], 0), False))
    count = len(rows)
    index, probability = _of_five(rows["top5_index"]), _of_five(rows["top5_probability"])
    if len(index) != count or len(probability) != count or not (index[:, 0] >= 0).all():
        raise DataError(f"part {part.path.name} has labelled images without a predicted class.")
    label = rows["label"].to_numpy()
    known = index >= 0  # a model of fewer than five classes fills up with -1
    offsets = pa.array(np.concatenate([[0], known.sum(axis=1).cumsum()]).astype(np.int32))
    names = np.asarray(class_ids, dtype=object)
    columns = {
        "side": pa.array(["validation"] * count, pa.string()),
        "class_id": pa.array(names[label], pa.string()),
        "concept_id": pa.nulls(count, pa.string()),
        "name": rows["key"],
        "sha256": pa.array([h.hex() if h is not None else None for h in rows["sha256"].to_pylist()], pa.string()),
        "probability": np.where(index == label[:, None], probability, 0).sum(axis=1).astype(np.float64),
        "predicted_id": pa.array(names[index[:, 0]], pa.string()),
        "top5_id": pa.ListArray.from_arrays(offsets, pa.array(names[index[known]], pa.string())),
        "top5_probability": pa.ListArray.from_arrays(offsets, pa.array(probability[known], pa.float32())),
    }
    return pa.table(columns, schema=PREDICTIONS_SCHEMA)


def _of_five(lists: pa.ChunkedArray) -> NDArray[Any]:
    """Return the (n, 5) values of lists of five; a missing list gives no row, a missing value -1."""
    flat = pc.fill_null(pc.list_flatten(lists), -1)
    return np.asarray(flat.to_numpy()).reshape(-1, 5)
