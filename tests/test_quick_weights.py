"""The two small networks that ``make quick`` uses: in the repository, small, and what they are said to be."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spurious_imagenet.models import load_classifier
from spurious_imagenet.planted import WorldConfig
from spurious_imagenet.planted._data import planted_label_space
from spurious_imagenet.planted._plan import ImagePlan
from spurious_imagenet.planted._shapes import SHAPES
from spurious_imagenet.planted._world import render

EXAMPLES = Path(__file__).parents[1] / "examples"
WEIGHTS = sorted((EXAMPLES / "quick").glob("*.safetensors"))


def test_they_are_small() -> None:
    assert [file.stem for file in WEIGHTS] == ["efficientnet", "robust"]
    assert sum(file.stat().st_size for file in WEIGHTS) < 1_000_000


@pytest.mark.parametrize("file", WEIGHTS, ids=lambda f: f.stem)
def test_they_load_by_spec_and_know_objects_that_they_never_saw(file: Path) -> None:
    classifier = load_classifier(f"file:{file}")
    assert classifier.labels == planted_label_space()
    config = WorldConfig.small(seed=77)
    plans = [ImagePlan("val", i, "", name, None) for i, name in enumerate([*SHAPES] * 4)]
    pixels = np.stack([np.asarray(render(plan, config)[0]) for plan in plans])
    _, logits = classifier.predict(pixels)
    right = logits.argmax(axis=1) == np.tile(np.arange(len(SHAPES)), 4)
    assert right.mean() > 0.5  # of 12; about 0.9 of such images are classified rightly


def test_halving_keeps_what_the_file_says_and_rounds_the_weights_alone(tmp_path: Path) -> None:
    halve = runpy.run_path(str(EXAMPLES / "quick_weights.py"))["halve"]
    halve(WEIGHTS[0], tmp_path / "again.safetensors")
    first, again = load_file(WEIGHTS[0]), load_file(tmp_path / "again.safetensors")
    assert {t.dtype for t in first.values()} == {torch.float16, torch.int64}
    assert all(torch.equal(t, again[name]) for name, t in first.items())
    assert load_classifier(f"file:{tmp_path / 'again.safetensors'}").labels == planted_label_space()
