from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from spurious_imagenet.threads import ordered_map


def counted(n: int, taken: list[int]) -> Iterator[int]:
    for i in range(n):
        taken.append(i)
        yield i


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_results_come_in_order_whoever_is_done_first(threads: int) -> None:
    def work(i: int) -> int:
        time.sleep(0.002 * (i % 3 == 0))
        return i * i

    assert list(ordered_map(work, range(40), threads=threads)) == [i * i for i in range(40)]
    assert list(ordered_map(work, (), threads=threads)) == []


def test_items_are_taken_in_the_callers_thread_and_only_so_far_ahead() -> None:
    taken: list[int] = []
    names: set[str] = set()

    def work(i: int) -> int:
        names.add(threading.current_thread().name)
        return i

    results = ordered_map(work, counted(100, taken), threads=2, ahead=3, name="squares")
    assert taken == []
    for done in range(1, 20):
        next(results)
        assert len(taken) == 2 * 3 + done
    results.close()  # type: ignore[attr-defined]
    assert all(name.startswith("squares_") for name in names)


@pytest.mark.parametrize("error", [ValueError("bad image"), KeyboardInterrupt(), OSError(28, "disk full")])
def test_an_error_comes_in_its_place_and_drops_what_nobody_has_begun(error: BaseException) -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        if i == 5:
            raise error
        time.sleep(0.005)
        return i

    results = ordered_map(work, range(1000), threads=2, ahead=8)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(type(error)):
        next(results)
    assert len(begun) < 1000


def test_an_error_of_the_items_themselves_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("the list ends in a torn line")

    with pytest.raises(RuntimeError, match="torn line"):
        list(ordered_map(str, items(), threads=2))


def test_closing_early_ends_the_threads_and_drops_what_nobody_has_begun() -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        time.sleep(0.002)
        return i

    before = threading.active_count()
    results = ordered_map(work, range(1000), threads=2, ahead=50)
    assert [next(results), next(results)] == [0, 1]
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(begun) < 90
