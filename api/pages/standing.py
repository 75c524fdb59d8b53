"""How a model stands now: what serves, what is withheld, and what is to be done next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.pages import states, wording
from api.pages.states import State
from monitor import references
from monitor.episodes import episodes
from monitor.episodes.episodes import Impact
from monitor.monitors import Monitor, all_monitors
from monitor.tables import EpisodeRow
from monitor.verdict_history import unjudged_windows
from registry import recalls, serving
from registry.serving import Reign, Restriction, Withholding
from registry.versions import VersionRow, ref
from retrain import runs
from retrain.states import RunState, has_ended
from retrain.tables import RunRow
from retrain.watching.showing import of_champions
from retrain.watching.states import WatchState


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What a person, or the next job, does."""

    text: str
    #: page on which it is done, if there is one
    link: str | None = None
    #: a person must
    urgent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One model, under one of its monitors or under none."""

    model: str
    tier: str
    monitor: Monitor | None
    champion: VersionRow | None
    champion_since: datetime | None
    restrictions: tuple[Restriction, ...]
    #: the open one; of several the one that matters most
    episode: EpisodeRow | None
    #: how many are open besides
    more_open: int
    #: the newest that has not ended
    run: RunRow | None
    state: State
    next_step: NextStep

    @property
    def champion_name(self) -> str | None:
        return str(ref(self.champion)) if self.champion else None

    @property
    def withheld(self) -> str | None:
        """What is out of use, in words."""
        if not self.restrictions:
            return None
        names = [wording.subgroup_name(row.subgroup) for row in self.restrictions]
        return " and ".join(dict.fromkeys(names))


def standing_of(
    session: Session, *, model: str, tier: str, monitor: Monitor | None, now: datetime
) -> Standing:
    """Return how a model stands."""
    champion = serving.champion(session, model)
    restrictions = tuple(serving.restrictions(session, model))
    open_now = episodes.open_episodes(session, monitor.name) if monitor else []
    # Of several, one that is known to matter, and of these the oldest.
    episode = min(
        open_now, key=lambda row: (row.impact != Impact.MEASURED, row.id), default=None
    )
    run = next(
        (row for row in runs.all_runs(session, model) if not has_ended(RunState(row.state))),
        None,
    )
    return Standing(
        model=model,
        tier=tier,
        monitor=monitor,
        champion=champion,
        champion_since=_since(session, model) if champion else None,
        restrictions=restrictions,
        episode=episode,
        more_open=max(0, len(open_now) - 1),
        run=run,
        state=_state(session, model, champion, restrictions, episode),
        next_step=_recall_step(session, champion, restrictions)
        or _watch_step(session, champion)
        or _next_step(session, monitor, champion, episode, run, now),
    )


def monitored_by(session: Session, model: str) -> list[Monitor]:
    """Return the monitors of a model."""
    return [
        monitor for monitor in all_monitors(session) if monitor.specification.model == model
    ]


def watches_with(session: Session, model: str) -> list[str]:
    """Return the monitors whose monitoring encoder is a version of this model."""
    return [
        monitor.name
        for monitor in all_monitors(session)
        if monitor.specification.monitoring_encoder.rpartition("@")[0] == model
    ]


def _since(session: Session, model: str) -> datetime | None:
    return session.scalars(
        select(Reign.since).where(
            Reign.model == model, Reign.deployment == serving.EVERYWHERE, Reign.until.is_(None)
        )
    ).first()


def suspended(restrictions: Sequence[Restriction]) -> bool:
    """Return whether a model is out of use everywhere; at one site it is restricted."""
    return any(row.kind == Withholding.SUSPEND and row.subgroup is None for row in restrictions)


def _state(
    session: Session,
    model: str,
    champion: VersionRow | None,
    restrictions: tuple[Restriction, ...],
    episode: EpisodeRow | None,
) -> State:
    if suspended(restrictions):
        return states.SUSPENDED
    if champion is not None and recalls.flag_of(session, champion) is not None:
        return states.RECALLED
    if episode is not None:
        return states.EPISODE_OPEN
    if restrictions:
        return states.RESTRICTED
    if champion is not None:
        return states.IN_USE
    return states.MONITORING if watches_with(session, model) else states.NOT_SERVING


def _recall_step(
    session: Session, champion: VersionRow | None, restrictions: tuple[Restriction, ...]
) -> NextStep | None:
    """Return what comes first where a recalled version serves."""
    if (
        champion is None
        or suspended(restrictions)
        or recalls.flag_of(session, champion) is None
    ):
        return None
    return NextStep(
        text=f"{ref(champion)} is recalled: roll back or suspend",
        link=f"/models/{champion.model}",
        urgent=True,
    )


def _watch_step(session: Session, champion: VersionRow | None) -> NextStep | None:
    """Return what comes first where a version that serves failed its watch."""
    if champion is None or not any(
        row.version == champion.id and row.state == WatchState.FAILED
        for row in of_champions(session, champion.model)
    ):
        return None
    return NextStep(
        text=f"{ref(champion)} failed its watch: roll back, or keep it suspended",
        link=f"/models/{champion.model}#watch",
        urgent=True,
    )


#: What a run that has not ended waits for.
_RUN_STEPS = {
    RunState.PLANNED: "Run {run} is planned",
    RunState.AWAITING_LABELS: "Run {run} waits for labels",
    RunState.QUEUED: "Run {run} waits for a worker",
    RunState.TRAINING: "Run {run} is training",
    RunState.VALIDATING: "Run {run} is being validated",
    RunState.SHADOW: "Run {run} is in shadow",
    RunState.AWAITING_APPROVAL: "Approve run {run}",
    RunState.PROMOTING: "Run {run} goes from site to site",
}


def _next_step(
    session: Session,
    monitor: Monitor | None,
    champion: VersionRow | None,
    episode: EpisodeRow | None,
    run: RunRow | None,
    now: datetime,
) -> NextStep:
    if run is not None:
        state = RunState(run.state)
        return NextStep(
            text=_RUN_STEPS[state].format(run=run.id),
            link=f"/runs/{run.id}",
            urgent=state in {RunState.AWAITING_APPROVAL, RunState.AWAITING_LABELS},
        )
    if episode is not None:
        return _stuck_step(session, episode)
    return _calm_step(session, monitor, champion, now)


#: Ends of a run after which a person must look.
_STUCK = {RunState.FAILED: "Run {run} failed", RunState.REJECTED: "Run {run} was rejected"}


def _stuck_step(session: Session, episode: EpisodeRow) -> NextStep:
    """Return what comes next where an episode is open and no run under way."""
    last = session.scalars(
        select(RunRow).where(RunRow.episode == episode.id).order_by(RunRow.id.desc())
    ).first()
    if last is not None and RunState(last.state) in _STUCK:
        text = _STUCK[RunState(last.state)].format(run=last.id)
        return NextStep(text=f"{text}: look at it", link=f"/runs/{last.id}", urgent=True)
    return NextStep(
        text=f"Look at episode {episode.id}", link=f"/episodes/{episode.id}", urgent=True
    )


def _calm_step(
    session: Session, monitor: Monitor | None, champion: VersionRow | None, now: datetime
) -> NextStep:
    """Return what comes next where no episode is open and no run under way."""
    if monitor is None:
        return NextStep(text="Nothing to do" if champion is None else "Apply a monitor")
    if champion is None:
        return NextStep(text="Start its first run")
    if not references.deciding(session, monitor.name):
        return NextStep(text="Build a reference", link=f"/monitors/{monitor.name}", urgent=True)
    waiting = unjudged_windows(session, monitor, until=now)
    if waiting:
        return NextStep(text=f"{wording.counted(len(waiting), 'window')} to be judged")
    return NextStep(text=f"Window ends {wording.moment(window_end(monitor, now))}")


def window_end(monitor: Monitor, now: datetime) -> datetime:
    """Return when the window ends in which `now` lies, or the first one if none has begun."""
    spec = monitor.specification
    passed = max(0, (now - spec.anchor) // spec.window_length)
    return spec.anchor + (passed + 1) * spec.window_length
