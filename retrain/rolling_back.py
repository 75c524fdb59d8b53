"""Rollback: the champion goes back to what served before, everywhere or at one site."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import references
from monitor.monitors import all_monitors
from registry import crash_points, ledger, serving
from registry.errors import ConflictError, NotFoundError
from registry.identities import Identity, Role
from registry.serving import Withholding
from registry.versions import VersionRow, ref
from retrain import approvals, runs, staging
from retrain.promotion import ask_for_delivery
from retrain.states import RunState
from retrain.tables import RunRow
from retrain.watching import beginning as watching


def roll_back(
    session: Session,
    model: str,
    *,
    reason: str,
    by: Identity,
    at: datetime,
    site: str | None = None,
) -> tuple[VersionRow, VersionRow]:
    """Point the champion back at the version before it; returns (replaced, restored).

    Without a site the newest promotion is taken back wherever it has come: everywhere, or at the
    sites that a staged one has reached. A staged promotion that is rolled back at one of its
    sites ends there, and goes no further.

    Raises
    ------
    NotFoundError
        If there was none before, or no such site is known.
    """
    by.require(Role.OPERATOR, "roll back a champion", site=site)
    staged = staging.under_way(session, model)
    reached = staging.reached_sites(session, staged) if staged is not None else []
    if site is not None:
        _require_known(session, model, site)
    where = [site] if site is not None else reached or [serving.EVERYWHERE]
    current = serving.require_champion(session, model, where[0])
    before = {place: _before(session, current, place) for place in where}
    for restored in dict.fromkeys(before.values()):
        expected: dict[str, int | None] = {
            place: current.id for place, one in before.items() if one is restored
        }
        if serving.EVERYWHERE in expected:
            expected |= _followers(session, current)
        serving.move_champions(
            session,
            restored,
            expected=expected,
            reason=reason,
            kind="champion.rolled_back",
            actor=by.name,
            at=at,
        )
    watching.end_superseded(session, model, at=at)
    _as_before(session, current, where, by=by, at=at)
    if staged is not None and set(where) & set(reached):
        left = [site for site in reached if site not in where]
        _end_staged(session, staged, where, left, reason, by=by, at=at)
    if serving.EVERYWHERE in where:
        why = f"{ref(current)} was rolled back: {reason}"
        _reinstate(session, before[serving.EVERYWHERE], reason=why, by=by, at=at)
    ask_for_delivery(session)
    crash_points.reach_around_commit(session, "roll back")
    return current, before[where[0]]


def undo_rollback(
    session: Session, model: str, *, reason: str, by: Identity, at: datetime
) -> tuple[VersionRow, VersionRow]:
    """Undo a rollback that was a mistake; returns (replaced, restored).

    It must be the newest move of the champion everywhere: one at sites is not undone. What it had
    put back is lifted again, and the version that serves again is watched anew, by the plan of the
    run that made it. The rollback stays in the record, and counts for the plan's stop rule.

    Raises
    ------
    ConflictError
        If the champion came by another way, or was rolled back because its watch failed.
    RecalledError
        If the version was recalled meanwhile.
    """
    by.require(Role.OPERATOR, "undo a rollback")
    staged = staging.under_way(session, model)
    if staged is not None:
        raise ConflictError(f"run {staged.id} {staged.note}: roll that back first")
    current = serving.require_champion(session, model)
    moves = ledger.entries(session, subject=str(ref(current)), newest_first=True)
    newest = next((entry for entry in moves if entry.kind.startswith("champion.")), None)
    served = serving.reigns(session, model, serving.EVERYWHERE)
    if (
        newest is None
        or newest.kind != "champion.rolled_back"
        or newest.facts["deployment"] != serving.EVERYWHERE
        or len(served) < 2
    ):
        raise ConflictError(
            f"the champion {ref(current)} did not come by a rollback: there is none to undo"
        )
    restored = session.get_one(VersionRow, served[-2].version)
    if watching.failed(session, restored):
        raise ConflictError(
            f"{ref(restored)} failed its watch, so its rollback was no mistake: start a new run"
        )
    # Sites that went along go along again; one that stood apart before stays.
    moved = newest.facts.get("deployments", [serving.EVERYWHERE])
    serving.move_champions(
        session,
        restored,
        expected=dict.fromkeys(moved, current.id),
        reason=reason,
        kind="champion.rollback_undone",
        actor=by.name,
        at=at,
    )
    _in_use_again(session, restored, by=by, at=at)
    _reinstate(session, restored, reason=f"its rollback was undone: {reason}", by=by, at=at)
    run = session.scalars(select(RunRow).where(RunRow.candidate == restored.id)).first()
    if run is not None:
        watching.begin(session, run, restored, deployment=serving.EVERYWHERE, at=at)
    ask_for_delivery(session)
    return current, restored


def _before(session: Session, current: VersionRow, place: str) -> VersionRow:
    """Return what served at a place before its champion was promoted there.

    That is not one that was itself rolled back since.
    """
    served = [reign.version for reign in serving.served_at(session, current.model, place)]
    index = served.index(current.id)
    if index == 0:
        at_site = "" if place == serving.EVERYWHERE else f" at {place}"
        raise NotFoundError(
            f"model {current.model} had no champion{at_site} before {ref(current)}: suspend it"
        )
    return session.get_one(VersionRow, served[index - 1])


def _followers(session: Session, current: VersionRow) -> dict[str, int | None]:
    """Return the sites that have a champion of their own, and it is the same as everywhere's."""
    places = serving.places(session, current.model)
    return {
        site: place.version
        for site, place in places.sites.items()
        if place.version == current.id
    }


def _require_known(session: Session, model: str, site: str) -> None:
    known = {*approvals.concerned_sites(session), *serving.places(session, model).sites}
    if site not in known:
        names = ", ".join(sorted(known)) or "none yet"
        raise NotFoundError(f"no scan ever came from {site}: known sites are {names}")


def _end_staged(
    session: Session,
    run: RunRow,
    where: Sequence[str],
    elsewhere: Sequence[str],
    reason: str,
    *,
    by: Identity,
    at: datetime,
) -> None:
    note = f"rolled back at {', '.join(where)}: {reason}"
    places = serving.places(session, run.model)
    left = [
        site
        for site in elsewhere
        if (place := places.at(site)) is not None and place.version == run.candidate
    ]
    if left:
        note = f"{note}; its candidate still serves at {', '.join(left)}"
    runs.advance(session, run, RunState.SUPERSEDED, note=note, actor=by.name, at=at)


def _as_before(
    session: Session, replaced: VersionRow, where: Sequence[str], *, by: Identity, at: datetime
) -> None:
    """Put back what a rolled-back version had lifted there, and end what its failure had brought."""
    everywhere = serving.EVERYWHERE in where
    reason = f"{ref(replaced)}, promoted for it, was rolled back"
    for row in serving.lifted_for(session, replaced):
        if everywhere or staging.concerns(row.subgroup, where):
            serving.withhold(
                session,
                model=replaced.model,
                kind=Withholding(row.kind),
                subgroup=row.subgroup,
                reason=reason,
                actor=by.name,
                at=at,
            )
    for row in serving.brought_by(session, replaced):
        if everywhere or staging.lies_in(row.subgroup, where):
            reason = f"{ref(replaced)}, which failed, was rolled back"
            serving.lift(session, row, reason=reason, actor=by.name, at=at)


def _in_use_again(session: Session, version: VersionRow, *, by: Identity, at: datetime) -> None:
    """Lift what a rollback had put back."""
    lifted = {(row.kind, row.subgroup) for row in serving.lifted_for(session, version)}
    for row in serving.restrictions(session, version.model):
        if row.because_of is None and (row.kind, row.subgroup) in lifted:
            serving.lift(
                session,
                row,
                reason=f"the rollback of {ref(version)} was undone",
                actor=by.name,
                at=at,
                lifted_for=version,
            )


def _reinstate(
    session: Session, version: VersionRow, *, reason: str, by: Identity, at: datetime
) -> None:
    """Give every monitor of the model the version's own reference back."""
    for monitor in all_monitors(session):
        if monitor.specification.model == version.model:
            references.reinstate(
                session, monitor.name, version, reason=reason, actor=by.name, at=at
            )
