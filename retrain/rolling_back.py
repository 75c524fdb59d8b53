"""Rollback: the champion goes back to what served before, everywhere or at one site."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import references
from monitor.monitors import all_monitors
from registry import crash_points, ledger, serving
from registry.errors import BadInputError, ConflictError, NotFoundError
from registry.identities import Identity, Role
from registry.ledger import Entry
from registry.serving import Withholding
from registry.versions import VersionRow, of_model, ref
from retrain import runs, sites, staging
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
    seen: VersionRow | None = None,
) -> tuple[VersionRow, VersionRow]:
    """Point the champion back at the version before it; returns (replaced, restored).

    Without a site the newest promotion is taken back wherever it has come: everywhere, or at the
    sites that a staged one has reached. A staged promotion that is rolled back at one of its
    sites ends there, and goes no further.

    Parameters
    ----------
    seen : the version that the caller saw serving there, and wants replaced. Without it a
        champion that a rollback brought stays: whoever repeats a command whose success they
        did not see would go one further back.

    Raises
    ------
    NotFoundError
        If there was none before, or no such site is known.
    StaleChampionError
        If another serves than was seen; nothing is changed.
    ConflictError
        If nothing was said to be seen, and the newest move there was a rollback.
    """
    by.require(Role.OPERATOR, "roll back a champion", site=site)
    staged = staging.under_way(session, model)
    reached = staging.reached_sites(session, staged) if staged is not None else []
    where = _places(session, model, site, reached)
    current = serving.require_champion(session, model, where[0])
    if seen is None:
        _require_no_rollback(session, current, site)
    else:
        _require_seen(session, current, seen, where[0])
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
    session: Session,
    model: str,
    *,
    reason: str,
    by: Identity,
    at: datetime,
    seen: VersionRow | None = None,
) -> tuple[VersionRow, VersionRow]:
    """Undo a rollback that was a mistake; returns (replaced, restored).

    It must be the newest move of the champion everywhere: one at sites is not undone. What it had
    put back is lifted again, and the version that serves again is watched anew, by the plan of the
    run that made it. The rollback stays in the record, and counts for the plan's stop rule.

    Parameters
    ----------
    seen : the version that the caller saw serving

    Raises
    ------
    StaleChampionError
        If another serves than was seen.
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
    if seen is not None:
        _require_seen(session, current, seen, serving.EVERYWHERE)
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
    moved = _moved(newest)
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
    crash_points.reach_around_commit(session, "undo rollback")
    return current, restored


def aimed_at(
    session: Session, model: str, *, site: str | None = None
) -> tuple[VersionRow, VersionRow]:
    """Return what a rollback would replace now, and what it would restore; raises as that does."""
    staged = staging.under_way(session, model)
    reached = staging.reached_sites(session, staged) if staged is not None else []
    place = _places(session, model, site, reached)[0]
    current = serving.require_champion(session, model, place)
    return current, _before(session, current, place)


def _places(
    session: Session, model: str, site: str | None, reached: Sequence[str]
) -> list[str]:
    """Return where a rollback takes effect, of a promotion that has reached some sites or none."""
    if site is not None:
        sites.require_known(session, model, site)
        return [site]
    return [*reached] or [serving.EVERYWHERE]


def newest_move(session: Session, model: str, site: str | None = None) -> Entry | None:
    """Return the entry by which a model's champion moved last, at one site or anywhere."""
    moves = [
        entry
        for version in of_model(session, model)
        for entry in ledger.entries(session, subject=str(ref(version)))
        if entry.kind.startswith("champion.") and (site is None or site in _moved(entry))
    ]
    return max(moves, key=lambda entry: entry.sequence, default=None)


def _moved(entry: Entry) -> list[str]:
    """Return the deployments at which an entry moved the champion."""
    return list(entry.facts.get("deployments", [entry.facts["deployment"]]))


def _require_seen(session: Session, current: VersionRow, seen: VersionRow, place: str) -> None:
    """Refuse whoever saw another version serve."""
    if seen.model != current.model:
        raise BadInputError(f"{ref(seen)} is no version of {current.model}")
    if seen.id != current.id:
        raise serving.moved_meanwhile(
            session, current.model, place, seen=seen.id, now=current.id
        )


def _require_no_rollback(session: Session, current: VersionRow, site: str | None) -> None:
    """Refuse to go one further back than a rollback whose success may not have been seen."""
    newest = newest_move(session, current.model, site)
    if newest is None or newest.kind != "champion.rolled_back":
        return
    where = "" if site is None else f" at {site}"
    raise ConflictError(
        f"{newest.actor} rolled {current.model} back at {newest.recorded_at:%Y-%m-%d %H:%M} "
        f"({', '.join(_moved(newest))}: {newest.facts['reason']}): this was done, and "
        f"{ref(current)} serves{where}. To go one further back, name it: --from {ref(current)}"
    )


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
