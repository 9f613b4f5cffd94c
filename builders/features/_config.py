"""Configuration of the features stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.images import DecodeLimits
from spurious_imagenet.models.devices import Precision
from spurious_imagenet.records import Record


class FeaturesConfig(Record):
    """What to run over which shards, and how."""

    model: str
    """Model spec."""
    shards: tuple[str, ...] = ()
    """Paths, directories, globs, brace ranges or URLs of WebDataset tars; those of the reused stores where empty."""
    reuse: tuple[str, ...] = ()
    """Feature stores of the encoder that the model is a head on: the shards in them are not read again."""
    image_size: PositiveInt | None = None
    """Input side that overrides the model's own, px."""
    device: str = "auto"
    backend: str = "auto"
    precision: Precision = "float32"
    """Autocast precision of the torch backends; float16 halves the time on GPUs and changes features by about 1e-3."""
    batch_size: PositiveInt | None = None
    workers: PositiveInt | None = None
    """Decoding threads; the number of CPUs where left out."""
    limits: DecodeLimits = DecodeLimits()
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A run that rejects a larger share of all samples ends with an error (its parts stay)."""
    max_label_problems: Annotated[float, Field(ge=0, le=1)] = MAX_LABEL_PROBLEMS
    """A run in which a larger share of the images has a label that cannot be used ends with an error (its parts stay),
    and before the first pass where that is so of all labels of a shard. Classes that the model lacks are none."""
    salvage: bool = False
    """Score the readable samples of a damaged tar, instead of leaving the whole shard out."""
    allow_pipe: bool = False
    """Allow ``pipe:`` addresses, which run a shell command."""
    verify: bool = False
    """Hash finished shards again and compare them with their receipts."""
