"""Candidates → a Hugging Face dataset folder."""

from spurious_imagenet.builders.publish.config import PublishConfig
from spurious_imagenet.builders.publish.publish import PublishResult, publish

__all__ = ["PublishConfig", "PublishResult", "publish"]
