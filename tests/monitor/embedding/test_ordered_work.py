from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from monitor.embedding.ordered_work import in_order


def test_results_come_in_the_order_of_the_items_whoever_finishes_first() -> None:
    second_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_done.wait(timeout=60)
        else:
            second_done.set()
        return 10 * item

    assert list(in_order(work, range(9), threads=2, ahead=2)) == list(range(0, 90, 10))


def test_no_more_is_taken_than_lies_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    results = in_order(lambda item: item, items(), threads=2, ahead=5)
    assert taken == []
    for received in range(10):
        assert next(results) == received
        assert len(taken) == received + 5
    results.close()  # type: ignore[attr-defined]


def test_the_others_go_on_while_the_caller_is_busy() -> None:
    began = [threading.Event() for _ in range(4)]

    def work(item: int) -> int:
        began[item].set()
        return item

    results = in_order(work, range(4), threads=1, ahead=4)
    assert next(results) == 0
    assert all(event.wait(timeout=60) for event in began)
    assert list(results) == [1, 2, 3]


def test_an_error_comes_in_its_turn_and_ends_the_work() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            raise RuntimeError("two")
        return item

    results = in_order(work, range(100), threads=1, ahead=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match="two"):
        next(results)
    assert len(begun) <= 5
    assert list(results) == []


def test_an_iterator_that_fails_is_not_hidden() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    results = in_order(lambda item: item, items(), threads=1, ahead=1)
    assert next(results) == 1
    with pytest.raises(ValueError, match="no more"):
        next(results)


@pytest.mark.parametrize(("threads", "ahead"), [(0, 1), (2, 1)])
def test_impossible_numbers_are_refused(threads: int, ahead: int) -> None:
    with pytest.raises(ValueError, match="threads <= ahead"):
        next(in_order(str, [1], threads=threads, ahead=ahead))


def test_nothing_to_do_is_no_result() -> None:
    assert list(in_order(str, [], threads=1, ahead=1)) == []
