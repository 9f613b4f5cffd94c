"""Images sorted within their class by spuriosity (SR section 4.1)."""

from spurious_imagenet.builders.rankings._config import RankConfig
from spurious_imagenet.builders.rankings.rank import RankResult, rank

__all__ = ["RankConfig", "RankResult", "rank"]
