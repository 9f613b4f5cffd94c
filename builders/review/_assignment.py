"""Who judges what, and in which order."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.errors import ConfigError


def assign(
    items: Sequence[ReviewItem], labelers: Sequence[str], per_item: int, seed: int
) -> dict[str, tuple[str, ...]]:
    """Give every item to exactly ``per_item`` labelers.

    The labelers' loads differ by at most 1, over all items and over the gold items alone, and each labeler meets all
    the others rather than one of them.

    Args:
        items: What is to be judged.
        labelers: Who judges.
        per_item: Labelers an item.
        seed: Another seed gives another assignment.

    Returns:
        item id → its labelers, in the order of ``labelers``.

    Raises:
        ConfigError: There are fewer labelers than an item needs.
    """
    if not 1 <= per_item <= len(labelers):
        raise ConfigError(f"per_item is {per_item}: expected 1 to {len(labelers)}, as there are so many labelers.")
    rng = random.Random(seed)  # noqa: S311 - nothing secret
    load: Counter[str] = Counter()
    together: Counter[frozenset[str]] = Counter()
    given = {}
    # Gold items first: whoever has fewer of all items after them gets the next, which keeps both loads balanced.
    for item in sorted(_shuffled(items, rng), key=lambda item: item.gold is None):
        chosen = _least_loaded(labelers, per_item, load, together, rng)
        load.update(chosen)
        together.update(frozenset(pair) for pair in combinations(chosen, 2))
        given[item.item_id] = tuple(name for name in labelers if name in chosen)
    return {item.item_id: given[item.item_id] for item in items}


def _shuffled(items: Sequence[ReviewItem], rng: random.Random) -> list[ReviewItem]:
    return rng.sample(items, len(items))


def _least_loaded(
    labelers: Sequence[str], count: int, load: Counter[str], together: Counter[frozenset[str]], rng: random.Random
) -> list[str]:
    """Choose the labelers with the least load; among equals those who have shared the fewest items."""
    chosen: list[str] = []
    left = list(labelers)
    while len(chosen) < count:
        best = min(left, key=lambda n: (load[n], sum(together[frozenset((n, c))] for c in chosen), rng.random()))
        chosen.append(best)
        left.remove(best)
    return chosen


def order(items: Iterable[ReviewItem], labeler: str, seed: int) -> list[str]:
    """Return the ids of a labeler's items in their own order: batches in turn, shuffled among and within themselves."""

    def place(text: str) -> bytes:
        return hashlib.sha256(f"{seed}/{labeler}/{text}".encode()).digest()

    own = list(items)
    batches = {item.batch: place(f"batch/{item.batch}") for item in own}
    return [i.item_id for i in sorted(own, key=lambda i: (batches[i.batch], place(f"item/{i.item_id}")))]
