"""What a silence alarm says, and what to check first, for whoever was woken by it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from monitor.silence.alarms import SilenceKind
from monitor.silence.holidays import ListedDay
from monitor.subgroups import Subgroup
from monitor.tables import SilenceAlarmRow
from registry.canonical import Json


def source_name(subgroup: str) -> str:
    """Return a source in words.

    >>> source_name("site=north & scanner_model=DRX 1"), source_name("")
    ('site north, scanner model DRX 1', 'all sources')
    """
    if not subgroup:
        return "all sources"
    return ", ".join(
        f"{attribute.value.replace('_', ' ')} {value}"
        for attribute, value in Subgroup.parse(subgroup).terms
    )


def sentence(row: SilenceAlarmRow) -> str:
    """Return what an alarm found, in one sentence."""
    # Alarms from before holidays could be listed say nothing of them.
    listed = [date.fromisoformat(day) for day in row.evidence.get("holidays", [])]
    parts = [_found(row)]
    if row.kind == SilenceKind.MISSING and row.evidence["appeared"]:
        names = [source_name(one) for one in row.evidence["appeared"]]
        parts.append(f"scans of {' and of '.join(names)} come since, which sent none before")
    return "; ".join([*parts, *([_holidays_among(listed)] if listed else [])])


def _found(row: SilenceAlarmRow) -> str:
    name, since, seen = source_name(row.subgroup), minute(row.since), minute(row.opened_at)
    if not row.subgroup and row.evidence["appeared"]:
        name = "all sources that are known"
    match SilenceKind(row.kind):
        case SilenceKind.SURPLUS:
            return (
                f"{name}: {row.received} scans from {since} to {seen} UTC, where "
                f"{counted(row.expected)} were expected"
            )
        case SilenceKind.UNSTATED:
            return (
                f"{name}: since {since} UTC scans come that no longer say which source they "
                "are from"
            )
        case SilenceKind.MISSING if row.received:
            return (
                f"{name}: only {row.received} studies from {since} to {seen} UTC, where "
                f"{counted(row.expected)} were expected"
            )
        case _:
            return (
                f"{name}: nothing since {since} UTC; {counted(row.expected)} studies were "
                f"expected by {seen}"
            )


def _holidays_among(listed: Sequence[date]) -> str:
    """Return which days of an alarm are listed.

    >>> _holidays_among([date(2026, 12, 25)])
    'Fri 25 Dec is listed as a holiday'
    >>> _holidays_among([date(2026, 12, 25), date(2026, 12, 26)])
    'Fri 25 Dec and Sat 26 Dec are listed as holidays'
    >>> _holidays_among([date(2026, 12, 24), date(2026, 12, 25), date(2026, 12, 26)])
    '3 days from Thu 24 Dec to Sat 26 Dec are listed as holidays'
    """
    first, last = day_name(listed[0]), day_name(listed[-1])
    if len(listed) == 1:
        return f"{first} is listed as a holiday"
    if len(listed) == 2:
        return f"{first} and {last} are listed as holidays"
    return f"{len(listed)} days from {first} to {last} are listed as holidays"


def coming_holidays(coming: Sequence[ListedDay], today: date) -> str:
    """Return whether today is listed as a holiday, and which days are next; "" where none is.

    >>> coming_holidays(
    ...     [(date(2026, 12, 25), None), (date(2026, 12, 26), ("north",))], date(2026, 12, 25)
    ... )
    'today is listed as a holiday; next Sat 26 Dec at north'
    """
    parts = []
    if coming and coming[0][0] == today:
        where = f" at {', '.join(coming[0][1])}" if coming[0][1] else ""
        parts.append(f"today is listed as a holiday{where}")
        coming = coming[1:]
    if coming:
        days = [
            day_name(day) + (f" at {', '.join(sites)}" if sites else "")
            for day, sites in coming
        ]
        parts.append(f"next{'' if parts else ' listed holidays:'} {', '.join(days)}")
    return "; ".join(parts)


def others_sentence(expected: float, received: float) -> str:
    """Return what the sources beside one sent meanwhile."""
    if expected < 1:
        return "there is nothing beside it to compare with"
    return f"what is beside it sent {received:.0f} of {counted(expected)} expected"


def first_checks(
    kind: SilenceKind,
    *,
    subgroup: str,
    leaves: int,
    others_expected: float,
    others_received: float,
    appeared: int,
    holiday: bool = False,
) -> list[Json]:
    """Return what to check first, the likeliest first.

    Parameters
    ----------
    leaves : sources that the alarm covers
    appeared : new sources at the same site since it began
    holiday : one of its days is listed as a holiday
    """
    if kind is SilenceKind.UNSTATED:
        return [
            "ask PACS whether a router or an anonymiser now strips the header that tells "
            "these sources apart",
            "until it is back, silence is watched for them together only",
        ]
    if kind is SilenceKind.SURPLUS:
        return [
            "ask PACS whether old studies are being resent or migrated, or a route was "
            "pointed here by mistake",
            "look at the newest scans with `driftward scan list`: are they of one source, "
            "and inside the intended use",
        ]
    if not subgroup and not appeared:
        return [
            "check that this installation still receives: `driftward doctor`, its disk and "
            "its network",
            "then the link and the router that all sites share",
        ]
    found: list[Json] = []
    if appeared:
        found.append(
            f"{appeared} new {'source' if appeared == 1 else 'sources'} at the same site began "
            "since: was it replaced or renamed"
        )
        if not subgroup:
            found.append("this installation still receives: what is new comes in")
    if leaves > 1:
        found += [
            f"all {leaves} sources there are silent: check their common router or line first",
            "then the rule in PACS that forwards from there",
        ]
    else:
        found += [
            f"check that the scanner is in use {'on this holiday' if holiday else 'today'}, and "
            "its DICOM send queue",
            "then the router between it and this installation",
        ]
    if others_expected >= 1 and others_received >= others_expected / 2:
        found.append("what is beside it still sends, so the common line and this side work")
    return found


def counted(expected: float) -> str:
    """Return an expected number as it reads.

    >>> counted(13.24), counted(0.4)
    ('13', '0.4')
    """
    return f"{expected:.0f}" if expected >= 10 else f"{expected:.1f}"


def minute(at: datetime) -> str:
    """Return a time with its day of the week.

    >>> minute(datetime(2026, 9, 22, 1, 10, tzinfo=UTC))
    'Tue 22 Sep 01:10'
    """
    at = at.astimezone(UTC)
    return f"{at:%a} {at.day} {at:%b %H:%M}"


def day_name(day: date) -> str:
    """Return a day with that of the week.

    >>> day_name(date(2026, 12, 25))
    'Fri 25 Dec'
    """
    return f"{day:%a} {day.day} {day:%b}"
