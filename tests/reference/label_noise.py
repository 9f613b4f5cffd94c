"""Naive second implementations of the search for wrong labels, from SR section 5 and appendix H."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def crop_box(maps: Sequence[Sequence[Sequence[float]]], threshold: float, margin: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom: mean of the maps, stretched to 0..1, thresholded, boxed, grown, made square."""
    height, width = len(maps[0]), len(maps[0][0])
    mean = [[sum(m[y][x] for m in maps) / len(maps) for x in range(width)] for y in range(height)]
    low, high = min(map(min, mean)), max(map(max, mean))
    hot = [(x, y) for y in range(height) for x in range(width) if (mean[y][x] - low) / (high - low) >= threshold]
    ends = []
    for axis, limit in ((0, width), (1, height)):
        start, end = min(p[axis] for p in hot), max(p[axis] for p in hot) + 1
        grow = margin * (end - start) / 2
        ends.append([max(0, math.floor(start - grow)), min(limit, math.ceil(end + grow)), limit])
    side = max(end - start for start, end, _ in ends)
    for span in ends:
        # One pixel at a time, after and before in turn, where there is room.
        turn = 0
        while span[1] - span[0] < min(side, span[2]):
            after = turn % 2 == 0
            if (after and span[1] < span[2]) or span[0] == 0:
                span[1] += 1
            else:
                span[0] -= 1
            turn += 1
    (left, right, _), (top, bottom, _) = ends
    return left, top, right, bottom


def flagged(
    images: Sequence[Mapping[str, object]],
    said: Sequence[Mapping[str, tuple[str, float, float]]],
    top_share: float,
    needed: int,
) -> list[tuple[str, str, int, float]]:
    """(hash, suggested class, models that agree, score) of flagged images, the most suspicious first.

    ``images`` have ``class_id``, ``sha256``, ``percentile``; ``said`` gives each image's (predicted class, its
    probability, that of the label) by model.
    """
    found = []
    for image, models in zip(images, said, strict=True):
        odds = {
            m: max(0.0, math.log(p) - math.log(label)) if c != image["class_id"] else 0.0
            for m, (c, p, label) in models.items()
        }
        others = {c for c, _, _ in models.values()} - {image["class_id"]}
        if not others or image["percentile"] <= 1 - top_share:
            continue
        strength = {
            c: (sum(s[0] == c for s in models.values()), sum(odds[m] for m, s in models.items() if s[0] == c))
            for c in others
        }
        best = sorted(others, key=lambda c: (-strength[c][0], -round(strength[c][1], 9), c))[0]
        if strength[best][0] >= needed:
            found.append((image["sha256"], best, strength[best][0], sum(odds.values()) / len(odds), image["class_id"]))
    found.sort(key=lambda f: (-round(f[3], 9), f[4], f[0]))
    return [f[:4] for f in found]
