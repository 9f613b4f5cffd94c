"""Neural PCA components against the top neural features of the same model (SFE section 6)."""

from spurious_imagenet.builders.contrast._record import ContrastRecord
from spurious_imagenet.builders.contrast.contrast import ContrastConfig, contrast
from spurious_imagenet.builders.contrast.report import write_contrast

__all__ = ["ContrastConfig", "ContrastRecord", "contrast", "write_contrast"]
