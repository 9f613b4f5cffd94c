"""What the card says of the people whose verdicts chose the concepts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from spurious_imagenet.builders.review.agreement import cohen_kappa, krippendorff_alpha
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
    labelers = sorted({vote["labeler"] for of_concept in votes for vote in of_concept})
    return f"{said}, by {len(labelers)} labelers; {_agreement(votes, labelers)}."


def _agreement(votes: list[Any], labelers: list[str]) -> str:
    answers = [{vote["labeler"]: vote["answer"] for vote in of_concept} for of_concept in votes]
    measure = "Cohen's κ" if len(labelers) == 2 else "Krippendorff's α"
    try:
        if len(labelers) == 2:
            both = [a for a in answers if len(a) == 2]
            value = cohen_kappa(*([str(a[labeler]) for a in both] for labeler in labelers))
        else:
            value = krippendorff_alpha([[str(v) for v in a.values()] for a in answers])
    except UndefinedMetricError as error:
        return f"{measure} is {error}"
    return f"{measure} {value:.3f} on the {len(votes)} concepts whose votes are known"
