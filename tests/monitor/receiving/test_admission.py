from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from monitor.receiving.admission import Admission, PendingBytes
from monitor.receiving.counters import Counted, Counters
from monitor.receiving.settings import ReceiverLimits


class Connection:
    def __init__(self, address: str = "10.0.0.1", *, idle_seconds: float | None = 60) -> None:
        self.address = address
        self.idle_since = None if idle_seconds is None else time.monotonic() - idle_seconds
        self.closed = False

    def close_now(self) -> None:
        self.closed = True


@pytest.fixture
def counters(tmp_path: Path) -> Counters:
    return Counters.create(tmp_path / "counters", processes=1)


def admission(counters: Counters, **limits: int) -> Admission:
    return Admission(ReceiverLimits(**limits), counters.row(0))


def test_the_connection_that_waited_longest_gives_way(counters: Counters) -> None:
    door = admission(counters, connections=16)
    waiting = [Connection() for _ in range(17)]
    for one in waiting:
        door.connected(one)
    assert [one.closed for one in waiting] == [True] + [False] * 16


def test_the_association_that_is_idle_longest_gives_way(counters: Counters) -> None:
    door = admission(counters, associations=3)
    members = [Connection(str(n), idle_seconds=seconds) for n, seconds in enumerate((6, 90, 7))]
    for one in members:
        assert door.associate(one)
    assert door.associate(Connection("new"))
    assert [one.closed for one in members] == [False, True, False]
    assert counters.totals().counts[Counted.OPEN_ASSOCIATIONS] == 3


@pytest.mark.parametrize("idle_seconds", [None, 0.5])
def test_nobody_gives_way_in_the_middle_of_sending(
    counters: Counters, idle_seconds: float | None
) -> None:
    door = admission(counters, associations=2)
    members = [Connection(str(n), idle_seconds=idle_seconds) for n in range(2)]
    for one in members:
        assert door.associate(one)
    assert not door.associate(Connection("new"))
    assert not any(one.closed for one in members)


def test_one_address_cannot_take_the_places_of_others(counters: Counters) -> None:
    door = admission(counters, associations=10, associations_per_address=2)
    greedy = [Connection("greedy", idle_seconds=None) for _ in range(3)]
    assert [door.associate(one) for one in greedy] == [True, True, False]
    assert door.associate(Connection("other"))
    door.left(greedy[0])
    assert door.associate(greedy[2])


def test_the_instance_that_began_first_never_waits_and_the_others_follow(
    counters: Counters,
) -> None:
    async def run() -> list[str]:
        pending = PendingBytes(100, counters.row(0))
        done: list[str] = []
        first, second = object(), object()
        await pending.take(first, 80)

        async def take_second() -> None:
            await pending.take(second, 50)
            done.append("second")

        waiting = asyncio.create_task(take_second())
        await asyncio.sleep(0.01)
        await pending.take(first, 80)
        done.append("first")
        await asyncio.sleep(0.01)
        await pending.give_back(first)
        await waiting
        await pending.give_back(second)
        return done

    assert asyncio.run(run()) == ["first", "second"]
    assert counters.totals().counts[Counted.PENDING_BYTES] == 0


def test_whoever_waits_and_is_cut_off_leaves_nothing_behind(counters: Counters) -> None:
    async def run() -> None:
        pending = PendingBytes(100, counters.row(0))
        first, second, third = object(), object(), object()
        await pending.take(first, 100)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pending.take(second, 1)
        await pending.give_back(second)
        await pending.give_back(first)
        await pending.take(third, 100)
        await pending.give_back(third)

    asyncio.run(run())
    assert counters.totals().counts[Counted.PENDING_BYTES] == 0
