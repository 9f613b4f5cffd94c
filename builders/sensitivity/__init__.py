"""How much a model depends on the region that a concept is seen in (SR appendix B)."""

from spurious_imagenet.builders.sensitivity._masks import MaskFolder
from spurious_imagenet.builders.sensitivity._run import SensitivityConfig, SensitivityRun
from spurious_imagenet.builders.sensitivity.record import SensitivityRecord

__all__ = ["MaskFolder", "SensitivityConfig", "SensitivityRecord", "SensitivityRun"]
