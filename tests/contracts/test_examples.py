"""What docstrings of the front door, of the metrics and of the types say that they do, they do."""

from __future__ import annotations

import doctest
import sys
from typing import Any

import pytest

import spurious_imagenet
from spurious_imagenet.benchmark import metrics
from spurious_imagenet.benchmark.metrics import gaps

NO_EXAMPLE = {"PairedDifference", "bootstrap_ap", "bootstrap_auc", "bootstrap_counts", "bootstrap_mean", "class_rng"}
NO_EXAMPLE |= {"mean_over_classes", "AccuracyBin", "Gap", "RobustnessLine"}

SHOWN: dict[str, Any] = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (spurious_imagenet, metrics, gaps)
    for name in module.__all__
    if name not in NO_EXAMPLE
}


@pytest.mark.parametrize("name", SHOWN)
def test_its_example_runs(name: str) -> None:
    shown = SHOWN[name]
    module = sys.modules[shown.__module__]
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(shown, shown.__name__, module=module, globs=dict(vars(module)))
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=said.append)
    assert not said, "".join(said)
