from __future__ import annotations

import pandas as pd
import pytest

from spurious_imagenet.builders.mining.select import choose


def table(*rows: tuple[str, int, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["key", "rank", "votes", "phash"])


def chosen(rows: pd.DataFrame, **options: int) -> list[tuple[str, str, str | None]]:
    made = choose(rows, **({"min_agree": 1, "keep": 10, "near_duplicate_bits": 6} | options))
    return list(zip(made["key"], made["status"], made["duplicate_of"], strict=True))


FAR = [f"{0x5A5A_1234_9876_0000 ^ (0xFFFF_FFFF << (8 * i)) & (2**64 - 1):016x}" for i in range(4)]


def test_choosing_goes_by_rank_whatever_the_order_of_rows() -> None:
    rows = table(("c", 3, 2, FAR[2]), ("a", 1, 2, FAR[0]), ("b", 2, 2, FAR[1]))
    assert chosen(rows, keep=2) == [("a", "kept", None), ("b", "kept", None), ("c", "reserve", None)]


@pytest.mark.parametrize(("min_agree", "statuses"), [(1, "kkk"), (2, "tkk"), (3, "tkt"), (4, "ttt")])
def test_an_image_needs_its_votes(min_agree: int, statuses: str) -> None:
    rows = table(("a", 1, 1, FAR[0]), ("b", 2, 3, FAR[1]), ("c", 3, 2, FAR[2]))
    names = {"k": "kept", "t": "too-few-votes"}
    assert [s for _, s, _ in chosen(rows, min_agree=min_agree)] == [names[s] for s in statuses]


def test_near_duplicates_are_of_what_passed() -> None:
    bits = {n: f"{int(FAR[0], 16) ^ (2**n - 1):016x}" for n in (0, 3, 6, 7)}
    rows = table(("a", 1, 2, bits[0]), ("b", 2, 2, bits[6]), ("c", 3, 2, bits[7]))
    assert chosen(rows) == [("a", "kept", None), ("b", "near-duplicate", "a"), ("c", "kept", None)]
    # What has too few votes hides nothing, and a duplicate is named after the nearest that passed.
    rows = table(("a", 1, 1, bits[0]), ("b", 2, 2, bits[0]), ("c", 3, 2, bits[7]), ("d", 4, 2, bits[6]))
    expected = [("a", "too-few-votes", None), ("b", "kept", None), ("c", "kept", None), ("d", "near-duplicate", "c")]
    assert chosen(rows, min_agree=2) == expected
    # The reserve hides its duplicates too, or the review would meet them.
    rows = table(("a", 1, 1, FAR[0]), ("b", 2, 1, FAR[1]), ("c", 3, 1, FAR[1]))
    assert chosen(rows, keep=1) == [("a", "kept", None), ("b", "reserve", None), ("c", "near-duplicate", "b")]


@pytest.mark.parametrize(("bits", "status"), [(0, "kept"), (1, "near-duplicate"), (64, "near-duplicate")])
def test_the_distance_is_an_option(bits: int, status: str) -> None:
    rows = table(("a", 1, 1, "0" * 16), ("b", 2, 1, "8" + "0" * 15))
    assert chosen(rows, near_duplicate_bits=bits)[1][1] == status


def test_nothing_to_choose_from_gives_nothing() -> None:
    assert chosen(table()) == []
