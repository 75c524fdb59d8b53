"""Following an Orthanc: every instance that its feed of changes names, once.

The position in the feed is kept after whatever it covers is durable, so a
follower that dies reads some of it again, and what comes again is known.

A feed can turn out to be another one: the server was set up anew, or somebody
cleared it (`DELETE /changes`), and with it what was not read yet. Sequence
numbers alone do not show it; changes that were read before do, where they
still stand at their number (deleting an instance deletes its changes). Where
none of them does, the feed is not trusted to name everything: all instances
of the server are gone through once, as at the very beginning.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from monitor.assembling.stability import StableGroup
from monitor.intake.limits import DEFAULT_LIMITS
from monitor.scans import ScanIntake
from monitor.sources.orthanc_server import (
    Change,
    Gone,
    OrthancServer,
    Page,
    TooLarge,
    Unavailable,
)
from monitor.sources.progress import Hold, RoadOutcome, Step
from monitor.sources.settings import OrthancSource
from monitor.sources.taking import Group, counted, too_large
from registry import crash_points
from registry.canonical import Json
from registry.errors import SourceError

#: What the server would not hand over is asked for again so often.
_OWED_AGAIN_SECONDS = 300.0
#: More of it than this, and the server is ill.
_MOST_OWED = 1000
#: Series and studies that are asked about when the end of the feed is reached.
_MOST_STABLE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A change that was read, by which the feed is known again."""

    sequence: int
    resource: str
    date: str

    @classmethod
    def of(cls, change: Change) -> Self:
        return cls(sequence=change.sequence, resource=change.resource, date=change.date)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """From where an Orthanc is read on."""

    #: of the last change that was dealt with
    sequence: int
    #: newest first, about one for each doubling of their age
    marks: tuple[Mark, ...] = ()
    #: while all instances are gone through: the identifier of the last one, "" at the beginning
    swept_to: str | None = None
    #: that the server has and did not hand over
    owed: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def read(cls, document: dict[str, Json]) -> Self | None:
        """Read what `to_json` wrote; None at the very beginning."""
        if not document:
            return None
        marks: object = document["marks"]
        owed: object = document["owed"]
        sequence, swept_to = document["sequence"], document["swept_to"]
        assert isinstance(marks, list) and isinstance(owed, list)  # noqa: S101, PT018
        assert isinstance(sequence, int)  # noqa: S101
        return cls(
            sequence=sequence,
            marks=tuple(
                Mark(sequence=number, resource=one, date=date) for number, one, date in marks
            ),
            swept_to=None if swept_to is None else str(swept_to),
            owed=frozenset(owed),
        )

    def to_json(self) -> dict[str, Json]:
        """Return it as it is stored."""
        return {
            "sequence": self.sequence,
            "marks": [[mark.sequence, mark.resource, mark.date] for mark in self.marks],
            "swept_to": self.swept_to,
            "owed": [*sorted(self.owed)],
        }

    def after(self, change: Change) -> Position:
        """Return the position when a change was dealt with."""
        newest = Mark.of(change)
        kept: dict[int, Mark] = {}
        for mark in self.marks:
            # The oldest of each doubling, so that it grows into the next.
            kept[(newest.sequence - mark.sequence).bit_length()] = mark
        return replace(self, sequence=newest.sequence, marks=(newest, *kept.values()))


class OrthancRoad:
    """Reads one Orthanc; to be closed."""

    def __init__(self, source: OrthancSource, intake: ScanIntake, *, hold: Hold) -> None:
        self._source = source
        self._intake = intake
        self._hold = hold
        self._server = OrthancServer(source)
        self._limit = DEFAULT_LIMITS.file_bytes
        self._owed_next = 0.0
        #: what the feed said is complete, by resource; asked about when its end is reached
        self._stable: dict[str, Change] = {}

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def look(self, position: dict[str, Json]) -> Iterator[Step]:
        """Yield what the server has that was not read, each step when it is durable.

        Raises
        ------
        SourceError
            If the server cannot be reached or refuses; what was yielded stays.
        """
        at = Position.read(position)
        if at is None:
            at = self._beginning(frozenset())
            yield Step(position=at.to_json())
        elif at.swept_to is None and not self._is_same_feed(at):
            at = self._beginning(at.owed)
            yield Step(position=at.to_json(), began_anew=True)
        at = yield from self._sweep(at)
        at = yield from self._ask_again(at)
        yield from self._follow(at)

    def _beginning(self, owed: frozenset[str]) -> Position:
        """Return the position before all instances are gone through.

        Changes after it are followed when that is done: what comes meanwhile may be met twice.
        """
        newest = self._server.last_change()
        return Position(
            sequence=newest.last,
            marks=tuple(Mark.of(change) for change in newest.changes[-1:]),
            swept_to="",
            owed=owed,
        )

    def _is_same_feed(self, at: Position) -> bool:
        page = self._server.changes(since=max(at.sequence - 1, 0), limit=1)
        if not page.changes:
            if page.last in {at.sequence, at.sequence - 1}:
                return True  # nothing was recorded since
        elif page.changes[0].sequence == at.sequence:
            return Mark.of(page.changes[0]) in at.marks
        elif page.changes[0].sequence == at.sequence + 1:
            return True  # nothing is missing in between
        for mark in at.marks:
            found = self._server.changes(since=max(mark.sequence - 1, 0), limit=1).changes
            if found and found[0].sequence == mark.sequence:
                return Mark.of(found[0]) == mark
        return False

    def _sweep(self, at: Position) -> Generator[Step, None, Position]:
        """Go through all instances of the server, if that is not done."""
        if at.swept_to is None:
            return at
        ids = [one for one in self._server.instances() if one > at.swept_to]
        for done, counts, owed in self._taken(ids):
            at = replace(at, swept_to=ids[done - 1], owed=self._owing(at, owed))
            yield Step(
                position=at.to_json(),
                counts=counts,
                backlog=len(ids) - done + len(at.owed),
            )
        at = replace(at, swept_to=None)
        yield Step(position=at.to_json(), backlog=len(at.owed))
        return at

    def _ask_again(self, at: Position) -> Generator[Step, None, Position]:
        """Ask for what the server has and did not hand over, now and then."""
        if not at.owed or time.monotonic() < self._owed_next:
            return at
        self._owed_next = time.monotonic() + _OWED_AGAIN_SECONDS
        ids = sorted(at.owed)
        before = 0
        for done, counts, owed in self._taken(ids):
            at = replace(at, owed=at.owed - set(ids[before:done]) | owed)
            before = done
            yield Step(position=at.to_json(), counts=counts, backlog=len(at.owed))
        return at

    def _follow(self, at: Position) -> Iterator[Step]:
        """Read the feed to its end."""
        done = False
        while not done:
            page = self._server.changes(since=at.sequence)
            self._require_order(page, at)
            done = page.done or not page.changes
            ahead = 0
            if not done:
                newest = self._server.last_change().last
                ahead = max(0, newest - page.changes[-1].sequence)
            at = yield from self._read(page.changes, at, ahead)
            self._note_stable(page.changes)
        yield Step(position=at.to_json(), backlog=len(at.owed), stable=self._complete(at))

    def _note_stable(self, changes: Sequence[Change]) -> None:
        for change in changes:
            # Without an end in sight, they settle by silence.
            if change.is_stable and len(self._stable) < _MOST_STABLE:
                self._stable[change.resource] = change

    def _complete(self, at: Position) -> list[StableGroup]:
        """Return the series and studies that are complete: at the feed's end, all of it is here."""
        changes, self._stable = list(self._stable.values()), {}
        if not changes or at.owed or not self._hold.series_are_read():
            return []
        found = []
        for change in changes:
            uids = self._server.stable_uids(change)
            if uids is None:
                continue
            study, series = self._intake.group_pseudonyms(*uids, site=self._source.site)
            found.append(
                StableGroup(
                    site=self._source.site, study=study, series=series if uids[1] else ""
                )
            )
        return found

    def _read(
        self, changes: Sequence[Change], at: Position, ahead: int
    ) -> Generator[Step, None, Position]:
        """Take the instances of a page; `ahead` is how many changes stand behind it."""
        places = [place for place, change in enumerate(changes) if change.is_instance]
        for done, counts, owed in self._taken([changes[place].resource for place in places]):
            # Up to the next instance, the other changes are dealt with, too.
            end = places[done] if done < len(places) else len(changes)
            at = replace(at.after(changes[end - 1]), owed=self._owing(at, owed))
            left = changes[end:]
            yield Step(
                position=at.to_json(),
                counts=counts,
                backlog=len(left) + ahead + len(at.owed),
                oldest_unread_at=(left or changes)[0 if left else -1].at
                if left or ahead
                else None,
            )
        return at.after(changes[-1]) if changes and not places else at

    def _taken(
        self, ids: Sequence[str]
    ) -> Iterator[tuple[int, Counter[RoadOutcome], frozenset[str]]]:
        """Fetch and take instances in groups.

        Yields, once a group is durable, how many of `ids` are dealt with, what became of
        those of the group, and which of them the server did not hand over.
        """
        group = Group(self._intake, took=self._hold.took, fence=self._hold.require)
        counts: Counter[RoadOutcome] = Counter()
        owed: set[str] = set()
        for number, one in enumerate(ids, start=1):
            fetched = self._server.file(one, limit=self._limit)
            crash_points.reach("source: fetched")
            match fetched:
                case Gone():
                    counts[RoadOutcome.GONE] += 1
                case Unavailable():
                    owed.add(one)
                case TooLarge():
                    group.add(too_large(self._source.site, limit=self._limit), 0)
                case content:
                    arrival = self._intake.prepare(content, site=self._source.site)
                    group.add(arrival, len(content))
            if group.full or number == len(ids):
                counts += counted(group.take())
                yield number, counts, frozenset(owed)
                counts, owed = Counter(), set()

    def _owing(self, at: Position, more: frozenset[str]) -> frozenset[str]:
        owed = at.owed | more
        if len(owed) > _MOST_OWED:
            raise SourceError(
                f"source {self._source.name} at {self._source.url} does not hand over "
                f"{len(owed)} instances that it has: look at its storage"
            )
        return owed

    def _require_order(self, page: Page, at: Position) -> None:
        before = at.sequence
        for change in page.changes:
            if change.sequence <= before:
                raise SourceError(
                    f"source {self._source.name} at {self._source.url} lists changes out of "
                    "order: is it an Orthanc?"
                )
            before = change.sequence
