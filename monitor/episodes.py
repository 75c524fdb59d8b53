"""Episodes: verdicts that persisted, from opening to closing; what a person is alerted to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import embeddings
from monitor.causes import Diagnosis, ShiftEvidence, diagnose, shares
from monitor.datasets import members
from monitor.evaluation import Evaluation, ReferenceVerdict, leading
from monitor.references import EncoderRole, ProfileStore
from monitor.subgroups import ACQUISITION, Attribute
from monitor.tables import EpisodeRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.canonical import Json
from registry.errors import ConflictError, NotFoundError

#: How many of the heaviest scans an episode keeps to be shown.
HEAVIEST = 12
OUTLIER_QUANTILE = 0.95


class EpisodeState(StrEnum):
    OPEN = "open"
    #: the shift is still there, and a version or reference that knows it is in use
    ACCEPTED = "accepted"
    CLOSED = "closed"


class Impact(StrEnum):
    """Whether a shift matters; a judgement apart from its cause."""

    NONE_SHOWN = "none shown"
    SUSPECTED = "suspected"
    MEASURED = "measured"


def require_episode(session: Session, episode: int) -> EpisodeRow:
    """Return an episode.

    Raises
    ------
    NotFoundError
    """
    row = session.get(EpisodeRow, episode)
    if row is None:
        raise NotFoundError(f"there is no episode {episode}: see `driftward episode list`")
    return row


def open_episode(session: Session, monitor: str) -> EpisodeRow | None:
    """Return a monitor's open episode, if it has one."""
    return session.scalars(
        select(EpisodeRow).where(
            EpisodeRow.monitor == monitor, EpisodeRow.state == EpisodeState.OPEN
        )
    ).first()


def all_episodes(session: Session, monitor: str | None = None) -> list[EpisodeRow]:
    """Return episodes, newest first."""
    query = select(EpisodeRow).order_by(EpisodeRow.id.desc())
    if monitor is not None:
        query = query.where(EpisodeRow.monitor == monitor)
    return list(session.scalars(query))


def record_alarm(
    session: Session, store: ProfileStore, evaluation: Evaluation, *, actor: str, at: datetime
) -> EpisodeRow:
    """Open an episode for an alarm, or bring the open one up to date."""
    item = leading(evaluation)
    onset = item.onset
    shifted = Window(start=onset, end=evaluation.window.end)
    diagnosis, displaced = _diagnose(session, store, evaluation, item, shifted)
    heaviest = _heaviest(session, store, item, shifted)
    row = open_episode(session, evaluation.monitor.name)
    kind = "episode.updated"
    if row is None:
        kind = "episode.opened"
        row = EpisodeRow(
            monitor=evaluation.monitor.name,
            state=EpisodeState.OPEN.value,
            opened_at=at,
            onset=onset,
            impact=_suspected(evaluation).value,
        )
        session.add(row)
    row.cause = diagnosis.cause.value
    row.subgroup = str(diagnosis.subgroup) if diagnosis.subgroup else None
    row.p_value = evaluation.p_value if evaluation.p_value is not None else 1.0
    row.effect = item.verdict.effect.value
    row.heaviest = heaviest
    row.evidence = {
        **(row.evidence or {}),
        "diagnosis": diagnosis.to_dict(),
        "displaced_share": displaced,
        "window": str(evaluation.window),
        "encoder": item.reference.encoder,
        "alpha": evaluation.alpha,
        "smallest_effect": item.verdict.smallest_effect,
    }
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=kind,
        subject=f"episode {row.id}",
        facts={
            "monitor": row.monitor,
            "window": str(evaluation.window),
            "p_value": row.p_value,
            "cause": row.cause,
            "subgroup": row.subgroup,
            "impact": row.impact,
        },
        seals=[row],
    )
    return row


def set_impact(
    session: Session,
    row: EpisodeRow,
    impact: Impact,
    *,
    evidence: dict[str, Json],
    actor: str,
    at: datetime,
) -> None:
    """Record what labels say of an episode's impact."""
    row.impact = impact.value
    row.evidence = {**row.evidence, "impact": evidence}
    _record(session, row, "episode.impact", {"impact": impact.value, **evidence}, actor, at)


def end(
    session: Session,
    row: EpisodeRow,
    state: EpisodeState,
    *,
    reason: str,
    actor: str,
    at: datetime,
) -> None:
    """Accept or close an open episode.

    Raises
    ------
    ConflictError
        If it has ended already.
    """
    if row.state != EpisodeState.OPEN:
        raise ConflictError(f"episode {row.id} is {row.state} already: {row.closed_reason}")
    row.state, row.closed_at, row.closed_reason = state.value, at, reason
    _record(session, row, f"episode.{state.value}", {"reason": reason}, actor, at)


def _record(
    session: Session,
    row: EpisodeRow,
    kind: str,
    facts: dict[str, Json],
    actor: str,
    at: datetime,
) -> None:
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind=kind,
        subject=f"episode {row.id}",
        facts=facts,
        seals=[row],
    )


def _suspected(evaluation: Evaluation) -> Impact:
    """Suspect an impact where the champion's own space moved, too."""
    champion = [
        item for item in evaluation.deciding if item.reference.encoder == EncoderRole.CHAMPION
    ]
    moved = any(item.persistence_p_value <= evaluation.alpha for item in champion)
    return Impact.SUSPECTED if moved else Impact.NONE_SHOWN


def _diagnose(
    session: Session,
    store: ProfileStore,
    evaluation: Evaluation,
    item: ReferenceVerdict,
    shifted: Window,
) -> tuple[Diagnosis, float]:
    scans = embeddings.in_window(session, item.reference.version, shifted)
    scores = store.load(item.reference.profile_digest).scan_scores(scans.vectors)
    displaced = float(np.mean(scores > OUTLIER_QUANTILE))
    attributes = (*ACQUISITION, *evaluation.monitor.specification.subgroup_attributes)
    evidence = ShiftEvidence(
        reference_shares=_shares(members(session, item.reference.dataset), attributes),
        window_shares=_shares(scans.scans, attributes),
        subgroup_p_values={part.subgroup: part.adjusted_p_value for part in item.subgroups},
        displaced_share=displaced,
        alpha=evaluation.alpha,
    )
    return diagnose(evidence), displaced


def _shares(
    scans: Sequence[ScanRow], attributes: Sequence[Attribute]
) -> dict[Attribute, dict[str, float]]:
    return {
        attribute: shares([getattr(scan, attribute.value) for scan in scans])
        for attribute in attributes
    }


def _heaviest(
    session: Session, store: ProfileStore, item: ReferenceVerdict, shifted: Window
) -> list[Json]:
    """Return the scans that weigh most in the shift: [{scan, weight}], heaviest first."""
    scans = embeddings.in_window(session, item.reference.version, shifted)
    profile = store.load(item.reference.profile_digest)
    weights = profile.scan_weights(scans.vectors, scans.patients)
    order = np.argsort(-weights, kind="stable")[:HEAVIEST]
    return [
        {"scan": scans.scans[index].id, "weight": round(float(weights[index]), 6)}
        for index in order
    ]
