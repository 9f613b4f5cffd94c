"""Find, measure and mend the spurious features of any image classifier.

The names here are imported when first used, so that ``import spurious_imagenet`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spurious_imagenet.benchmark.concepts import ConceptBank
    from spurious_imagenet.benchmark.evaluation import evaluate
    from spurious_imagenet.benchmark.images import Preprocess
    from spurious_imagenet.benchmark.mitigation.spufix_module import spufix
    from spurious_imagenet.benchmark.models import Classifier, LabelSpace, load_classifier
    from spurious_imagenet.benchmark.record import EvalRecord
    from spurious_imagenet.benchmark.store import FeatureStore
    from spurious_imagenet.builders.join import join_images

__all__ = [
    "Classifier",
    "ConceptBank",
    "EvalRecord",
    "FeatureStore",
    "LabelSpace",
    "Preprocess",
    "evaluate",
    "join_images",
    "load_classifier",
    "spufix",
]

_HOME = {
    "Classifier": "benchmark.models",
    "ConceptBank": "benchmark.concepts",
    "EvalRecord": "benchmark.record",
    "FeatureStore": "benchmark.store",
    "LabelSpace": "benchmark.models",
    "Preprocess": "benchmark.images",
    "evaluate": "benchmark.evaluation",
    "join_images": "builders.join",
    "load_classifier": "benchmark.models",
    "spufix": "benchmark.mitigation.spufix_module",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
