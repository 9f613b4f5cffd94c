"""One shard's images through the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spurious_imagenet.features.label_reading import ReadLabel
from spurious_imagenet.features.store import ROW_SCHEMA, Reject
from spurious_imagenet.models.inference import BatchOutput, ImageRunner, softmax, top_k
from spurious_imagenet.shards import LocalShard, SampleEntry, ShardIndex

_TOP = 5


@dataclass(frozen=True)
class ScoredShard:
    """The content of one part.

    Attributes:
        features: (n, D) float16.
        rows: n rows of :data:`~spurious_imagenet.features.store.ROW_SCHEMA`.
        rejects: Everything else in the shard.
        turned: How many of the scored images have an orientation tag that turns them elsewhere.
        label_problems: Images among them whose label cannot be used, and why.
    """

    features: NDArray[np.float16]
    rows: pa.Table
    rejects: tuple[Reject, ...]
    turned: int
    label_problems: tuple[Reject, ...] = ()


def score_shard(
    shard: LocalShard,
    index: ShardIndex,
    runner: ImageRunner,
    labels: Sequence[ReadLabel],
    feature_dim: int,
    count: Callable[[int, int], None],
) -> ScoredShard:
    """Score a shard's samples in the order of the tar.

    Args:
        shard: The shard, on this machine.
        index: Its samples.
        runner: The model.
        labels: What each of its samples is labelled as; other classes than the model's keep their class id.
        feature_dim: D.
        count: Called with the images and rejects of every batch.
    """
    rejects = [Reject(key=key, reason=reason) for key, reason in index.rejects]
    count(0, len(rejects))
    features: list[NDArray[np.float16]] = []
    turned = 0
    columns: dict[str, list[object]] = {name: [] for name in ROW_SCHEMA.names}
    descriptor = os.open(shard.path, os.O_RDONLY)
    try:
        reads = (partial(os.pread, descriptor, s.size, s.offset) for s in index.samples)
        for output in runner.run(reads):
            kept = _add_batch(output, index.samples, features, rejects)
            _add_rows(columns, output, kept, index.samples)
            turned += output.turned
            count(len(kept), len(output.sha256) + len(output.rejects) - len(kept))
    finally:
        os.close(descriptor)
    problems = _add_labels(columns, index.samples, labels)
    stacked = np.concatenate(features) if features else np.zeros((0, feature_dim), np.float16)
    return ScoredShard(stacked, pa.table(columns, schema=ROW_SCHEMA), tuple(rejects), turned, problems)


def _add_batch(
    output: BatchOutput, samples: tuple[SampleEntry, ...], features: list[NDArray[np.float16]], rejects: list[Reject]
) -> NDArray[np.int64]:
    """Keep the batch's finite features; return which of its images are kept."""
    rejects.extend(Reject(key=samples[i].key, reason=reason) for i, reason in output.rejects)
    with np.errstate(over="ignore"):
        half = output.features.astype(np.float16)
    finite = np.isfinite(half).all(axis=1) & np.isfinite(output.logits).all(axis=1)
    for i in output.index[~finite]:
        rejects.append(Reject(key=samples[i].key, reason="the model's features are not finite in float16"))
    if finite.any():
        features.append(half[finite])
    return np.flatnonzero(finite)


def _add_rows(
    columns: dict[str, list[object]],
    output: BatchOutput,
    kept: NDArray[np.int64],
    samples: tuple[SampleEntry, ...],
) -> None:
    if not len(kept):
        return
    top_index, top_probability = top5(output.logits[kept])
    for row, i in enumerate(kept):
        sample = samples[output.index[i]]
        columns["key"].append(sample.key)
        columns["member"].append(sample.member)
        columns["offset"].append(sample.offset)
        columns["size"].append(sample.size)
        columns["meta_offset"].append(sample.meta_offset)
        columns["meta_size"].append(sample.meta_size)
        columns["sha256"].append(output.sha256[i])
        columns["width"].append(int(output.sizes[i, 0]))
        columns["height"].append(int(output.sizes[i, 1]))
        columns["top5_index"].append(top_index[row])
        columns["top5_probability"].append(top_probability[row])


def top5(logits: NDArray[np.float32]) -> tuple[list[list[int]], list[list[float]]]:
    """Return each image's five likeliest classes and their probabilities; -1 and 0 where the model has fewer.

    Args:
        logits: (N, K); K is 0 for a bare encoder.
    """
    count, width = len(logits), min(_TOP, logits.shape[1])
    index, probability = np.full((count, _TOP), -1, np.int64), np.zeros((count, _TOP))
    if count and width:
        likely = softmax(logits)
        index[:, :width] = top_k(likely, _TOP)
        probability[:, :width] = np.take_along_axis(likely, index[:, :width], axis=1)
    return index.tolist(), probability.tolist()


def _add_labels(
    columns: dict[str, list[object]], samples: tuple[SampleEntry, ...], labels: Sequence[ReadLabel]
) -> tuple[Reject, ...]:
    """Add the labels of the images that were scored; return what is wrong with them."""
    read = {sample.key: label for sample, label in zip(samples, labels, strict=True)}
    problems = []
    for key in map(str, columns["key"]):
        columns["class_id"].append(read[key].class_id)
        columns["label"].append(read[key].label)
        if (problem := read[key].problem) is not None:
            problems.append(Reject(key=key, reason=problem))
    return tuple(problems)
