"""Models as features and heads, loaded from a one-line spec."""

from spurious_imagenet.benchmark.models.backends import BACKENDS, Backend
from spurious_imagenet.benchmark.models.classifier import Classifier
from spurious_imagenet.benchmark.models.head import LinearHead
from spurious_imagenet.benchmark.models.labels import LabelSpace, imagenet_label_space, label_space_for
from spurious_imagenet.benchmark.models.load import SCHEMES, load_classifier, moved_spec

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
