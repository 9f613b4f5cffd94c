"""How much a model depends on the region that a concept is seen in (SR appendix B)."""

from spurious_imagenet.builders.sensitivity.masks import MaskFolder
from spurious_imagenet.builders.sensitivity.record import SensitivityRecord
from spurious_imagenet.builders.sensitivity.run import SensitivityConfig, SensitivityRun

__all__ = ["MaskFolder", "SensitivityConfig", "SensitivityRecord", "SensitivityRun"]
