"""Candidates, rankings, verdicts → Hugging Face dataset folders, checked, and compared with one another."""

from spurious_imagenet.builders.publish._annotations import publish_annotations
from spurious_imagenet.builders.publish._check import check_dataset
from spurious_imagenet.builders.publish._config import AnnotationsConfig, PublishConfig, RankingsConfig
from spurious_imagenet.builders.publish._diff import DatasetDiff, diff_datasets
from spurious_imagenet.builders.publish._rankings import publish_rankings
from spurious_imagenet.builders.publish.publish import PublishResult, publish

__all__ = [
    "AnnotationsConfig",
    "DatasetDiff",
    "PublishConfig",
    "PublishResult",
    "RankingsConfig",
    "check_dataset",
    "diff_datasets",
    "publish",
    "publish_annotations",
    "publish_rankings",
]
