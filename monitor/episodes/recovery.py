"""Recovery: when an open episode closes by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.evaluation import QUIET_LEVEL, Evaluation, shows
from monitor.tables import EpisodeRow, VerdictRow

#: Windows in a row, this one included, that together must show nothing.
QUIET_WINDOWS = 2
#: Windows vary in size: one that is this much less sensitive than the alarm's still counts.
LEAST_SENSITIVITY = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Whether an episode's shift is gone, and how that is known."""

    recovered: bool
    reason: str


def recovery(session: Session, row: EpisodeRow, evaluation: Evaluation) -> Recovery:
    """Judge whether the shift of an open episode is gone.

    It is when two windows in a row together show nothing at .05 (`shown_together`), for every
    deciding reference, by the scans of its subgroup, and when either's were enough to show the
    episode's effect at 80 % power, or nearly as many as raised the alarm; between .05 and an
    alarm's level it stays as it is. So a shift that lasts is seldom taken for gone, and a
    scanner that sends nothing has not recovered.

    Where streams saw it, it must be over for each of them, too, unless windows confirmed it at
    a place: a stream sees all scans, among which one scanner's dilute, and the end more so.
    Where streams alone saw it, that is all there is to ask for, once the window in which it
    ended has been judged: were the shift in two windows, these alarm for it, and it takes two
    more that show nothing.
    """
    streams = row.evidence.get("streams", [])
    lasting = [seen["encoder"] for seen in streams if seen["ended_at"] is None]
    by_windows_there = row.subgroup is not None and row.evidence["alpha"] is not None
    if lasting and not by_windows_there:
        return Recovery(
            recovered=False,
            reason=f"scan by scan the shift still shows, in the {lasting[0]} encoder's space",
        )
    if streams and row.evidence["alpha"] is None:
        return _of_streams(streams, evaluation)
    if evaluation.alarm and row.evidence["window"] == str(evaluation.window):
        # Without a place it is all scans that are asked below, and it may be a part that shows it.
        return Recovery(recovered=False, reason="the window alarms for it")
    place = row.subgroup or ""
    length = evaluation.monitor.specification.window_length
    starts = [evaluation.window.start - length * back for back in range(QUIET_WINDOWS)]
    for item in evaluation.deciding:
        verdicts = [
            session.scalars(
                select(VerdictRow).where(
                    VerdictRow.reference == item.reference.id,
                    VerdictRow.start == start,
                    VerdictRow.end == start + length,
                    VerdictRow.subgroup == place,
                )
            ).first()
            for start in starts
        ]
        lacking = _lacking(verdicts, row)
        if lacking:
            return Recovery(recovered=False, reason=lacking)
    if not evaluation.deciding:
        return Recovery(recovered=False, reason="no reference could judge the window")
    return Recovery(
        recovered=True,
        reason=f"recovered: in {QUIET_WINDOWS} windows in a row, until "
        f"{evaluation.window.end:%Y-%m-%d %H:%M} UTC, {place or 'the scans'} showed no shift, "
        "with enough scans to show it",
    )


def _of_streams(streams: Sequence[Mapping[str, Any]], evaluation: Evaluation) -> Recovery:
    """Judge a shift that no window showed: it is over, unless this window came before that.

    What streams stopped following before its end they can no longer tell, and this window must.
    """
    last = max(streams, key=lambda seen: str(seen["ended_at"]))
    if evaluation.window.end < datetime.fromisoformat(last["ended_at"]):
        return Recovery(recovered=False, reason="no window has ended since it was over")
    if not all(map(saw_the_end, streams)):
        if not evaluation.deciding:
            return Recovery(recovered=False, reason="no reference could judge the window")
        if any(shows(item.verdict) for item in evaluation.deciding):
            return Recovery(
                recovered=False,
                reason="it is no longer followed scan by scan, and the window shows it",
            )
    return Recovery(recovered=True, reason=last["ended_reason"])


def saw_the_end(seen: Mapping[str, Any]) -> bool:
    """Return whether a stream's entry ended because the shift was seen to be over."""
    return bool(seen.get("recovered", True))  # entries from before it was kept do not say


def shown_together(p_values: Sequence[float]) -> float:
    """Return the p-value of a shift that lasts through some windows, by those of each.

    Stouffer's, which is powerful where all see the same shift: each p-value's normal score,
    summed over the root of their number. A window that is more ordinary than most counts as
    an ordinary one: it takes nothing off what another shows. Asked of each by itself, an
    ordinary window in twenty kept an episode open.

    >>> round(shown_together([0.6, 0.04]), 2), round(shown_together([0.1, 0.1]), 2)
    (0.11, 0.03)
    """
    scores = np.maximum(-ndtri(np.asarray(p_values, dtype=np.float64)), 0.0)
    return float(ndtr(-scores.sum() / np.sqrt(len(scores))))


def _lacking(verdicts: Sequence[VerdictRow | None], row: EpisodeRow) -> str | None:
    """Return what keeps windows from speaking for recovery, or None."""
    where = row.subgroup or "the scans"
    # Where the newest alarm was of other scans than the place's, these have their own.
    usual = row.evidence.get("place_smallest_effect") or row.evidence["smallest_effect"]
    needed = max(row.effect, LEAST_SENSITIVITY * usual)
    p_values: list[float] = []
    for verdict in verdicts:
        if verdict is None:
            return f"{where}: too few in a window to tell whether the shift is gone"
        if verdict.start < row.onset:
            return "the shift began less than two windows ago"
        if verdict.smallest_effect > needed:
            return (
                f"{where}: so few that shifts show from {verdict.smallest_effect:.2f} on, and "
                f"{needed:.2f} is needed to tell whether this one is gone"
            )
        p_values.append(verdict.alarm_p_value)
    together = shown_together(p_values)
    if together <= QUIET_LEVEL:
        return f"{where}: in two windows together the shift still shows (p = {together:.2g})"
    return None
