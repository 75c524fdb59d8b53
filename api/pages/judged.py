"""Windows with what was said of them: the verdicts, and whether they made an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.references import EncoderRole
from monitor.tables import ReferenceRow, VerdictRow
from monitor.windows import Window
from registry import ledger

#: The ledger's word for a window that was judged.
EVALUATED = "window.evaluated"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedWindow:
    """One window with its verdicts on all scans."""

    window: Window
    #: by the monitoring encoder, against its first reference: the unbroken trend
    trend: VerdictRow | None
    #: by the monitoring encoder, against the reference that was in force
    monitoring: VerdictRow | None
    #: by the champion of the time
    champion: VerdictRow | None
    #: version whose embeddings `champion` judged
    champion_version: int | None
    #: of this window with those before it, over every reference in force
    p_value: float | None
    #: the budget that `p_value` is held against
    alpha: float | None
    alarm: bool

    @property
    def verdicts(self) -> list[VerdictRow]:
        return [row for row in (self.champion, self.monitoring, self.trend) if row is not None]

    @property
    def leading(self) -> VerdictRow:
        """The verdict in force with the smallest p-value."""
        in_force = [row for row in (self.champion, self.monitoring) if row is not None]
        return min(in_force or self.verdicts, key=lambda row: row.alarm_p_value)


def judged_windows(session: Session, monitor: str) -> list[JudgedWindow]:
    """Return a monitor's judged windows, oldest first."""
    rows = session.execute(
        select(VerdictRow, ReferenceRow)
        .join(ReferenceRow, ReferenceRow.id == VerdictRow.reference)
        .where(VerdictRow.monitor == monitor, VerdictRow.subgroup == "")
        .order_by(VerdictRow.start, VerdictRow.end, VerdictRow.reference)
    )
    grouped: dict[tuple[datetime, datetime], list[tuple[VerdictRow, ReferenceRow]]] = {}
    for verdict, reference in rows:
        grouped.setdefault((verdict.start, verdict.end), []).append((verdict, reference))
    said = {
        entry.facts["window"]: entry.facts
        for entry in ledger.entries(session, kind=EVALUATED, subject=monitor)
    }
    return [
        _judged(
            Window(start=start, end=end), found, said.get(str(Window(start=start, end=end)))
        )
        for (start, end), found in grouped.items()
    ]


def newest_judged(session: Session, monitor: str) -> JudgedWindow | None:
    """Return the newest judged window, or None before the first."""
    found = judged_windows(session, monitor)
    return found[-1] if found else None


def _judged(
    window: Window,
    found: Sequence[tuple[VerdictRow, ReferenceRow]],
    facts: dict[str, object] | None,
) -> JudgedWindow:
    trend = monitoring = champion = version = None
    for verdict, reference in found:  # by reference, so that the newest one stays
        if reference.encoder == EncoderRole.CHAMPION:
            champion, version = verdict, reference.version
            continue
        monitoring = verdict
        if reference.trend:
            trend = verdict
    p_value, alpha = (facts or {}).get("p_value"), (facts or {}).get("alpha")
    return JudgedWindow(
        window=window,
        trend=trend,
        monitoring=monitoring,
        champion=champion,
        champion_version=version,
        p_value=p_value if isinstance(p_value, float) else None,
        alpha=alpha if isinstance(alpha, float) else None,
        alarm=bool((facts or {}).get("alarm", False)),
    )
