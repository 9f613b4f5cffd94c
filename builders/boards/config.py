"""Configuration of the boards stage."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveInt

from spurious_imagenet.records import Record

__all__ = ["BoardsConfig"]


class BoardsConfig(Record):
    """Which concepts get a board, and from what."""

    bank: str
    """Concept bank."""
    features: str
    """Feature store of the labelled training images, by the bank's model."""
    npfv: str | None = None
    """Folder that ``spurious npfv`` wrote; its chosen components are the ones shown."""
    model: str | None = None
    """Model spec, where the model is no longer where the bank says."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Ids of the classes to do; if left out, all of the bank (all that have NPFVs, where ``npfv`` is given)."""
    components: PositiveInt = 10
    """Concepts a class and kind, in the order of their rank."""
    concepts: tuple[str, ...] = ()
    """Draw these concept ids only, in place of ``components``."""
    attack_steps: NonNegativeInt = 20
    """Steps of the feature attacks that boards of neural features show (SR section 3), at the NPFVs' budget; 0: none.
    They cost a forward and backward pass an image and step."""
    device: str = "auto"
    workers: PositiveInt | None = None
    """Threads that draw; the number of CPUs where left out."""
    shards: tuple[str, ...] = ()
    """Where the training images' shards are now, if they are not where the store says."""
    allow_pipe: bool = False
    """Allow ``pipe:`` addresses, which run a shell command."""
