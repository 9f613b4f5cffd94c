"""Components: the directions in which a class's training images differ, as a concept bank."""

from spurious_imagenet.builders.components._build import ComponentsConfig, build_bank
from spurious_imagenet.builders.components._neurons import NeuronsConfig, build_neuron_bank
from spurious_imagenet.builders.components._npca import ClassNpca, class_npca, npca_concepts

__all__ = [
    "ClassNpca",
    "ComponentsConfig",
    "NeuronsConfig",
    "build_bank",
    "build_neuron_bank",
    "class_npca",
    "npca_concepts",
]
