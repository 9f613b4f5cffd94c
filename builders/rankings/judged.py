"""What the card says of the people whose verdicts chose the concepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from spurious_imagenet.builders.review.agreement import cohen_kappa, krippendorff_alpha
from spurious_imagenet.concepts.verdict import role_of
from spurious_imagenet.errors import UndefinedMetricError

__all__ = ["who_judged"]


def who_judged(table: pd.DataFrame) -> str:
    """Say in a sentence how many people judged a bank's concepts, and how far they agreed beyond chance.

    Args:
        table: The bank's table, with ``verdict`` and, where single votes are known, ``votes``.
    """
    judged = table[table["verdict"].notna()]
    counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(judged["verdict"].value_counts().items()))
    said = f"{len(judged)} concepts of the bank carry a verdict ({counts})"
    votes = [v for v in judged.get("votes", ()) if v is not None and len(v)]
    if not votes:
        return f"{said}; the single votes are not known."
    answers = [{v["labeler"]: str(v["answer"]) for v in of_concept if not _settles(v)} for of_concept in votes]
    labelers = sorted({labeler for of_concept in answers for labeler in of_concept})
    settled = sum(any(map(_settles, of_concept)) for of_concept in votes)
    said += f", by {len(labelers)} labelers" + (f" and, for {settled} of them, an adjudicator" if settled else "")
    return f"{said}; {_agreement(answers, labelers)}."


def _settles(vote: Mapping[str, Any]) -> bool:
    """Tell whether a vote settled a disagreement: whoever saw the others' answers does not count to the agreement."""
    return bool(role_of(vote) == "adjudicator")


def _agreement(answers: Sequence[Mapping[str, str]], labelers: Sequence[str]) -> str:
    measure = "Cohen's κ" if len(labelers) == 2 else "Krippendorff's α"
    try:
        if len(labelers) == 2:
            both = [a for a in answers if len(a) == 2]
            value = cohen_kappa(*([a[labeler] for a in both] for labeler in labelers))
        else:
            value = krippendorff_alpha([list(a.values()) for a in answers])
    except UndefinedMetricError as error:
        return f"{measure} is {error}"
    return f"{measure} {value:.3f} on the {len(answers)} concepts whose votes are known"
