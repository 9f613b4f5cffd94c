"""Annotations published by others, as verdicts on concepts and as datasets of our form."""

from spurious_imagenet.builders.imports._salient_imagenet import read_salient_imagenet
from spurious_imagenet.builders.imports._sfe_alphas import read_sfe_alphas
from spurious_imagenet.builders.imports._sfe_components import read_sfe_components
from spurious_imagenet.builders.imports._spurious_images import ImagesConfig, ImportedImages, import_spurious_images

__all__ = [
    "ImagesConfig",
    "ImportedImages",
    "import_spurious_images",
    "read_salient_imagenet",
    "read_sfe_alphas",
    "read_sfe_components",
]
