"""Components: the directions in which a class's training images differ, as a concept bank."""

from spurious_imagenet.builders.components.build import ComponentsConfig, build_bank
from spurious_imagenet.builders.components.npca import ClassNpca, class_npca, npca_concepts

__all__ = ["ClassNpca", "ComponentsConfig", "build_bank", "class_npca", "npca_concepts"]
