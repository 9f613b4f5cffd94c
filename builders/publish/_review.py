"""What a review says of the candidates that are to be published."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spurious_imagenet.builders.publish._tables import public_date
from spurious_imagenet.builders.review.agreement import cohen_kappa, krippendorff_alpha
from spurious_imagenet.builders.review.collect import ReviewedInfo, read_reviewed
from spurious_imagenet.builders.review.consensus import State
from spurious_imagenet.errors import ConfigError, DataError, UndefinedMetricError

_KEYS = ["concept_id", "sha256"]


@dataclass(frozen=True)
class ReviewSummary:
    """How a dataset's candidates were reviewed: what its card says.

    Attributes:
        labelers: How many people judged.
        per_item: Labelers an image.
        judged: Candidates that all their labelers judged.
        accepted: Those of them that were accepted.
        disagreed: Those on which the labelers differed at first.
        adjudicated: Those of them that a further person decided.
        agreement: The measure of agreement and its value, or why it is undefined.
    """

    labelers: int
    per_item: int
    judged: int
    accepted: int
    disagreed: int
    adjudicated: int
    agreement: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


def keep_accepted(kept: pd.DataFrame, path: str | Path) -> tuple[pd.DataFrame, ReviewSummary, tuple[str, ...]]:
    """Return the candidates that two labelers accepted, with their verdicts, and how all of them were judged.

    Args:
        kept: Kept candidates.
        path: Written by ``spurious review collect``.

    Returns:
        The accepted rows, with the column ``verdicts`` (labelers under pseudonyms), a summary, and the labelers in the
        order of their pseudonyms.

    Raises:
        ConfigError: Fewer than two labelers judged each image.
        DataError: The review is of other candidates.
        StoreError: The file cannot be read.
    """
    reviewed, info = read_reviewed(path)
    if info.per_item < 2:
        raise ConfigError(f"in {path} one labeler judged each image: two are needed to publish it.")
    here = reviewed.merge(kept[_KEYS], on=_KEYS)
    if here.empty:
        raise DataError(f"{path} reviews none of these candidates: expected a review made from them.")
    names = pseudonyms(info.labelers)
    verdicts = [_public(v, a, names) for v, a in zip(here["verdicts"], here["adjudication"], strict=True)]
    here = here.assign(verdicts=pd.Series(verdicts, index=here.index))
    accepted = here.loc[here["accepted"], [*_KEYS, "verdicts"]]
    return kept.merge(accepted, on=_KEYS, validate="one_to_one"), _summary(here, info), info.labelers


def pseudonyms(labelers: Iterable[str]) -> dict[str, str]:
    """Return what the labelers are called where everybody can read it."""
    return {name: f"labeler {i}" for i, name in enumerate(dict.fromkeys(labelers), start=1)}


def _public(verdicts: Any, adjudication: Any, names: dict[str, str]) -> list[dict[str, str | None]]:
    rows = [(names[v["labeler"]], v) for v in verdicts]
    if adjudication is not None:
        rows.append(("adjudicator", adjudication))
    return [{"labeler": who, "outcome": v["outcome"], "date": public_date(v["time"])} for who, v in rows]


def _summary(here: pd.DataFrame, info: ReviewedInfo) -> ReviewSummary:
    judged = here[here["state"] != State.OPEN.value]
    disagreed = judged["state"] != State.AGREED.value
    return ReviewSummary(
        labelers=len(info.labelers),
        per_item=info.per_item,
        judged=len(judged),
        accepted=int(judged["accepted"].sum()),
        disagreed=int(disagreed.sum()),
        adjudicated=int((judged["state"] == State.ADJUDICATED.value).sum()),
        agreement=_agreement(judged, len(info.labelers)),
    )


def _agreement(judged: pd.DataFrame, labelers: int) -> str:
    by_labeler = [
        {v["labeler"]: v["outcome"] for v in verdicts if v["labeler"] != "adjudicator"}
        for verdicts in judged["verdicts"]
    ]
    try:
        if labelers == 2:
            first, second = ([outcomes[f"labeler {i}"] for outcomes in by_labeler] for i in (1, 2))
            return f"Cohen's κ {cohen_kappa(first, second):.3f}"
        return f"Krippendorff's α {krippendorff_alpha([list(outcomes.values()) for outcomes in by_labeler]):.3f}"
    except UndefinedMetricError as error:
        return f"agreement beyond chance {error}"
