"""Where a model serves, and how far a staged promotion is, as the model's page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from api.pages import states, wording
from api.pages.states import State
from registry import runtimes, serving
from registry.runtimes import Deployment
from registry.versions import ref
from retrain import plans, staging
from retrain.states import RunState
from retrain.tables import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceLine:
    """What serves at one place."""

    place: str
    version: str
    since: str
    #: why its results are withheld there; None where they are not
    out_of_use: str | None
    #: of its clinical runtime; None where none was declared
    runtime: State | None
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLine:
    """One stage of a promotion: passed, present, or still to come."""

    where: str
    state: State
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedPanel:
    """A promotion in stages: before it, on its way, or come everywhere."""

    run: int
    candidate: str
    stages: tuple[StageLine, ...]
    #: None once it serves everywhere
    next: str | None
    #: it serves at some sites, and not everywhere yet
    under_way: bool
    #: why the next stage is not entered now
    waits_for: tuple[str, ...]
    #: what a person types where nothing is waited for
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """Where a model serves."""

    places: tuple[PlaceLine, ...]
    staged: StagedPanel | None


#: In these a run's stages are of interest: of one that was taken back they are not.
_STAGED = frozenset({RunState.AWAITING_APPROVAL, RunState.PROMOTING, RunState.PROMOTED})


def deployed(session: Session, model: str, *, now: datetime) -> Deployed:
    """Return where a model serves, and how far its promotion is."""
    run = staging.under_way(session, model)
    return Deployed(
        places=tuple(_place(one) for one in runtimes.deployments(session, model, now=now)),
        staged=staged_panel(session, run, now=now) if run is not None else None,
    )


def _place(one: Deployment) -> PlaceLine:
    runtime = one.runtime
    return PlaceLine(
        place="Everywhere" if one.deployment == serving.EVERYWHERE else one.deployment,
        version=str(ref(one.champion)) if one.champion else "none",
        since=wording.moment(one.since) if one.since else "–",
        out_of_use=one.out_of_use,
        runtime=states.RUNTIMES[runtime.state] if runtime else None,
        says=runtime.says if runtime else "",
    )


def staged_panel(session: Session, run: RunRow, *, now: datetime) -> StagedPanel | None:
    """Return a run's stages; None where it has none, or they are of no interest."""
    plan = plans.by_id(session, run.plan).plan
    if RunState(run.state) not in _STAGED or not staging.is_staged(run, plan):
        return None
    found = staging.staging_of(session, run, at=now)
    return StagedPanel(
        run=run.id,
        candidate=found.candidate,
        stages=tuple(
            StageLine(
                where=str(stage) if stage.sites else "Everywhere",
                state=states.STAGE_AHEAD if stage.since is None else states.STAGE_REACHED,
                since=wording.moment(stage.since) if stage.since else "–",
            )
            for stage in found.stages
        ),
        next=str(found.next) if found.next else None,
        under_way=run.state == RunState.PROMOTING,
        waits_for=found.waits_for,
        command=f"driftward promote {found.candidate}",
    )
