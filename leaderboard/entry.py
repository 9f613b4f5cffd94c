"""What is known of an entry: what its submitter says of it, when it came, and what was found out since."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spurious_imagenet.datasets.manifest import Sha256, VersionName
from spurious_imagenet.images import Protocol
from spurious_imagenet.records import Record

__all__ = ["Entry", "ShortText", "SubmissionInfo", "Verification"]

ShortText = Annotated[str, Field(min_length=1, max_length=200)]
"""One line that people read; :mod:`spurious_imagenet.leaderboard.submission` refuses what cannot be shown as such."""


class SubmissionInfo(Record, str_strip_whitespace=True):
    """The file ``submission.yaml``."""

    schema_version: Literal[1] = 1
    model: ShortText
    """What to call it on the board."""
    authors: Annotated[tuple[ShortText, ...], Field(min_length=1, max_length=50)]
    link: Annotated[str, Field(max_length=500, pattern=r"^https://[^\s]+$")] | None = None
    training_data: ShortText
    """Such as ``ImageNet-1k`` or ``LAION-2B``."""
    licence: ShortText
    """Of the weights."""
    spec: Annotated[str, Field(max_length=500)] | None = None
    """How anyone loads it, such as ``timm:resnet50.a1_in1k``; entries without one cannot be verified."""
    architecture: ShortText | None = None
    """timm's name of the architecture, such as ``resnet50``, where it has one."""
    weights_sha256: Sha256
    """Of the model's weights, as in evaluation records."""
    parameters: Annotated[int, Field(ge=0, le=10**13)] | None = None
    mitigation: ShortText | None = None
    """What was done to the model's logits, such as ``SpuFix``; entries of the same weights without it show the gain."""
    protocol: Protocol
    dataset_version: VersionName
    dataset_sha256: Sha256
    validation_sha256: Sha256
    code_version: ShortText | None = None
    notes: Annotated[str, Field(max_length=2000)] | None = None


class Entry(Record):
    """A submission that was accepted."""

    schema_version: Literal[1] = 1
    id: Sha256
    """Hash over its information and predictions: the same submission has the same id, whenever it comes."""
    info: SubmissionInfo
    content_sha256: Sha256 | None = None
    """Over the values of the predictions, whatever file they are in; None in entries of older code, whose id is made
    of ``predictions_sha256``."""
    predictions_sha256: Sha256
    """Of the stored predictions file."""
    received: str
    """ISO 8601, UTC."""


class Verification(Record):
    """What came out when some images of an entry were run again."""

    schema_version: Literal[1] = 1
    entry: Sha256
    time: str
    """ISO 8601, UTC."""
    images: int
    agreeing: int
    """Images whose probability of their class is within ``tolerance`` of the submitted one, and of which no class is
    more probable, by more than that, than the one that was submitted as the most probable."""
    largest_difference: float
    tolerance: float
    weights_sha256: Sha256
    """Of the weights that were run."""
    seed: int | None = None
    """Of the sample of images: drawn in secret once the entry was there, kept so that anyone may draw it again."""
    verified: bool
    reason: str | None = None
    """Why not, in one sentence."""
