"""A head that is tuned on some of a model's classes is not praised for having learnt which they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spurious_imagenet.benchmark.mitigation._tuning_data import ClassEnds
from spurious_imagenet.benchmark.mitigation._tuning_fit import StoppingSet, correct_by, tune_head
from spurious_imagenet.benchmark.mitigation.tuning_record import TuningConfig
from spurious_imagenet.models.head import LinearHead

CLASSES, DIM = 40, 24
CPU = torch.device("cpu")


@pytest.mark.parametrize("present", [(0, 1, 2), (5, 17, 38), tuple(range(0, CLASSES, 4))])
def test_other_classes_neither_win_nor_are_unlearnt(present: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(present))
    head = LinearHead(rng.standard_normal((CLASSES, DIM)).astype(np.float32), np.zeros(CLASSES, np.float32))
    label = np.repeat(np.array(present, np.int64), 30)
    features = (0.35 * head.weight[label] + rng.standard_normal((len(label), DIM))).astype(np.float16)
    among = np.array(present, np.int64)
    ends = tuple(ClassEnds(k, np.flatnonzero(label == k)[:5], np.flatnonzero(label == k)[5:10]) for k in present)
    config = TuningConfig(max_steps=60, stop_gap=-0.99, recipe="published")

    def tuned(only: np.ndarray | None) -> LinearHead:
        stopping = StoppingSet(features, label, ends, only)
        return tune_head(head, features, label, stopping, config, rate=0.01, seed=0, device=CPU).head

    whole = correct_by(head, features, label, CPU).mean()
    before = correct_by(head, features, label, CPU, among).mean()
    assert before == (head.logits(features)[:, among].argmax(axis=1) == np.searchsorted(among, label)).mean()
    assert whole < before  # what a comparison with all classes would have counted as a gain
    fair, unfair = tuned(among), tuned(None)
    others = np.setdiff1d(np.arange(CLASSES), among)
    np.testing.assert_array_equal(fair.weight[others], head.weight[others])
    assert np.abs(unfair.weight[others] - head.weight[others]).max() > 0.05
    every = np.arange(CLASSES, dtype=np.int64)
    np.testing.assert_array_equal(correct_by(head, features, label, CPU, every), correct_by(head, features, label, CPU))
