"""The job that trains, in a replay: heads are refitted on stored embeddings, by the real strategies.

A strategy that changes the encoder would need pixels and hours. It is not simulated: it is
named, and where nothing else is left to try the run ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from monitor.datasets import Purpose
from monitor.tables import DatasetRow
from registry import ledger
from registry.bundles.heads import Floats, HeadState
from registry.canonical import digest_of, sha256
from registry.errors import BadInputError, DriftwardError, InsufficientDataError
from registry.identities import SYSTEM
from registry.jobs import Claim, fence
from registry.versions import Origin, VersionRow, ref
from retrain import plans, runs
from retrain.backtesting.scratch import Scratch
from retrain.backtesting.stored_reading import Heads
from retrain.change_plan import Strategy, attempts
from retrain.run_examples import examples_of
from retrain.states import RunState
from retrain.strategies.linear_probe import probed
from retrain.strategies.making import Made, selection_facts
from retrain.strategies.objective import Objective
from retrain.strategies.objectives import objective_of
from retrain.strategies.recalibration import reread
from retrain.strategies.scans import Scans
from retrain.tables import RunRow
from retrain.workspace import Role

_Refit: TypeAlias = Callable[[Objective, HeadState, Floats, Scans], Made]
#: What embeddings suffice for.
REFITS: Mapping[Strategy, _Refit] = {
    Strategy.RECALIBRATION: reread,
    Strategy.LINEAR_PROBE: probed,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What one strategy made of a champion's heads, and what the selection set says of it."""

    strategy: Strategy
    heads: Heads
    facts: Mapping[str, float]


class RefittingTrainer:
    """Does the job `train` in a replay: payload {run}."""

    def __init__(self, scratch: Scratch, hours: Mapping[Strategy, float]) -> None:
        self._scratch = scratch
        self._hours = hours

    def handle(self, claim: Claim) -> None:
        """Refit the champion's head as the run's strategies ask, and register the best."""
        now, database = self._scratch.clock.now(), self._scratch.database
        with database.transaction() as session:
            fence(session, claim)
            run = runs.require_run(session, int(claim.payload["run"]))
            if run.state != RunState.QUEUED:
                return
            runs.advance(
                session, run, RunState.TRAINING, note="training", actor=SYSTEM.name, at=now
            )
            tried = attempts(
                plans.by_id(session, run.plan).plan.training, runs.strategies_of(run)
            )
            strategies = list(dict.fromkeys(strategy for strategy, _ in tried))
            beyond = [one for one in strategies if one not in REFITS]
            simulated = [one for one in strategies if one in REFITS]
            known = [self._hours[one] for one in strategies if one in self._hours]
            run.settings = {
                **run.settings,
                "not_simulated": [one.value for one in beyond],
                "unknown_hours": [one.value for one in beyond if one not in self._hours],
                "seconds": 3600 * sum(known),
            }
            if not simulated:
                names = " and ".join(one.value for one in beyond)
                runs.advance(
                    session,
                    run,
                    RunState.SUPERSEDED,
                    note=f"not simulated: {names} changes the encoder",
                    actor=SYSTEM.name,
                    at=now,
                )
                return
            try:
                self._train(session, run, simulated)
            except DriftwardError as error:
                runs.advance(
                    session, run, RunState.FAILED, note=str(error), actor=SYSTEM.name, at=now
                )

    def _train(self, session: Session, run: RunRow, strategies: Sequence[Strategy]) -> None:
        base = session.get_one(VersionRow, run.base)
        task = run.settings["task"]
        found = self._scratch.reader
        examples = examples_of(session, run, found.task(base, task))
        best = best_repair(
            found.heads(base),
            task,
            found.embeddings(examples.scans),
            without_pixels(examples.targets.tolist(), examples.roles, examples.shifted),
            strategies,
        )
        version = _register(
            session,
            base,
            best,
            training=_training_data(session, run),
            at=self._scratch.clock.now(),
        )
        found.learn(version, best.heads)
        run.candidate, run.strategy = version.id, best.strategy.value
        runs.advance(
            session,
            run,
            RunState.VALIDATING,
            note=f"candidate {ref(version)} is refitted",
            actor=SYSTEM.name,
            at=self._scratch.clock.now(),
        )
        runs.ask_for_validation(session, run)


def best_repair(
    heads: Heads,
    task: str,
    embeddings: Floats,
    scans: Scans,
    strategies: Sequence[Strategy],
) -> Repair:
    """Return the repair with the least loss on the selection set, the first of equals.

    Raises
    ------
    InsufficientDataError
        If none could be made; it says why each could not.
    """
    made: list[Repair] = []
    refused: list[str] = []
    for strategy in strategies:
        try:
            made.append(_repair(heads, task, embeddings, scans, strategy))
        except (BadInputError, InsufficientDataError) as error:
            refused.append(str(error))
    if not made:
        raise InsufficientDataError(what="; ".join(refused), needed=1, got=0)
    return min(made, key=lambda one: one.facts["selection_loss"])


def _repair(
    heads: Heads, task: str, embeddings: Floats, scans: Scans, strategy: Strategy
) -> Repair:
    [before] = [one for one in heads.tasks if one.name == task]
    made = REFITS[strategy](objective_of(before), heads.state, embeddings, scans)
    facts = selection_facts(made, scans)
    tasks = tuple(
        replace(one, temperature=facts["temperature"], threshold=facts["threshold"])
        if one.name == task
        else one
        for one in heads.tasks
    )
    return Repair(strategy=strategy, heads=Heads(state=made.heads, tasks=tasks), facts=facts)


def without_pixels(
    targets: Sequence[int], roles: Sequence[Role], shifted: Sequence[bool]
) -> Scans:
    """Return examples as strategies read them that learn from embeddings alone, [n] each."""
    return Scans(
        pixels=np.empty((0, 3, 0, 0), dtype=np.float32),
        targets=np.array(targets, dtype=np.int64),
        roles=np.array(roles, dtype=np.int8),
        shifted=np.array(shifted, dtype=np.bool_),
    )


def _training_data(session: Session, run: RunRow) -> list[dict[str, Any]]:
    rows = [session.get_one(DatasetRow, run.datasets[one]) for one in _LEARNT_FROM]
    return [
        {"digest": row.digest, "description": row.description, "scans": row.scans}
        for row in rows
    ]


_LEARNT_FROM = (Purpose.TRAINING, Purpose.SELECTION)


def _register(
    session: Session,
    base: VersionRow,
    made: Repair,
    *,
    training: Sequence[dict[str, Any]],
    at: Any,
) -> VersionRow:
    """Register a candidate that exists in the replay alone: its base with other heads."""
    newest = session.scalar(
        select(func.max(VersionRow.number)).where(VersionRow.model == base.model)
    )
    state = made.heads.state
    digest = digest_of({name: sha256(state[name].tobytes()) for name in sorted(state)})
    card = {**base.card, "training_data": [*base.card["training_data"], *training]}
    row = VersionRow(
        model=base.model,
        number=(newest or 0) + 1,
        tier=base.tier,
        origin=Origin.RUN.value,
        base=base.id,
        bundle_digest=digest,
        encoder_digest=base.encoder_digest,
        space=base.space,
        dimension=base.dimension,
        card=card,
        artifact_uri="",
        mlflow_run="",
        reading=base.reading,
        created_at=at,
        created_by=SYSTEM.name,
    )
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor=SYSTEM.name,
        kind="version.registered",
        subject=str(ref(row)),
        facts={"base": str(ref(base))},
        seals=[row],
    )
    return row
