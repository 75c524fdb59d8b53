"""Verdicts as they are stored: what windows before said, and which windows still wait."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import references
from monitor.monitors import WINDOWS_PER_BLOCK, Monitor, MonitorSpecification
from monitor.profiles import ReferenceProfile, Verdict
from monitor.tables import ReferenceRow, VerdictRow
from monitor.windows import Window, complete_windows
from registry.errors import NotFoundError

# Two windows of a subgroup above it have a p-value that no budget asks for: it counts as 1,
# so that a hundred subgroups take seconds.
_HARMLESS = 0.25


def persistence(
    session: Session,
    profile: ReferenceProfile,
    monitor: Monitor,
    window: Window,
    row: ReferenceRow,
    verdict: Verdict,
    *,
    subgroup: str = "",
) -> tuple[float, datetime]:
    """Return the p-value of two windows in a row, and when the run of them began.

    The rule is calibrated over a block of two windows and the one before it
    (DESIGN: budget a week). A window that was not judged stands in as 1, and
    so does the one that is still to come in mid-block: both only make the
    rule stricter.
    """
    length = monitor.specification.window_length
    earlier = 1 + _position(monitor, window) % WINDOWS_PER_BLOCK
    p_values: list[float] = []
    sizes: list[int] = []
    starts = [window.start - length * back for back in range(earlier, 0, -1)]
    for start in starts:
        before = session.scalars(
            select(VerdictRow).where(
                VerdictRow.reference == row.id,
                VerdictRow.start == start,
                VerdictRow.end == start + length,
                VerdictRow.subgroup == subgroup,
            )
        ).first()
        p_values.append(before.alarm_p_value if before else 1.0)
        sizes.append(before.patients if before else verdict.patients)
    p_values.append(verdict.alarm_p_value)
    sizes.append(verdict.patients)
    while len(p_values) <= WINDOWS_PER_BLOCK:
        p_values.append(1.0)
        sizes.append(verdict.patients)
    pairs = [max(pair) for pair in pairwise(p_values)]
    first = min(range(len(pairs)), key=lambda index: pairs[index])
    onset = (*starts, window.start)[first]
    if subgroup and pairs[first] > _HARMLESS:
        return 1.0, onset
    return profile.persistence_p_value(p_values, sizes), onset


def _position(monitor: Monitor, window: Window) -> int:
    """Return how many windows lie between the monitor's anchor and this one."""
    spec = monitor.specification
    return round((window.start - spec.anchor) / spec.window_length)


def unjudged_windows(session: Session, monitor: Monitor, *, until: datetime) -> list[Window]:
    """Return the windows that have ended and have no verdict of a deciding reference yet.

    Windows that ended before the reference was accepted are left out, and so are those before
    the last one of another length: the past was judged by the windows that it had.
    """
    rows = references.deciding(session, monitor.name)
    if not rows:
        return []
    spans = session.execute(
        select(VerdictRow.start, VerdictRow.end)
        .where(VerdictRow.reference.in_([row.id for row in rows]), VerdictRow.subgroup == "")
        .distinct()
    )
    judged = {Window(start=start, end=end) for start, end in spans}
    spec = monitor.specification
    others = [one.end for one in judged if one.end - one.start != spec.window_length]
    since = max([*(row.accepted_at for row in rows), *others])
    return [
        window
        for window in complete_windows(
            spec.anchor, spec.window_length, until=until, ended_after=since
        )
        if window not in judged
    ]


def is_judged(session: Session, monitor: str, window: Window) -> bool:
    """Return whether a window was judged, by a reference that decides now.

    It was if its verdict is stored, or if one of another length ended when it did or later: the
    past was judged by the windows that it had.
    """
    deciding = [row.id for row in references.deciding(session, monitor)]
    length = window.end - window.start
    ended = select(VerdictRow.start, VerdictRow.end).where(
        VerdictRow.reference.in_(deciding),
        VerdictRow.subgroup == "",
        VerdictRow.end >= window.end,
    )
    return any(
        end - start != length or (start, end) == (window.start, window.end)
        for start, end in session.execute(ended)
    )


def newest_window(specification: MonitorSpecification, *, until: datetime) -> Window:
    """Return the newest window that has ended by `until`.

    Raises
    ------
    NotFoundError
        If the first one has not.
    """
    spec = specification
    ended = (until - spec.anchor) // spec.window_length
    if ended < 1:
        raise NotFoundError(
            f"no window of {spec.name} has ended: the first begins "
            f"{spec.anchor:%Y-%m-%d %H:%M} UTC and lasts {spec.window_hours:g} hours; name "
            "another span with --since and --until"
        )
    start = spec.anchor + (ended - 1) * spec.window_length
    return Window(start=start, end=start + spec.window_length)


def is_scheduled(specification: MonitorSpecification, window: Window) -> bool:
    """Return whether a window is one of those that a monitor judges by itself."""
    spec = specification
    return window.end - window.start == spec.window_length and (
        window.start - spec.anchor
    ) % spec.window_length == timedelta(0)
