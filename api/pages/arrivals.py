"""Arrivals on the pages: sources that are silent or send too much, against what is expected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.states import Shape, State, Tone
from monitor.monitors import Monitor
from monitor.silence.standing import (
    SilenceStanding,
    Watching,
    describe_alarm,
    silence_standing,
)
from monitor.silence.words import source_name
from monitor.tables import SilenceAlarmRow
from registry.canonical import Json

SILENT = State(word="Silent", shape=Shape.DIAMOND, tone=Tone.ALERT)
SURPLUS = State(word="Too many", shape=Shape.TRIANGLE, tone=Tone.WARN)
UNSTATED = State(word="Not told apart", shape=Shape.TRIANGLE, tone=Tone.WARN)
SENDING = State(word="Sending", shape=Shape.CIRCLE, tone=Tone.GOOD)
NEW = State(word="New", shape=Shape.RING, tone=Tone.BUSY)
GONE = State(word="Gone", shape=Shape.RING, tone=Tone.QUIET)

_KINDS = {"missing": SILENT, "surplus": SURPLUS, "unstated": UNSTATED}
_CLOSED_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmText:
    """One alarm in words."""

    id: int
    state: State
    says: str
    #: what is beside it, and the p-value with what it is held against
    why: str
    checks: tuple[str, ...]
    ended: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """One source in the table."""

    name: str
    level: int
    state: State
    last_scan: str
    received: int
    expected: str
    noticed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRow:
    """One day of the table behind a chart."""

    day: str
    received: int
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyChart:
    """One source's scans by hour over the last week, and by day in a table."""

    id: str
    name: str
    chart: dict[str, Json]
    rows: tuple[HourRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalsPanel:
    """Everything on a monitor's arrivals."""

    watching: str
    #: one line under the heading
    line: str
    alarms: tuple[AlarmText, ...]
    charts: tuple[HourlyChart, ...]
    sources: tuple[SourceRow, ...]
    #: whether today is listed as a holiday, and which days are next; "" where none is
    holidays: str
    notes: tuple[str, ...]
    closed: tuple[AlarmText, ...]


def arrivals_panel(session: Session, monitor: Monitor, *, now: datetime) -> ArrivalsPanel:
    """Return what a monitor's page shows of its arrivals."""
    standing = silence_standing(session, monitor, now=now)
    # The source in trouble first, since that is what the page was opened for.
    hours = standing.document.get("hours", [])
    return ArrivalsPanel(
        watching=standing.watching.value,
        line=_line(standing, now),
        alarms=tuple(_alarm(row) for row in standing.open),
        charts=tuple(
            _chart(counts, number, standing)
            for number, counts in enumerate([*hours[1:], *hours[:1]])
        ),
        sources=tuple(_sources(standing)),
        holidays=wording.sentence(standing.holiday_line),
        notes=tuple(standing.notes),
        closed=tuple(_alarm(row) for row in standing.closed[:_CLOSED_SHOWN]),
    )


def silence_mark(session: Session, monitor: Monitor, *, now: datetime) -> str | None:
    """Return what a list says of a monitor's silence, or None where nothing is the matter."""
    standing = silence_standing(session, monitor, now=now)
    if not standing.open:
        return None
    first = standing.open[0]
    words = {"missing": "silent", "surplus": "too many scans", "unstated": "not told apart"}
    text = f"{words[first.kind]}: {source_name(first.subgroup)}"
    more = len(standing.open) - 1
    return f"{text}, and {more} more" if more else text


def _line(standing: SilenceStanding, now: datetime) -> str:
    match standing.watching:
        case Watching.OFF:
            return "Not watched: the monitor's file says so."
        case Watching.NOT_LOOKED_YET:
            return "Nobody looked yet; looks are made while a worker runs."
        case Watching.LEARNING:
            return (
                f"Learning what is ordinary: {standing.document['learnt_days']} of "
                f"{standing.document['needed_days']} days."
            )
        case Watching.WATCHING:
            alarms = wording.counted(standing.opened_last_quarter, "alarm")
            seen = (
                "never" if standing.looked_at is None else wording.ago(standing.looked_at, now)
            )
            return (
                f"{alarms} in the last quarter, of which {standing.budget:g} may be false. "
                f"Looked {seen}."
            )


def _alarm(row: SilenceAlarmRow) -> AlarmText:
    alarm = describe_alarm(row)
    ended = None
    if row.closed_at is not None:
        ended = f"{wording.minute(row.closed_at)}: {row.closed_reason}"
    return AlarmText(
        id=row.id,
        state=_KINDS[row.kind],
        says=wording.sentence(alarm["says"]),
        why=(
            f"p {wording.p_value(row.p_value)}, alarm at {wording.p_value(row.alpha)}; "
            f"{alarm['beside_it']}"
        ),
        checks=tuple(wording.sentence(check) for check in alarm["check_first"]),
        ended=ended,
    )


def _sources(standing: SilenceStanding) -> list[SourceRow]:
    states = {row.subgroup: _KINDS[row.kind] for row in standing.open}
    found = [
        SourceRow(
            name=wording.sentence(source_name(source["subgroup"])),
            level=source["level"],
            state=states.get(source["subgroup"], SILENT if source["silent"] else SENDING),
            last_scan=_minute(source["last_scan_at"]),
            received=source["received"],
            expected=f"{source['expected']:.0f}",
            noticed_by=_noticed_by(source),
        )
        for source in standing.sources
    ]
    for key, state in (("new", NEW), ("gone", GONE)):
        found += [
            SourceRow(
                name=source_name(source["subgroup"]),
                level=1,
                state=state,
                last_scan=_minute(source["at"]),
                received=source["received"],
                expected="–",
                noticed_by="–",
            )
            for source in standing.document.get(key, [])
        ]
    return found


def _noticed_by(source: dict[str, Any]) -> str:
    if source["silent"]:
        return "–"
    return _minute(source["noticed_by"]) if source["noticed_by"] else "in over ten days"


def _minute(moment: str) -> str:
    return wording.minute(datetime.fromisoformat(moment))


def _chart(counts: dict[str, Any], number: int, standing: SilenceStanding) -> HourlyChart:
    start = datetime.fromisoformat(counts["start"])
    spans: list[Json] = [
        {"from": row.since.isoformat(), "kind": row.kind}
        for row in standing.open
        if counts["subgroup"] in {row.subgroup, ""}
    ]
    by_day: dict[str, list[float]] = {}
    pairs = zip(counts["received"], counts["expected"], strict=True)
    for hour, (received, expected) in enumerate(pairs):
        day = wording.day(start + timedelta(hours=hour))
        sums = by_day.setdefault(day, [0.0, 0.0])
        sums[0] += received
        sums[1] += expected
    return HourlyChart(
        id=f"arrivals-data-{number}",
        name=wording.sentence(source_name(counts["subgroup"])),
        chart={
            "start": counts["start"],
            "received": counts["received"],
            "expected": counts["expected"],
            "alarms": spans,
            "alarming": any(row.subgroup == counts["subgroup"] for row in standing.open),
        },
        rows=tuple(
            HourRow(day=day, received=int(sums[0]), expected=f"{sums[1]:.1f}")
            for day, sums in by_day.items()
        ),
    )
