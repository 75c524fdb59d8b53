"""Staged promotions: where a candidate serves already, and what its next stage waits for.

Where it serves is what says how far it is: the sites of the plan's first stages, until it serves
everywhere. Nothing else is kept of a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor import parts
from monitor.assembling.counting import not_withdrawn
from monitor.episodes.episodes import Impact, open_episodes
from monitor.monitors import all_monitors
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow, ResultRow, ScanRow
from registry import recalls, runtimes, serving
from registry.canonical import Json
from registry.serving import Withholding
from registry.versions import VersionRow, ref
from retrain import plans
from retrain.change_plan import Authority, Plan, StageRules
from retrain.plans import AppliedPlan
from retrain.states import RunState
from retrain.tables import RunRow, WatchRow
from retrain.watching.states import WatchState


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a promotion; the last is everywhere."""

    #: none for everywhere
    sites: tuple[str, ...]
    #: when it was entered; None while it is ahead
    since: datetime | None

    def __str__(self) -> str:
        return " and ".join(self.sites) or "everywhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """How far a staged promotion is."""

    run: int
    candidate: str
    stages: tuple[Stage, ...]
    #: why the next stage is not entered now, each in a sentence; none where it may be
    waits_for: tuple[str, ...]

    @property
    def next(self) -> Stage | None:
        """The stage that follows; None at the end."""
        return next((stage for stage in self.stages if stage.since is None), None)

    def to_dict(self) -> dict[str, Json]:
        return {
            "run": self.run,
            "candidate": self.candidate,
            "stages": [
                {
                    "sites": list(stage.sites),
                    "since": stage.since.isoformat() if stage.since else None,
                }
                for stage in self.stages
            ],
            "waits_for": list(self.waits_for),
        }


def under_way(session: Session, model: str) -> RunRow | None:
    """Return the run whose candidate serves at some sites, and not everywhere yet."""
    return session.scalars(
        select(RunRow)
        .where(RunRow.model == model, RunRow.state == RunState.PROMOTING.value)
        .order_by(RunRow.id)
    ).first()


def is_staged(run: RunRow, plan: Plan) -> bool:
    """Return whether a run is promoted in stages: a first version replaces nothing."""
    return bool(plan.stages) and run.champion_before is not None


def stages_of(session: Session, run: RunRow) -> tuple[Stage, ...]:
    """Return a run's stages as its plan has them, each with when it was entered."""
    plan = plans.by_id(session, run.plan).plan
    candidate = run.candidate if run.state != RunState.AWAITING_APPROVAL else None
    entered = _entered(session, run.model, candidate)
    stages = []
    for rules in plan.stages if is_staged(run, plan) else []:
        times = [entered[site] for site in rules.sites if site in entered]
        complete = len(times) == len(rules.sites)
        stages.append(
            Stage(sites=tuple(rules.sites), since=max(times) if times and complete else None)
        )
    everywhere = entered.get(serving.EVERYWHERE)
    return (*stages, Stage(sites=(), since=everywhere))


def reached_sites(session: Session, run: RunRow) -> list[str]:
    """Return the sites that a staged promotion has reached."""
    return [
        site
        for stage in stages_of(session, run)
        if stage.since is not None
        for site in stage.sites
    ]


def staging_of(session: Session, run: RunRow, *, at: datetime) -> Staging:
    """Return how far a run's promotion is, and what its next stage waits for."""
    stages = stages_of(session, run)
    waits: tuple[str, ...] = ()
    if run.state == RunState.PROMOTING:
        waits = tuple(_waits_for(session, run, stages, at=at))
    return Staging(
        run=run.id,
        candidate=str(ref(session.get_one(VersionRow, run.candidate))),
        stages=stages,
        waits_for=waits,
    )


def _entered(session: Session, model: str, candidate: int | None) -> dict[str, datetime]:
    """Return since when a version has been champion, by deployment: for the first time there."""
    entered: dict[str, datetime] = {}
    for reign in serving.reigns(session, model):
        if reign.version == candidate:
            entered.setdefault(reign.deployment, reign.since)
    return entered


def _waits_for(
    session: Session, run: RunRow, stages: Sequence[Stage], *, at: datetime
) -> Iterator[str]:
    plan = plans.by_id(session, run.plan)
    reached = [stage for stage in stages if stage.since is not None]
    sites = [site for stage in reached for site in stage.sites]
    first = min(stage.since for stage in reached if stage.since is not None)
    yield from _other_plan(session, run, plan)
    yield from _too_soon(session, run, plan.plan.stages[len(reached) - 1], reached[-1], at)
    yield from _out_of_use(session, run.model, sites, since=first)
    yield from _stopping_episodes(session, run, plan.plan, sites, since=first)
    yield from _failed_watches(session, run)
    yield from _unattested(session, run.model, sites, at=at)
    flag = recalls.flag_of(session, session.get_one(VersionRow, run.candidate))
    if flag is not None:
        yield flag.in_words()


def _other_plan(session: Session, run: RunRow, plan: AppliedPlan) -> Iterator[str]:
    now = plans.require_plan(session, run.model)
    if now.digest != plan.digest:
        yield (
            f"plan {now.number} is in force, and the approvals are of plan {plan.number}: roll "
            "back, or apply that plan again"
        )
    elif now.plan.authority is Authority.NONE:
        yield f"plan {now.number} gives no authority to change {run.model}"


def _too_soon(
    session: Session, run: RunRow, rules: StageRules, stage: Stage, at: datetime
) -> Iterator[str]:
    assert stage.since is not None  # noqa: S101 - it was reached
    until = stage.since + timedelta(days=rules.days)
    if at < until:
        yield f"{rules.days:g} days at {stage} end {until:%Y-%m-%d %H:%M}"
    if not rules.scans:
        return
    read = session.scalar(
        select(func.count(func.distinct(ResultRow.scan)))
        .join(ScanRow, ScanRow.id == ResultRow.scan)
        .where(
            ResultRow.version == run.candidate,
            ScanRow.arrived_at >= stage.since,
            *parts.of_arrivals(session, ResultRow.scan, since=stage.since),
            ScanRow.site.in_(stage.sites),
            not_withdrawn(),
        )
    )
    if (read or 0) < rules.scans:
        yield f"{read or 0} of {rules.scans} scans were read at {stage}"


def _out_of_use(
    session: Session, model: str, sites: Sequence[str], *, since: datetime
) -> Iterator[str]:
    """Yield what was suspended, or restricted since it serves there, at the reached sites."""
    for row in serving.restrictions(session, model):
        counts = row.kind == Withholding.SUSPEND or row.since >= since
        if counts and concerns(row.subgroup, sites):
            where = row.subgroup or "everywhere"
            yield f"{model} is out of use ({where}): {row.reason}"


def _stopping_episodes(
    session: Session, run: RunRow, plan: Plan, sites: Sequence[str], *, since: datetime
) -> Iterator[str]:
    """Yield what opened where it serves since: with a measured impact, or a cause to restrict on."""
    for monitor in all_monitors(session):
        if monitor.specification.model != run.model:
            continue
        for row in open_episodes(session, monitor.name):
            began = row.opened_at >= since and row.id != run.episode
            if began and concerns(row.subgroup, sites) and _matters(row, plan):
                yield (
                    f"episode {row.id} is open ({row.subgroup or 'all scans'}): cause "
                    f"{row.cause}, impact {row.impact}"
                )


def _matters(row: EpisodeRow, plan: Plan) -> bool:
    return row.impact == Impact.MEASURED or row.cause in plan.restrict_on


def _failed_watches(session: Session, run: RunRow) -> Iterator[str]:
    for row in session.scalars(
        select(WatchRow)
        .where(WatchRow.run == run.id, WatchRow.state == WatchState.FAILED.value)
        .order_by(WatchRow.id)
    ):
        yield f"its watch at {row.deployment} failed: {row.note}"


def _unattested(
    session: Session, model: str, sites: Sequence[str], *, at: datetime
) -> Iterator[str]:
    for row in runtimes.runtimes(session, model):
        if row.deployment not in sites:
            continue
        found = runtimes.standing(session, row, now=at)
        if found.pending:
            yield f"the runtime at {row.deployment} is {found.state.value}: {found.says}"


def concerns(subgroup: str | None, sites: Sequence[str]) -> bool:
    """Return whether a subgroup, or all scans, has scans of one of these sites.

    >>> concerns("site=north & sex=F", ["north"]), concerns("site=north", ["south"])
    (True, False)
    >>> concerns("sex=F", ["south"]), concerns(None, ["south"])
    (True, True)
    """
    named = _sites(subgroup)
    return not named or any(site in sites for site in named)


def lies_in(subgroup: str | None, sites: Sequence[str]) -> bool:
    """Return whether every scan of a subgroup comes from these sites."""
    return any(site in sites for site in _sites(subgroup))


def _sites(subgroup: str | None) -> tuple[str, ...]:
    return Subgroup.parse(subgroup).sites if subgroup else ()
