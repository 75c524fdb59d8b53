"""Where it moved: effect by subgroup and window, as a table whose cells carry a shade."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.pages import wording
from monitor.localising import MOVED_LEVEL
from monitor.references import EncoderRole
from monitor.tables import ReferenceRow, VerdictRow

#: Windows that fit beside the subgroups' names.
COLUMNS = 26
#: Shades that the style sheet has, from none to the strongest.
SHADES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One subgroup in one window."""

    effect: str
    p_value: str
    scans: int
    #: 0 to `SHADES`, by the effect
    shade: int
    #: as an alarm counts it
    moved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupLine:
    """One subgroup over the windows; None where it had too few scans."""

    name: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupMap:
    """The table."""

    windows: tuple[str, ...]
    lines: tuple[SubgroupLine, ...]
    first: str
    last: str
    #: rate of false discoveries among those that are marked as moved
    level: str = wording.percent(MOVED_LEVEL)


def subgroup_map(session: Session, monitor: str) -> SubgroupMap | None:
    """Return effects by subgroup against the reference in force, or None before any.

    The monitoring encoder's verdicts are shown: its space is the same in every column.
    """
    rows = session.execute(
        select(VerdictRow)
        .join(ReferenceRow, ReferenceRow.id == VerdictRow.reference)
        .where(
            VerdictRow.monitor == monitor,
            ReferenceRow.encoder == EncoderRole.MONITORING,
        )
        .order_by(VerdictRow.start, VerdictRow.reference)
    ).scalars()
    # A window may be judged against the trend's reference, too: the newest reference counts.
    found = {(row.start, row.end, row.subgroup): row for row in rows}
    spans = sorted({(start, end) for start, end, _ in found})[-COLUMNS:]
    shown = {key: row for key, row in found.items() if key[:2] in spans}
    subgroups = sorted({subgroup for *_, subgroup in shown})
    if len(subgroups) < 2:
        return None
    highest = max(row.effect for row in shown.values())
    return SubgroupMap(
        windows=tuple(wording.span(*bounds) for bounds in spans),
        lines=tuple(
            SubgroupLine(
                name=wording.subgroup_name(subgroup),
                cells=tuple(_cell(shown.get((*bounds, subgroup)), highest) for bounds in spans),
            )
            for subgroup in subgroups
        ),
        first=wording.day(spans[0][0]),
        last=_last(spans),
    )


def _last(spans: list[tuple[datetime, datetime]]) -> str:
    return f"window to {wording.moment(spans[-1][1])}"


def _cell(row: VerdictRow | None, highest: float) -> Cell | None:
    if row is None:
        return None
    p_value = float(row.detail.get("adjusted", row.alarm_p_value))
    return Cell(
        effect=wording.effect(row.effect),
        p_value=wording.p_value(p_value),
        scans=row.scans,
        shade=round(SHADES * row.effect / highest) if highest > 0 else 0,
        moved=p_value <= MOVED_LEVEL,
    )
