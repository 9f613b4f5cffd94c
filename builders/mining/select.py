"""Choosing among a concept's candidates: agreement of models, then near-duplicates, then the best ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import pandas as pd

__all__ = ["Status", "choose"]


class Status(str, Enum):
    """What became of a candidate."""

    KEPT = "kept"
    RESERVE = "reserve"
    """Passed, but the concept has enough."""
    TOO_FEW_VOTES = "too-few-votes"
    NEAR_DUPLICATE = "near-duplicate"
    """Looks like a candidate of the same concept with a higher α that passed."""


@dataclass
class _Passed:
    hashes: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def duplicate_of(self, value: int, bits: int) -> str | None:
        if not self.hashes:
            return None
        distance = np.bitwise_count(np.array(self.hashes, np.uint64) ^ np.uint64(value))
        nearest = int(distance.argmin())
        return self.keys[nearest] if distance[nearest] <= bits else None


def choose(candidates: pd.DataFrame, *, min_agree: int, keep: int, near_duplicate_bits: int) -> pd.DataFrame:
    """Decide on one concept's candidates, from the highest α down.

    Args:
        candidates: Rows with ``rank``, ``key``, ``votes`` and ``phash`` (16 hexadecimal digits).
        min_agree: Votes that an image needs.
        keep: How many to keep.
        near_duplicate_bits: Largest Hamming distance of near-duplicates.

    Returns:
        The candidates by rank, with ``status`` (:class:`Status`) and ``duplicate_of`` (a key, or None).
    """
    ordered = candidates.sort_values("rank", kind="stable").reset_index(drop=True)
    passed, statuses, originals = _Passed(), [], []
    for key, votes, phash in zip(ordered["key"], ordered["votes"], ordered["phash"], strict=True):
        original = None
        if votes < min_agree:
            status = Status.TOO_FEW_VOTES
        elif (original := passed.duplicate_of(int(phash, 16), near_duplicate_bits)) is not None:
            status = Status.NEAR_DUPLICATE
        else:
            status = Status.KEPT if len(passed.keys) < keep else Status.RESERVE
            passed.hashes.append(int(phash, 16))
            passed.keys.append(key)
        statuses.append(status.value)
        originals.append(original)
    return ordered.assign(status=statuses, duplicate_of=pd.Series(originals, dtype=object))
