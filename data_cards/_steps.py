"""What was counted while a dataset was made, in words."""

from __future__ import annotations

from collections.abc import Mapping

#: What the manifest's counts are called, in the order in which an image passes them.
STEPS = {
    "pool_images": "images in the pool",
    "candidates": "candidates (the images of highest α of each component)",
    "too_few_votes": "left out, taken for the class by too few models",
    "near_duplicates": "left out, looks like a candidate of the same concept with a higher α",
    "reserve": "left out, the concept had enough images already",
    "kept": "kept after votes and near-duplicates",
    "judged": "judged by people",
    "disagreed": "judged differently by two people",
    "adjudicated": "of these, decided by a further person",
    "accepted": "accepted",
    "repeated": "left out, the same image stands with another concept of its class",
    "left_out_images": "left out, the concept had too few images",
    "retired": "retracted since an earlier version",
    "images": "images in this version",
}
#: Counts that cards say elsewhere.
_ELSEWHERE = {"concepts", "classes", "labelers", "per_item", "left_out_concepts", "turned"}


def in_words(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the counts in words, in the order of the process; those without words of their own come last."""
    known = [(words, counts[key]) for key, words in STEPS.items() if key in counts]
    others = [(k.replace("_", " "), n) for k, n in counts.items() if k not in STEPS and k not in _ELSEWHERE]
    return known + others
