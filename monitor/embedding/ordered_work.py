"""Work done by threads a bounded number of items ahead, and handed over in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in the order of the items.

    Threads work while the caller does something else with what it was given:
    `ahead` items are under way or done, and an item more is taken from `items`
    for each result that the caller takes, by the caller's own thread. So
    memory is bounded, and no thread waits as long as the caller comes back in
    time.

    Parameters
    ----------
    threads : how many items are worked on at once
    ahead : how many are under way or done, at least `threads`

    Raises
    ------
    Exception
        What `work` raised, in the item's turn; what had not begun is not begun
        then, nor when the iterator is closed.
    """
    if not 1 <= threads <= ahead:
        raise ValueError(f"need 1 <= threads <= ahead, got {threads} and {ahead}")
    remaining = iter(items)
    under_way: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            while len(under_way) < ahead:
                try:
                    item = next(remaining)
                except StopIteration:
                    break
                under_way.append(pool.submit(work, item))
            if not under_way:
                return
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
