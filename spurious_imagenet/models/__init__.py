"""Models as features and heads, loaded from a one-line spec.

The names here are imported when first used: label spaces and specs need no torch, which takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spurious_imagenet.models._backends import BACKENDS, Backend
    from spurious_imagenet.models.classifier import Classifier
    from spurious_imagenet.models.head import LinearHead
    from spurious_imagenet.models.labels import LabelSpace, imagenet_label_space, label_space_for
    from spurious_imagenet.models.load import SCHEMES, load_classifier, moved_spec

__all__ = [
    "BACKENDS",
    "SCHEMES",
    "Backend",
    "Classifier",
    "LabelSpace",
    "LinearHead",
    "imagenet_label_space",
    "label_space_for",
    "load_classifier",
    "moved_spec",
]

_HOME = {
    "BACKENDS": "_backends",
    "SCHEMES": "load",
    "Backend": "_backends",
    "Classifier": "classifier",
    "LabelSpace": "labels",
    "LinearHead": "head",
    "imagenet_label_space": "labels",
    "label_space_for": "labels",
    "load_classifier": "load",
    "moved_spec": "load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
