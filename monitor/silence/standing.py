"""How silence stands with a monitor: alarms and the newest look, for every way of reading them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from monitor.monitors import Monitor
from monitor.silence.alarms import SilenceState, all_alarms, newest_look, opened_lately
from monitor.silence.holidays import ListedDay
from monitor.silence.words import coming_holidays, others_sentence, sentence
from monitor.tables import SilenceAlarmRow

#: Closed alarms that are shown.
_SHOWN = 20
#: Listed holidays that are shown, from today on.
_HOLIDAYS_SHOWN = 5


class Watching(StrEnum):
    """Whether a monitor's arrivals are judged."""

    OFF = "off"
    NOT_LOOKED_YET = "not looked yet"
    LEARNING = "learning"
    WATCHING = "watching"


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceStanding:
    """Alarms and what the newest look saw."""

    watching: Watching
    looked_at: datetime | None
    open: tuple[SilenceAlarmRow, ...]
    #: newest first
    closed: tuple[SilenceAlarmRow, ...]
    #: alarms of the last quarter, and how many of a quarter's may be false on average
    opened_last_quarter: int
    budget: float | None
    #: sources, counts by hour, what is new or gone, notes
    document: dict[str, Any]
    #: the day at the sites, and the listed holidays from it on
    today: date
    holidays: tuple[ListedDay, ...]

    @property
    def holiday_line(self) -> str:
        """Whether today is listed as a holiday, and which days are next; "" where none is."""
        return coming_holidays(self.holidays, self.today)

    @property
    def sources(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.document.get("sources", [])
        return found

    @property
    def notes(self) -> list[str]:
        found: list[str] = self.document.get("notes", [])
        return found


def silence_standing(session: Session, monitor: Monitor, *, now: datetime) -> SilenceStanding:
    """Return how silence stands with a monitor."""
    settings = monitor.specification.silence
    look = newest_look(session, monitor.name)
    alarms = all_alarms(session, monitor.name)
    document = dict(look.document) if look is not None else {}
    today = now.astimezone(settings.zone if settings is not None else UTC).date()
    if settings is None:
        watching = Watching.OFF
    elif look is None or document["state"] == Watching.OFF:
        watching = Watching.NOT_LOOKED_YET
    else:
        watching = Watching(document["state"])
    return SilenceStanding(
        watching=watching,
        looked_at=look.looked_at if look is not None else None,
        open=tuple(row for row in reversed(alarms) if row.state == SilenceState.OPEN),
        closed=tuple(row for row in alarms if row.state == SilenceState.CLOSED)[:_SHOWN],
        opened_last_quarter=opened_lately(session, monitor.name, now=now),
        budget=settings.false_alarms_per_quarter if settings is not None else None,
        document=document,
        today=today,
        holidays=tuple(settings.calendar.coming(today, _HOLIDAYS_SHOWN)) if settings else (),
    )


def describe_alarm(row: SilenceAlarmRow) -> dict[str, Any]:
    """Return an alarm as JSON, with what it says in words."""
    evidence = row.evidence
    return {
        "alarm": row.id,
        "subgroup": row.subgroup,
        "kind": row.kind,
        "state": row.state,
        "says": sentence(row),
        "since": row.since,
        "opened_at": row.opened_at,
        "question": evidence["question"],
        "expected": row.expected,
        "received": row.received,
        "p_value": row.p_value,
        "alpha": row.alpha,
        "beside_it": others_sentence(evidence["others_expected"], evidence["others_received"]),
        "holidays": evidence.get("holidays", []),
        "appeared": evidence["appeared"],
        "check_first": evidence["checks"],
        "closed_at": row.closed_at,
        "closed_reason": row.closed_reason,
        "accepted": row.accepted,
    }
