"""Configuration of the ranking stage."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from spurious_imagenet.concepts.verdict import VerdictValue
from spurious_imagenet.features.label_problems import MAX_LABEL_PROBLEMS
from spurious_imagenet.records import Record

#: What ``datasets`` takes for the name of a split.
_SPLIT = re.compile(r"\w+(\.\w+)*")
_ENDS = 10


class RankConfig(Record):
    """Which images to rank by which concepts."""

    bank: str
    """Concept bank, with verdicts where people have judged it."""
    features: dict[str, tuple[str, ...]]
    """Split -> feature stores of its labelled images, by the bank's model."""
    verdict: VerdictValue | None = None
    """Rank by the concepts with this verdict. None: ``spurious``, or all concepts of a bank without verdicts."""
    concepts: tuple[str, ...] = ()
    """Rank by these concept ids only, whatever their verdict."""
    controls: bool = False
    """Also rank the classes without a concept, by the concepts of all the others."""
    k: PositiveInt | None = None
    """Images in each ranked split of a class; 10 (SR section 4.2) where there is no ``share`` either."""
    share: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Images in each ranked split, as a share of the class's."""
    name: str = "Spuriosity rankings"
    """Title of the dataset's card."""
    embed: tuple[str, ...] = ()
    """Folder or shards whose pixels to put into the dataset."""
    image_license: str | None = None
    """The licence under which the pixels may be passed on."""
    allow_pipe: bool = False
    max_label_problems: Annotated[float, Field(ge=0, le=1)] = MAX_LABEL_PROBLEMS
    """Largest share of a split's images whose label may be of no use."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.features:
            raise ValueError("no features are given: expected a feature store, `--features SPLIT=DIR`")
        odd = next((s for s in self.features if not _SPLIT.fullmatch(s)), None)
        if odd is not None:
            raise ValueError(f"split name {odd!r}: expected letters, digits, _ and single dots")
        if self.concepts and self.verdict is not None:
            raise ValueError("concepts are named and a verdict is given: expected one of both")
        if self.k is not None and self.share is not None:
            raise ValueError(f"k is {self.k} and share is {self.share}: expected one of both")
        if self.embed and not (self.image_license or "").strip():
            raise ValueError(
                "images may be embedded only under a licence that allows passing them on: expected its text, "
                "`--image-license TEXT`"
            )
        if self.image_license is not None and not self.embed:
            raise ValueError("an image licence is given, but no images are embedded: expected `--embed` too")
        return self

    def ends(self, images: int) -> int:
        """Return how many images each ranked split of a class with so many images has."""
        return int(self.share * images + 1e-9) if self.share is not None else self.k or _ENDS
