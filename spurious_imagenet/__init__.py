"""Find, measure and mend the spurious features of any image classifier.

The names here are imported when first used, so that ``import spurious_imagenet`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from spurious_imagenet.benchmark.evaluation.evaluate import evaluate
    from spurious_imagenet.benchmark.evaluation.record import EvalRecord
    from spurious_imagenet.benchmark.mitigation.spufix_module import spufix
    from spurious_imagenet.builders.rankings.join import join_images
    from spurious_imagenet.concepts import ConceptBank
    from spurious_imagenet.features.store import FeatureStore
    from spurious_imagenet.images import Preprocess
    from spurious_imagenet.models import Classifier, LabelSpace, load_classifier

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
    "Classifier": "models",
    "ConceptBank": "concepts",
    "EvalRecord": "benchmark.evaluation.record",
    "FeatureStore": "features.store",
    "LabelSpace": "models",
    "Preprocess": "images",
    "evaluate": "benchmark.evaluation.evaluate",
    "join_images": "builders.rankings.join",
    "load_classifier": "models",
    "spufix": "benchmark.mitigation.spufix_module",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("spurious-imagenet")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
