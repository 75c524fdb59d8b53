"""A run's labels: asked for by the plan's arithmetic, called up again, and parted when they came.

A run under a plan that requests labels waits until each scan of its request is read, or known
not to be readable. Where too few can be drawn it says so with the arithmetic, and asks again
each day, since scans go on coming.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from monitor.datasets import Purpose
from monitor.evaluating import ask_for_decision
from monitor.performance.verification import VerifiedScans, verified_scans
from monitor.requests.making import (
    Sizes,
    end_request,
    make_request,
    newest_request,
)
from monitor.requests.resolving import (
    Progress,
    Unread,
    call_reserve,
    progress_of,
    state_unread,
)
from monitor.requests.tables import LabelRequestRow, Part, RequestState
from monitor.tables import EpisodeRow
from registry.canonical import Json
from registry.errors import (
    BadInputError,
    ConflictError,
    InsufficientDataError,
    RefusedError,
    RequestRefusedError,
)
from retrain import plans, run_data, runs
from retrain.change_plan import Plan
from retrain.label_arithmetic import power_of
from retrain.label_proposing import propose
from retrain.plans import AppliedPlan
from retrain.run_data import Parts
from retrain.states import RunState
from retrain.tables import RunRow

#: Growth of what came that is tried when more must be called up.
_STEP = 1.02
_MOST_GROWTH = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A request that is complete, with what came."""

    request: LabelRequestRow
    progress: Progress


def request_labels(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: AppliedPlan,
    *,
    task: str,
    actor: str,
    at: datetime,
    seed: int | None = None,
) -> LabelRequestRow:
    """Draw a run's scans; while a request of it is open, that is returned.

    Parameters
    ----------
    seed : of the draw; the run's own if None

    Raises
    ------
    ConflictError
        If the run does not wait for labels.
    RequestRefusedError
        With the arithmetic; nothing is drawn.
    PlanRefusedError, InsufficientDataError
        As `propose` does.
    """
    if run.state != RunState.AWAITING_LABELS:
        raise ConflictError(f"run {run.id} is {run.state}: it waits for no labels")
    known = newest_request(session, run.id)
    if known is not None and known.state == RequestState.OPEN:
        return known
    proposed = propose(session, run, episode, plan, task=task, at=at)
    if proposed.refusal is not None:
        raise RequestRefusedError(" ".join(proposed.in_words()))
    needs, rules = proposed.needs, plan.plan.labels
    return make_request(
        session,
        proposed.frame,
        run=run.id,
        episode=episode.id,
        model=run.model,
        task=task,
        version=run.base,
        sizes=Sizes(gate=needs.gate, selection=needs.selection, training=needs.training),
        favour_near=needs.rules.favour_near_threshold,
        seed=run.seed if seed is None else seed,
        terms={
            "plan": plan.digest,
            "provenance": [one.value for one in rules.provenance],
            "ai_influenced_may_train": rules.ai_influenced_may_train,
            "arithmetic": needs.as_record(),
        },
        actor=actor,
        at=at,
    )


def resolve(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: AppliedPlan,
    *,
    task: str,
    actor: str,
    at: datetime,
) -> Resolved | None:
    """Ask for a run's labels, call up the reserve, or return them once all have come.

    Where something is still waited for, the run's note says what.
    """
    request = newest_request(session, run.id)
    if request is None:
        try:
            request = request_labels(session, run, episode, plan, task=task, actor=actor, at=at)
        except (InsufficientDataError, RefusedError, BadInputError) as error:
            runs.annotate(session, run, _first_of(error), actor=actor, at=at)
            return None
    progress = progress_of(session, request)
    if request.state == RequestState.COMPLETE:
        return Resolved(request=request, progress=progress)
    if progress.waiting == 0:
        called = call_reserve(session, request, _short(progress, plan.plan), actor=actor, at=at)
        if called == 0:
            _complete(session, request, progress, plan.plan, actor=actor, at=at)
            return Resolved(request=request, progress=progress)
        progress = progress_of(session, request)
    # How many have come already is the progress', which changes with every label.
    note = (
        f"waits for {len(progress.items)} scans to be read, as label request {request.id} asks"
    )
    runs.annotate(session, run, note, actor=actor, at=at, facts={"request": request.id})
    return None


def cancel(
    session: Session, request: LabelRequestRow, *, reason: str, actor: str, at: datetime
) -> None:
    """Wait no longer for a request; its run asks anew when it is decided about next.

    Raises
    ------
    ConflictError
        If it has ended.
    """
    _require_open(request)
    end_request(session, request, RequestState.CANCELLED, reason=reason, actor=actor, at=at)


def close(
    session: Session, request: LabelRequestRow, *, reason: str, actor: str, at: datetime
) -> int:
    """Take what has come for all that will come; return how many scans count as not read.

    Raises
    ------
    ConflictError
        If it has ended.
    """
    _require_open(request)
    waiting = [
        item.scan.id for item in progress_of(session, request).items if item.became.waits
    ]
    state_unread(session, request, waiting, reason=Unread.NOT_AVAILABLE, actor=actor, at=at)
    run = runs.require_run(session, request.run)
    plan = plans.by_id(session, run.plan)
    _complete(
        session,
        request,
        progress_of(session, request),
        plan.plan,
        actor=actor,
        at=at,
        why=reason,
    )
    ask_for_decision(session, session.get_one(EpisodeRow, request.episode))
    return len(waiting)


def _require_open(request: LabelRequestRow) -> None:
    if request.state != RequestState.OPEN:
        raise ConflictError(
            f"label request {request.id} is {request.state}: it is waited for no longer"
        )


def request_of(session: Session, run: RunRow) -> LabelRequestRow | None:
    """Return the request whose labels a run's data were frozen from."""
    number = run.settings.get("label_request")
    return None if number is None else session.get_one(LabelRequestRow, number)


def requested_parts(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: Plan,
    resolved: Resolved,
    *,
    task: str,
    at: datetime,
) -> Parts:
    """Return the labels of a complete request by what they are for, and note it with the run.

    Labels of patients whom it did not draw for gate or selection may train, too.

    Raises
    ------
    InsufficientDataError
        If there are fewer than the plan asks for.
    """
    progress = resolved.progress
    gate = progress.labelled(Part.GATE)
    # Two pseudonyms may have turned out to be one patient since they were drawn.
    judging = run_data.patients_of(gate)
    selection = run_data.without(judging, progress.labelled(Part.SELECTION))
    apart = run_data.patients_of(
        [item.scan for part in (Part.GATE, Part.SELECTION) for item in progress.of(part)]
    )
    shifted = run_data.permitted_scans(session, episode, run.model, plan.data, at=at)
    training = {scan.id: scan for scan in progress.labelled(Part.TRAINING)}
    for influenced in (False, True) if plan.labels.ai_influenced_may_train else (False,):
        for scan in run_data.labelled_scans(
            session, shifted, task=task, rules=plan.labels, ai_influenced=influenced
        ):
            training.setdefault(scan.id, scan)
    teaching = run_data.without(apart, [training[scan] for scan in sorted(training)])
    run_data.require_enough([*gate, *selection, *teaching], needed=plan.labels.at_least)
    run.settings = {**run.settings, "label_request": resolved.request.id}
    return {
        Purpose.LOCKED_DRIFTED: gate,
        Purpose.SELECTION: selection,
        Purpose.TRAINING: teaching,
    }


def say_what_lacks(
    session: Session, run: RunRow, resolved: Resolved, problem: str, *, actor: str, at: datetime
) -> None:
    """Let a run say why a complete request does not suffice, and what can be done."""
    note = (
        f"label request {resolved.request.id} is complete, and does not suffice: {problem}. "
        f"once more scans have come, `driftward label request make {run.id}` draws anew"
    )
    runs.annotate(session, run, note, actor=actor, at=at)


def outside_labels(session: Session, run: RunRow, episode: EpisodeRow) -> VerifiedScans:
    """Return what labels of the shift that nobody requested would say if all scans had one."""
    return verified_scans(
        session,
        run_data.shifted_scans(session, episode, run.model),
        version=run.base,
        task=run.settings["task"],
    )


def achieved_power(progress: Progress, plan: Plan) -> float:
    """Return the power of the labels that came for the gates."""
    return power_of(
        plan.labels,
        plan.gates.limits,
        uses=plan.gates.locked_set_uses,
        positives=progress.patients(Part.GATE, finding=True),
        negatives=progress.patients(Part.GATE, finding=False),
    )


def _complete(
    session: Session,
    request: LabelRequestRow,
    progress: Progress,
    plan: Plan,
    *,
    actor: str,
    at: datetime,
    why: str = "every scan is read, or cannot be",
) -> None:
    counts: dict[str, Json] = {part.value: {**progress.counts(part)} for part in Part}
    power = achieved_power(progress, plan)
    end_request(
        session,
        request,
        RequestState.COMPLETE,
        reason=f"{why}: the labels have a power of {power:.2f}",
        actor=actor,
        at=at,
        facts={"came": counts, "power": power},
    )


def _short(progress: Progress, plan: Plan) -> int:
    """Return how many patients more are to be read for the plan's power and number of labels."""
    rules = plan.labels.request
    if rules is None:
        return 0
    positives = progress.patients(Part.GATE, finding=True)
    negatives = progress.patients(Part.GATE, finding=False)
    read = progress.patients(Part.GATE)
    labelled = sum(len(progress.labelled(part)) for part in Part)
    lacking = max(0, plan.labels.at_least - labelled)
    growth = 1.0
    while growth < _MOST_GROWTH and not _suffice(
        plan, math.floor(positives * growth), math.floor(negatives * growth)
    ):
        growth *= _STEP
    wanted = max(lacking, math.ceil((growth - 1.0) * max(read, 1)))
    return math.ceil(wanted / (1.0 - rules.unreadable))


def _suffice(plan: Plan, positives: int, negatives: int) -> bool:
    rules, limits = plan.labels.request, plan.gates.limits
    if rules is None:
        return True
    power = power_of(
        plan.labels,
        limits,
        uses=plan.gates.locked_set_uses,
        positives=positives,
        negatives=negatives,
    )
    return (
        power >= rules.power
        and positives >= limits.minimum_positives
        and negatives >= limits.minimum_negatives
    )


def _first_of(error: Exception) -> str:
    """Return what an error says, as a run's note: without a full stop, the capital small."""
    text = str(error).rstrip(".")
    return f"waits for scans that can be drawn: {text[:1].lower()}{text[1:]}"
