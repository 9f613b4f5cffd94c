"""The planted world: images whose spurious features are known, models that learn them, and a check of what is found."""

from spurious_imagenet.planted._world import write_world
from spurious_imagenet.planted.config import LABEL_SPACE, PlantedPair, WorldConfig, class_id_of
from spurious_imagenet.planted.truth import PlantedTruth, TruePair

__all__ = ["LABEL_SPACE", "PlantedPair", "PlantedTruth", "TruePair", "WorldConfig", "class_id_of", "write_world"]
