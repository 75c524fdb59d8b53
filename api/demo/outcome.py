"""What came of the demo, read back from the database: for the screen, and as one document."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api.assembly import Driftward
from api.demo.narration import Narrator
from monitor import references
from monitor.episodes.episodes import all_episodes
from monitor.evaluating import REPORT_LENGTH
from monitor.monitors import Monitor, all_monitors
from monitor.performance import performance
from monitor.tables import EpisodeRow, PerformanceRow, RefusalRow, ScanRow, VerdictRow
from registry import ledger, serving
from registry.versions import VersionRow, ref
from retrain import runs
from retrain.states import RunState
from retrain.tables import RunRow


def document(driftward: Driftward, *, weeks: int, seconds: float) -> dict[str, Any]:
    """Return the demo's document."""
    with driftward.database.reading() as session:
        [monitor] = all_monitors(session)
        episode = next(iter(all_episodes(session, monitor.name)), None)
        repairs = [row for row in runs.all_runs(session) if row.episode is not None]
        refused = [row for row in repairs if row.state == RunState.REJECTED]
        verification = ledger.verify(session)
        return {
            "models": _models(session),
            "weeks": [_week(session, monitor, week) for week in range(weeks)],
            "episode": _episode(episode),
            "run": _run(session, next(iter(repairs), None)),
            "refused_run": _run(session, next(iter(refused), None)),
            "champion": _champions(session, monitor.specification.model),
            "refused": _refused(session),
            "ledger": {"entries": verification.entries, "valid": verification.valid},
            "seconds": round(seconds, 1),
        }


def tell_week(driftward: Driftward, narrator: Narrator, start: datetime, end: datetime) -> None:
    """Say what one week brought."""
    with driftward.database.reading() as session:
        [monitor] = all_monitors(session)
        number = round((start - monitor.specification.anchor) / REPORT_LENGTH)
        week = _week(session, monitor, number)
        refused = _refused(session, since=start, until=end)
        episode = next(iter(all_episodes(session, monitor.name)), None)
    p_value = "–" if week["p_value"] is None else f"{week['p_value']:.2g}"
    alarm = "ALARM" if week["alarm"] else "no alarm"
    if week["accepted"]:
        alarm += f"; the shift is still there (p = {week['trend_p_value']:.2g}), and accepted"
    narrator.line(f"{week['scans']} scans: {alarm} (p = {p_value})")
    if week["auc"] is not None:
        low, high = week["auc_interval"]
        narrator.line(
            f"{week['champion']}: AUC {week['auc']:.3f} ({low:.3f}–{high:.3f}), sensitivity "
            f"{_measure(week['sensitivity'])}, specificity {_measure(week['specificity'])}"
        )
    if refused["count"]:
        narrator.line(f"{refused['count']} scans refused: {refused['reason']}")
    if week["alarm"] and episode is not None:
        narrator.line(
            f"episode {episode.id}: {episode.cause}, {episode.subgroup or 'all scans'}, "
            f"impact {episode.impact}"
        )
        for reason in episode.evidence["diagnosis"]["reasons"]:
            narrator.line(f"  {reason}")


def _measure(value: list[float]) -> str:
    estimate, low, high = value
    return f"{estimate:.2f} ({low:.2f}–{high:.2f})"


def _models(session: Session) -> list[dict[str, Any]]:
    documents = []
    for version in session.scalars(select(VersionRow).order_by(VersionRow.id)):
        base = session.get(VersionRow, version.base) if version.base is not None else None
        documents.append(
            {
                "name": version.model,
                "tier": version.tier,
                "version": version.number,
                "base": str(ref(base)) if base else None,
            }
        )
    return documents


def _week(session: Session, monitor: Monitor, week: int) -> dict[str, Any]:
    start = monitor.specification.anchor + week * REPORT_LENGTH
    end = start + REPORT_LENGTH
    refused = select(RefusalRow.scan)
    scans = session.scalar(
        select(func.count(ScanRow.id)).where(
            ScanRow.arrived_at >= start, ScanRow.arrived_at < end, ScanRow.id.not_in(refused)
        )
    )
    decided = _evaluations(session, monitor, start, end)
    newest = decided[-1] if decided else {"p_value": None}
    measured = _performance(session, monitor, start, end)
    opened = session.scalars(
        select(EpisodeRow).where(
            EpisodeRow.monitor == monitor.name,
            EpisodeRow.opened_at > start,
            EpisodeRow.opened_at <= end,
        )
    ).first()
    trend = _trend_p_value(session, monitor, start, end)
    reference = references.trend(session, monitor.name)
    accepted = reference is not None and not reference.decides and trend is not None
    found: dict[str, Any] = {
        "week": week + 1,
        "scans": scans,
        "p_value": newest["p_value"],
        "alarm": any(item["alarm"] for item in decided),
        "episode_opened": opened.id if opened else None,
        "trend_p_value": trend,
        "accepted": accepted and _judged_after_renewal(session, monitor, start),
        "auc": None,
    }
    if measured is not None:
        auc, low, high = measured.measures["auc"]
        found |= {
            "champion": str(ref(session.get_one(VersionRow, measured.version))),
            "auc": auc,
            "auc_interval": [low, high],
            "sensitivity": measured.measures["sensitivity"],
            "specificity": measured.measures["specificity"],
        }
    return found


def _evaluations(
    session: Session, monitor: Monitor, start: datetime, end: datetime
) -> list[dict[str, Any]]:
    """Return what the ledger says of the week's windows, in their order."""
    return [
        entry.facts
        for entry in ledger.entries(session, kind="window.evaluated", subject=monitor.name)
        if start < entry.recorded_at <= end
    ]


def _trend_p_value(
    session: Session, monitor: Monitor, start: datetime, end: datetime
) -> float | None:
    """Return the fixed encoder's p-value against the first reference, in the week's last window."""
    reference = references.trend(session, monitor.name)
    if reference is None:
        return None
    row = session.scalars(
        select(VerdictRow)
        .where(
            VerdictRow.reference == reference.id,
            VerdictRow.subgroup == "",
            VerdictRow.start >= start,
            VerdictRow.end <= end,
        )
        .order_by(VerdictRow.end.desc())
    ).first()
    return row.p_value if row else None


def _judged_after_renewal(session: Session, monitor: Monitor, start: datetime) -> bool:
    deciding = references.deciding(session, monitor.name)
    return all(row.accepted_at <= start for row in deciding)


def _performance(
    session: Session, monitor: Monitor, start: datetime, end: datetime
) -> PerformanceRow | None:
    return next(
        (
            row
            for row in performance.newest(session, monitor.name)
            if (row.start, row.end, row.subgroup) == (start, end, "")
        ),
        None,
    )


def _episode(row: EpisodeRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "id": row.id,
        "state": row.state,
        "cause": row.cause,
        "subgroup": row.subgroup,
        "impact": row.impact,
        "onset": row.onset.isoformat(),
        "opened_at": row.opened_at.isoformat(),
        "effect": row.effect,
        "p_value": row.p_value,
        "evidence": row.evidence,
    }


def _run(session: Session, row: RunRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "id": row.id,
        "state": row.state,
        "strategy": row.strategy,
        "note": row.note,
        "gates": [
            {"name": gate.name, "outcome": gate.outcome, "sentence": gate.sentence}
            for gate in runs.gate_outcomes(session, row.id)
        ],
    }


def _champions(session: Session, model: str) -> dict[str, str | None]:
    """Return the champion with which the weeks began, and the one with which they ended."""
    history = [
        str(ref(session.get_one(VersionRow, reign.version)))
        for reign in serving.reigns(session, model, serving.EVERYWHERE)
    ]
    return {
        "before": history[0] if history else None,
        "after": history[-1] if history else None,
    }


def _refused(
    session: Session, *, since: datetime | None = None, until: datetime | None = None
) -> dict[str, Any]:
    query = select(RefusalRow.reason, func.count()).join(ScanRow, ScanRow.id == RefusalRow.scan)
    if since is not None and until is not None:
        query = query.where(ScanRow.arrived_at >= since, ScanRow.arrived_at < until)
    counts = {row[0]: row[1] for row in session.execute(query.group_by(RefusalRow.reason))}
    return {
        "count": sum(counts.values()),
        "reason": "; ".join(f"{reason} ({count})" for reason, count in sorted(counts.items())),
        "reasons": counts,
    }
