"""Who is let in: how many connections, associations and bytes there may be at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from monitor.receiving.counters import Counted, CounterRow
from monitor.receiving.settings import ReceiverLimits

#: An association that has sent nothing for so long gives way to one that wants in.
_GIVES_WAY_AFTER_SECONDS = 5.0


class Member(Protocol):
    """A connection, as admission sees it."""

    address: str

    @property
    def idle_since(self) -> float | None:
        """When it fell idle, by the monotonic clock; None while a message is on its way."""

    def close_now(self) -> None:
        """Abort, and close the connection."""


class Admission:
    """Counts what is open, and decides what else may be."""

    def __init__(self, limits: ReceiverLimits, counters: CounterRow) -> None:
        self._limits = limits
        self._counters = counters
        self._waiting: dict[Member, None] = {}  # in the order of their coming
        self._associated: dict[Member, None] = {}
        self._by_address: Counter[str] = Counter()

    def connected(self, member: Member) -> None:
        """Let a connection wait for its request; the one that waited longest gives way."""
        if len(self._waiting) >= self._limits.connections:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.close_now()
        self._waiting[member] = None

    def associate(self, member: Member) -> bool:
        """Say whether a connection may become an association now.

        Where there are too many, the one that has been idle longest gives way.
        """
        self._waiting.pop(member, None)
        full = len(self._associated) >= self._limits.associations
        full_for_address = (
            self._by_address[member.address] >= self._limits.associations_per_address
        )
        if full_for_address:
            if not self._make_room(lambda one: one.address == member.address):
                return False
        elif full and not self._make_room(lambda _: True):
            return False
        self._associated[member] = None
        self._by_address[member.address] += 1
        self._counters.add(Counted.OPEN_ASSOCIATIONS)
        return True

    def left(self, member: Member) -> None:
        """Forget a connection."""
        self._waiting.pop(member, None)
        if member in self._associated:
            del self._associated[member]
            self._by_address[member.address] -= 1
            if not self._by_address[member.address]:
                del self._by_address[member.address]
            self._counters.add(Counted.OPEN_ASSOCIATIONS, -1)

    def close_all(self) -> None:
        """Abort every connection that is not in the middle of a message."""
        for member in [*self._waiting, *self._associated]:
            if member.idle_since is not None:
                member.close_now()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._waiting) + len(self._associated)

    def _make_room(self, may_give_way: Callable[[Member], bool]) -> bool:
        latest = time.monotonic() - _GIVES_WAY_AFTER_SECONDS
        idle = [
            (since, one)
            for one in self._associated
            if may_give_way(one) and (since := one.idle_since) is not None and since <= latest
        ]
        if not idle:
            return False
        _, longest = min(idle, key=lambda pair: pair[0])
        self.left(longest)
        longest.close_now()
        return True


class PendingBytes:
    """The bytes of instances that are on their way, bounded over all associations.

    Whoever would go beyond waits, unread, so that its sender waits too; the
    instance that began first never does, and so one always gets done.
    """

    def __init__(self, limit: int, counters: CounterRow) -> None:
        self._limit = limit
        self._counters = counters
        self._held: dict[object, int] = {}  # in the order of their beginning
        self._changed = asyncio.Condition()
        self._total = 0

    async def take(self, holder: object, number: int) -> None:
        """Hold some more bytes for an instance, as soon as there is room."""
        self._held.setdefault(holder, 0)
        if self._total + number > self._limit and next(iter(self._held)) is not holder:
            async with self._changed:
                await self._changed.wait_for(
                    lambda: (
                        self._total + number <= self._limit or next(iter(self._held)) is holder
                    )
                )
        self._held[holder] += number
        self._total += number
        self._counters.add(Counted.PENDING_BYTES, number)

    async def give_back(self, holder: object) -> None:
        """Give back whatever an instance holds."""
        number = self._held.pop(holder, None)
        if number is None:
            return
        self._total -= number
        self._counters.add(Counted.PENDING_BYTES, -number)
        async with self._changed:
            self._changed.notify_all()
