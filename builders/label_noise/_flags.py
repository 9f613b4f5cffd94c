"""Images whose label may be wrong: full of their class's cue, and taken for another class (SR section 5)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from spurious_imagenet.builders.label_noise._config import FlagRule
from spurious_imagenet.builders.label_noise._votes import ModelVotes
from spurious_imagenet.errors import ConfigError

#: One row a flagged image, the most suspicious first. ``score`` is the mean over models of log p(predicted) - log
#: p(label), at least 0, higher is more suspicious; ``percentile`` that of spuriosity within the class, in (0, 1);
#: ``agree`` of ``models`` name the suggested class; ``class_gap`` is the class's mean spurious gap, null where it has
#: too few images.
FLAGGED_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("sha256", pa.string()),
        ("class_id", pa.string()),
        ("class_name", pa.string()),
        ("suggested_id", pa.string()),
        ("suggested_name", pa.string()),
        ("score", pa.float64()),
        ("percentile", pa.float64()),
        ("agree", pa.int32()),
        ("models", pa.int32()),
        ("class_gap", pa.float64()),
    ]
)


def suggestions(
    predicted: NDArray[np.object_], log_odds: NDArray[np.float64], labels: NDArray[np.object_]
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Find the other class that most models take each image for.

    Args:
        predicted: (n, m) class ids.
        log_odds: (n, m); of classes with as many votes the one with the greater sum is taken, then the lower id.
        labels: (n,) class ids.

    Returns:
        (n,) class ids, None where all models predict the label; and (n,) how many models name it.
    """
    other = np.empty(len(labels), dtype=object)
    agree = np.zeros(len(labels), dtype=np.int64)
    for row in np.flatnonzero((predicted != labels[:, None]).any(axis=1)):
        votes: dict[str, tuple[int, float]] = {}
        for class_id, odds in zip(predicted[row], log_odds[row], strict=True):
            count, total = votes.get(class_id, (0, 0.0))
            votes[class_id] = (count + 1, total + odds)
        votes.pop(labels[row], None)
        # Sums of the same numbers in another order of models may differ in the last place.
        other[row] = min(votes, key=lambda c: (-votes[c][0], -round(votes[c][1], 9), c))
        agree[row] = votes[other[row]][0]
    return other, agree


def flag_images(
    images: pd.DataFrame, votes: ModelVotes, rule: FlagRule, gaps: Mapping[str, float], names: Mapping[str, str]
) -> pd.DataFrame:
    """List the images whose label may be wrong.

    An image is flagged if it is in the upper ``rule.top_share`` of its class's spuriosity ranking and at least as many
    models as the rule asks for take it for the same other class.

    Args:
        images: n rows of rankings.
        votes: What the models say of them.
        rule: Which images are flagged.
        gaps: Class id -> mean spurious gap.
        names: Class id -> name of classes; a class without one keeps its id.

    Returns:
        Rows of :data:`FLAGGED_SCHEMA`, by falling score.

    Raises:
        ConfigError: The rule asks for more models than there are.
    """
    models = len(votes.models)
    if rule.votes_needed(models) > models:
        raise ConfigError(f"--agree {rule.votes_needed(models)} asks for more models than the {models} that are given.")
    other, agree = suggestions(votes.predicted, votes.log_odds, images["class_id"].to_numpy(dtype=object))
    high = images["percentile"].to_numpy(dtype=np.float64) > 1 - rule.top_share
    rows = np.flatnonzero(high & (agree >= rule.votes_needed(models)))
    found = images.iloc[rows][["name", "sha256", "class_id", "class_name", "percentile"]].assign(
        suggested_id=other[rows],
        suggested_name=[names.get(c, c) for c in other[rows]],
        score=votes.log_odds[rows].mean(axis=1),
        agree=agree[rows].astype(np.int32),
        models=np.int32(models),
        class_gap=[gaps.get(c, np.nan) for c in images["class_id"].iloc[rows]],
    )
    order = found.assign(falling=-found["score"].round(9)).sort_values(["falling", "class_id", "sha256", "name"]).index
    table: pd.DataFrame = found.loc[order, FLAGGED_SCHEMA.names].reset_index(drop=True)
    return table
