"""Features that another run has made already: a head on an encoder needs no second pass over the images."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from spurious_imagenet.builders.features._shard import top5
from spurious_imagenet.errors import ConfigError, StoreError
from spurious_imagenet.features.label_reading import NOT_OF_MODEL, LabelReader, ReadLabel
from spurious_imagenet.features.store import FeaturePart, FeatureStore, Reject, StoreConfig
from spurious_imagenet.models import Classifier
from spurious_imagenet.shards import SampleMetadata

_ROWS = 8192  # images whose logits are in memory at once


def open_reusable(path: str, classifier: Classifier, wanted: StoreConfig) -> FeatureStore:
    """Open a store whose features are also those of a classifier.

    Args:
        path: The store.
        classifier: A head on the store's model.
        wanted: Configuration of the store to be made.

    Raises:
        StoreError: Another model made the features, or the same one with other preprocessing.
        ConfigError: The classifier's logits are not a linear read-out of its features.
    """
    store = FeatureStore.open(path)
    if store.config.weights_sha256 not in (classifier.weights_sha256, classifier.encoder_weights_sha256):
        raise StoreError(
            f"{path} holds features of {store.config.model} (weights {store.config.weights_sha256[:12]}), which "
            f"{classifier.spec} does not have: expected a head on that model."
        )
    if store.config.preprocess != wanted.preprocess:
        raise StoreError(f"{path} was made with other preprocessing than {classifier.spec} has: expected the same.")
    if classifier.head is None:
        raise ConfigError(f"{classifier.spec} has no linear head, so its predictions need the images: expected a head.")
    return store


def reuse_part(found: FeaturePart, store: FeatureStore, classifier: Classifier) -> FeaturePart:
    """Write a part of another store as the classifier would have made it from the shard's images.

    Labels are looked up by class id, and the five likeliest classes computed from the stored float16 features, so that
    their probabilities differ from those of the network by its rounding.
    """
    receipt = found.receipt
    features, head = found.features(), classifier.linear_head()
    index: list[list[int]] = []
    probability: list[list[float]] = []
    for start in range(0, len(features), _ROWS):
        best, likely = top5(head.logits(features[start : start + _ROWS]).astype(np.float32))
        index += best
        probability += likely
    rows = found.rows()
    read = _read_again(found, rows, LabelReader(classifier.labels))
    label = [one.label for one in read]
    for name, values in (("label", label), ("top5_index", index), ("top5_probability", probability)):
        field = rows.schema.get_field_index(name)
        rows = rows.set_column(field, name, pa.array(values, rows.schema.field(name).type))
    return store.write_part(
        shard=found.shard,
        shard_sha256=receipt.shard_sha256,
        shard_bytes=receipt.shard_bytes,
        features=features,
        rows=rows,
        rejects=receipt.rejects,
        turned=receipt.turned,
        versions=receipt.versions,
        label_problems=[
            Reject(key=key, reason=one.problem)
            for key, one in zip(rows.column("key").to_pylist(), read, strict=True)
            if one.problem is not None
        ],
        shard_mtime_ns=found.changed_at,
    )


def _read_again(found: FeaturePart, rows: pa.Table, reader: LabelReader) -> list[ReadLabel]:
    """Look the class ids up in the classifier's label space; what is wrong with the shard's own labels stays so."""
    kept = {p.key: p.reason for p in found.receipt.label_problems if not p.reason.startswith(NOT_OF_MODEL)}
    read = []
    for key, class_id in zip(rows.column("key").to_pylist(), rows.column("class_id").to_pylist(), strict=True):
        one = reader.read(SampleMetadata(class_id, None, {}))
        read.append(one._replace(problem=one.problem or kept.get(key)))
    return read
