"""How a model stood at a moment: its champion, plan, restrictions and drift."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from monitor.episodes.episodes import EpisodeState
from monitor.tables import EpisodeRow, MonitorRow, VerdictRow
from registry import ledger, runtimes, serving
from registry.canonical import Json, to_json
from registry.errors import BadInputError
from registry.recalls import RecallRow
from registry.serving import EVERYWHERE, Reign, Restriction
from registry.versions import VersionRow, ref
from retrain.history.provenance import approvals_until
from retrain.tables import PlanRow, RunRow
from retrain.watching.showing import watched_at

#: Kinds of entry whose facts say what an episode was concluded to be.
_CONCLUSIONS = ("cause", "subgroup", "impact")


def require_past(at: datetime, *, now: datetime) -> datetime:
    """Return a moment of which there can be a record.

    Raises
    ------
    BadInputError
        If it has no time zone, or is yet to come.
    """
    if at.tzinfo is None:
        raise BadInputError(f"{at} has no time zone: write it with one, as in {at}Z")
    if at > now:
        raise BadInputError(f"{at.isoformat()} is yet to come: it is {now.isoformat()}")
    return at


def champion_at(
    session: Session, model: str, at: datetime, deployment: str = EVERYWHERE
) -> VersionRow | None:
    """Return the version that served at a deployment at a moment, or None."""
    reign = _reign_at(session, model, at, deployment)
    return session.get_one(VersionRow, reign.version) if reign is not None else None


def _reign_at(session: Session, model: str, at: datetime, deployment: str) -> Reign | None:
    """Return a deployment's own reign at a moment, or everywhere's where it had none then."""
    for place in dict.fromkeys((deployment, EVERYWHERE)):
        found = session.scalars(
            select(Reign)
            .where(
                Reign.model == model,
                Reign.deployment == place,
                Reign.since <= at,
                or_(Reign.until.is_(None), Reign.until > at),
            )
            .order_by(Reign.id.desc())
        ).first()
        if found is not None:
            return found
    return None


def standing_at(
    session: Session, model: str, at: datetime, *, site: str | None = None
) -> dict[str, Any]:
    """Return how a model stood at a moment, at one site or everywhere.

    `champion` is what should have served there, `runtime` what a clinical runtime there had
    attested that it runs. Without a site, `sites` are those at which another version served.
    """
    place = site or EVERYWHERE
    reign = _reign_at(session, model, at, place)
    return {
        "model": model,
        "deployment": place,
        "champion": None if reign is None else _champion(session, reign, at),
        **({} if site else {"sites": _apart_at(session, model, at)}),
        "runtime": _attested_at(session, model, at, place),
        "plan": _plan_at(session, model, at),
        "out_of_use": [
            {
                "kind": row.kind,
                "subgroup": row.subgroup,
                "reason": row.reason,
                "since": to_json(row.since),
            }
            for row in session.scalars(
                select(Restriction)
                .where(
                    Restriction.model == model,
                    Restriction.since <= at,
                    or_(Restriction.until.is_(None), Restriction.until > at),
                )
                .order_by(Restriction.id)
            )
        ],
        "watches": watched_at(session, model, at),
        "drift": [
            drift_at(session, monitor, at)
            for monitor in session.scalars(
                select(MonitorRow.name)
                .where(MonitorRow.model == model)
                .order_by(MonitorRow.name)
            )
        ],
    }


def drift_at(session: Session, monitor: str, at: datetime) -> dict[str, Any]:
    """Return what a monitor had concluded by a moment: its open episodes, and its last verdict."""
    verdict = session.scalars(
        select(VerdictRow)
        .where(
            VerdictRow.monitor == monitor,
            VerdictRow.subgroup == "",
            VerdictRow.created_at <= at,
        )
        .order_by(VerdictRow.end.desc(), VerdictRow.id.desc())
    ).first()
    episodes = session.scalars(
        select(EpisodeRow)
        .where(EpisodeRow.monitor == monitor, EpisodeRow.opened_at <= at)
        .order_by(EpisodeRow.id)
    )
    found = [_episode_at(session, row, at) for row in episodes]
    return {
        "monitor": monitor,
        "episodes": [one for one in found if one["state"] == EpisodeState.OPEN],
        "newest_window": None
        if verdict is None
        else {
            "start": to_json(verdict.start),
            "end": to_json(verdict.end),
            "scans": verdict.scans,
            "p_value": verdict.p_value,
            "alarm_p_value": verdict.alarm_p_value,
        },
    }


def _episode_at(session: Session, row: EpisodeRow, at: datetime) -> dict[str, Any]:
    """Return an episode as the ledger's entries of up to a moment tell it."""
    state = EpisodeState.OPEN
    concluded: dict[str, Any] = dict.fromkeys(_CONCLUSIONS)
    for entry in ledger.entries(session, subject=f"episode {row.id}"):
        if entry.recorded_at > at:
            break
        word = entry.kind.removeprefix("episode.")
        state = EpisodeState(word) if word in set(EpisodeState) else EpisodeState.OPEN
        concluded |= {key: entry.facts[key] for key in _CONCLUSIONS if key in entry.facts}
    return {"episode": row.id, "opened_at": to_json(row.opened_at), "state": state, **concluded}


def _plan_at(session: Session, model: str, at: datetime) -> Json:
    row = session.scalars(
        select(PlanRow)
        .where(PlanRow.model == model, PlanRow.applied_at <= at)
        .order_by(PlanRow.number.desc())
    ).first()
    if row is None:
        return None
    return {
        "number": row.number,
        "digest": row.digest,
        "applied_at": to_json(row.applied_at),
        "applied_by": row.applied_by,
    }


def _apart_at(session: Session, model: str, at: datetime) -> dict[str, Any]:
    """Return what served at the sites at which another version did than everywhere else."""
    every = champion_at(session, model, at)
    sites = session.scalars(
        select(Reign.deployment)
        .where(Reign.model == model, Reign.deployment != EVERYWHERE, Reign.since <= at)
        .distinct()
        .order_by(Reign.deployment)
    ).all()
    served = {site: champion_at(session, model, at, site) for site in sites}
    return {
        site: str(ref(version))
        for site, version in served.items()
        if version is not None and version is not every
    }


def _attested_at(
    session: Session, model: str, at: datetime, deployment: str
) -> dict[str, Any] | None:
    """Return what the runtime of a deployment had said that it runs; None where none had."""
    for place in dict.fromkeys((deployment, EVERYWHERE)):
        said = runtimes.newest_attestation(session, model, place, by_then=at)
        if said is not None:
            return {
                "deployment": place,
                "digest": said.digest,
                "version": None
                if said.version is None
                else str(ref(session.get_one(VersionRow, said.version))),
                "attested_at": to_json(said.at),
                "attested_by": said.by,
            }
    return None


def _champion(session: Session, reign: Reign, at: datetime) -> dict[str, Any]:
    version = session.get_one(VersionRow, reign.version)
    recalled = session.scalars(
        select(RecallRow.since).where(
            RecallRow.version == version.id,
            RecallRow.since <= at,
            or_(RecallRow.until.is_(None), RecallRow.until > at),
        )
    ).first()
    return {
        "version": str(ref(version)),
        "since": to_json(reign.since),
        "recalled_at": to_json(recalled),
        "approved_by": [
            one
            for run in session.scalars(select(RunRow).where(RunRow.candidate == version.id))
            for one in approvals_until(session, run, at)
        ],
    }


def reigns_of(session: Session, model: str) -> list[dict[str, Any]]:
    """Return every champion that a model has had, oldest first."""
    return [
        {
            "version": str(ref(session.get_one(VersionRow, row.version))),
            "deployment": row.deployment,
            "since": to_json(row.since),
            "until": to_json(row.until),
            "reason": row.reason,
        }
        for row in serving.reigns(session, model)
    ]
