"""Labels that may be wrong, and classes that collide (SR section 5 and appendix H)."""

from spurious_imagenet.builders.label_noise._config import FlagRule, LabelNoiseConfig
from spurious_imagenet.builders.label_noise._crop import Box, core_box, core_crop

__all__ = ["Box", "FlagRule", "LabelNoiseConfig", "core_box", "core_crop"]
