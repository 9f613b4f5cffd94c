"""Entries whose predictions are the same: one model under two names, or predictions that were copied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from spurious_imagenet.errors import StoreError
from spurious_imagenet.leaderboard.entry import Entry
from spurious_imagenet.leaderboard.scoring.score import Score
from spurious_imagenet.leaderboard.submission.table import KEY

__all__ = ["alike", "alike_to"]

#: Probabilities that differ by no more say the same to three digits; different models never agree so on all images.
_ROUNDING = 1e-3
_MEASURES = ("spurious_ap", "spurious_auc", "validation_probability", "spurious_probability")

#: Returns what an entry predicts, one row each distinct image.
Read = Callable[[str], pd.DataFrame]


def alike(entries: Mapping[str, Entry], scores: Mapping[str, Score], read: Read) -> dict[str, list[str]]:
    """Find the entries of one protocol whose predictions are equal, to rounding, on every image.

    Predictions are read only where all means agree.

    Args:
        entries: Entry id -> entry.
        scores: Entry id -> score, of all of them.
        read: Reads an entry's predictions.

    Returns:
        Entry id -> ids of the others with its predictions; only of entries that have such.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for first, second in _suspects(entries, scores):
        if _equal(first, second, read):
            found[first].append(second)
            found[second].append(first)
    return dict(found)


def alike_to(entry_id: str, entries: Mapping[str, Entry], scores: Mapping[str, Score], read: Read) -> list[str]:
    """Find the entries whose predictions equal those of one; see :func:`alike`."""
    pairs = (pair for pair in _suspects(entries, scores) if entry_id in pair)
    return [first if second == entry_id else second for first, second in pairs if _equal(first, second, read)]


def _suspects(entries: Mapping[str, Entry], scores: Mapping[str, Score]) -> Iterable[tuple[str, str]]:
    """Yield pairs of one protocol whose means agree: a window over one mean keeps a large board from being squared."""
    ids = [i for i in entries if i in scores]
    order = sorted(ids, key=lambda i: (entries[i].info.protocol.value, scores[i].mean.validation_probability, i))
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            one, two = scores[first], scores[second]
            if (
                entries[first].info.protocol is not entries[second].info.protocol
                or two.mean.validation_probability - one.mean.validation_probability > _ROUNDING
            ):
                break
            pairs = [(getattr(one.mean, name), getattr(two.mean, name)) for name in _MEASURES]
            if all(abs(a - b) <= _ROUNDING for a, b in [*pairs, (one.accuracy, two.accuracy)]):
                yield first, second


def _equal(first: str, second: str, read: Read) -> bool:
    try:
        one, two = (read(entry_id).sort_values(KEY, ignore_index=True) for entry_id in (first, second))
    except StoreError:  # torn files are said elsewhere
        return False
    if len(one) != len(two) or not (one[KEY] == two[KEY]).all(axis=None):
        return False
    if not np.allclose(one["probability"], two["probability"], rtol=0, atol=_ROUNDING):
        return False
    return all(a[0] == b[0] for a, b in zip(one["top5_id"], two["top5_id"], strict=True))
