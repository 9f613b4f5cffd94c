"""Every item gets its labelers, nobody gets more than their share, and orders differ."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from review_helpers import image_items

from spurious_imagenet.builders.review._assignment import assign, order
from spurious_imagenet.builders.review.items import ReviewItem
from spurious_imagenet.errors import ConfigError


def _with_gold(items: list[ReviewItem], every: int) -> list[ReviewItem]:
    gold = {"cue": "yes", "object": "no"}
    return [
        ReviewItem(
            i.item_id, i.kind, i.media, i.class_id, i.class_name, batch=i.batch, gold=None if n % every else gold
        )
        for n, i in enumerate(items)
    ]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 80),
    labelers=st.integers(1, 7),
    per_item=st.integers(1, 7),
    seed=st.integers(0, 5),
    every=st.integers(2, 9),
)
def test_shares_are_even_over_all_items_and_over_gold_alone(
    count: int, labelers: int, per_item: int, seed: int, every: int
) -> None:
    names = [f"l{i}" for i in range(labelers)]
    items = _with_gold(image_items(count), every)
    if per_item > labelers:
        with pytest.raises(ConfigError, match="per_item"):
            assign(items, names, per_item, seed)
        return
    given_to = assign(items, names, per_item, seed)
    assert list(given_to) == [i.item_id for i in items]
    assert all(len(set(who)) == per_item for who in given_to.values())
    for chosen in (items, [i for i in items if i.gold is not None]):
        load = Counter(name for i in chosen for name in given_to[i.item_id])
        loads = [load[name] for name in names]
        assert max(loads) - min(loads) <= 1
    assert given_to == assign(items, names, per_item, seed)


@pytest.mark.parametrize("labelers", [3, 4, 5, 6])
def test_everybody_shares_items_with_everybody(labelers: int) -> None:
    names = [f"l{i}" for i in range(labelers)]
    pairs = Counter(assign(image_items(300), names, 2, seed=1).values())
    expected = 300 / len(list(combinations(names, 2)))
    assert set(pairs) == set(combinations(names, 2))
    assert max(abs(n - expected) for n in pairs.values()) <= 0.2 * expected


def test_orders_differ_and_batches_stay_together() -> None:
    items = image_items(60)
    orders = {(name, seed): order(items, name, seed) for name in ("ann", "ben") for seed in (0, 1)}
    batch = {i.item_id: i.batch for i in items}
    for ids in orders.values():
        assert sorted(ids) == sorted(batch)
        runs = [batch[a] for n, a in enumerate(ids) if n == 0 or batch[ids[n - 1]] != batch[a]]
        assert len(runs) == len(set(runs))
    batches = [tuple(dict.fromkeys(batch[i] for i in ids)) for ids in orders.values()]
    assert len(set(batches)) == 4
    within = [tuple(i for i in ids if batch[i] == items[0].batch) for ids in orders.values()]
    assert len(set(within)) > 1
