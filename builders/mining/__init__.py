"""Pool → candidates: the images that score highest on a concept and that several models take for its class."""

from spurious_imagenet.builders.mining._config import MineConfig
from spurious_imagenet.builders.mining.candidates import read_candidates
from spurious_imagenet.builders.mining.mine import MineResult, mine

__all__ = ["MineConfig", "MineResult", "mine", "read_candidates"]
