"""What is asked of a backtest: which monitor, which span, which plan, and how it is compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.monitors import Monitor, require_monitor
from monitor.performance.finding import findings_judged
from monitor.tables import ReferenceRow
from registry import serving
from registry.canonical import sha256
from registry.errors import BadInputError, NotFoundError
from retrain import plans
from retrain.change_plan import Autonomy, Plan, parse_plan
from retrain.gates.outcome import Gate

#: Gates that look at pixels or at the network itself, which a replay has none of.
NOT_SIMULATED = frozenset({Gate.PARITY, Gate.ROBUSTNESS, Gate.DEPLOYMENT})
#: How often what came is looked at.
LOOK = timedelta(days=1)
#: Between two updates of the periodic policy.
PERIOD = timedelta(days=28)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A backtest that can be asked: its span is one, and its plan is of the monitor's model."""

    monitor: Monitor
    #: a span of arrival, [since, until)
    since: datetime
    until: datetime
    plan: Plan
    #: of the plan's text, as it stands in its file
    digest: str
    #: where the text is from, for people
    source: str
    period: timedelta = PERIOD
    look: timedelta = LOOK

    def __post_init__(self) -> None:
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment.utcoffset() is None:
                raise BadInputError(
                    f"{name} {moment.isoformat()} has no time zone: write it as "
                    f"{moment.replace(tzinfo=UTC).isoformat()}"
                )
        if self.since >= self.until:
            raise BadInputError(
                f"since {self.since:%Y-%m-%d %H:%M} is not before until "
                f"{self.until:%Y-%m-%d %H:%M}: nothing lies between them"
            )
        for name, span in (("period", self.period), ("look", self.look)):
            if span < timedelta(hours=1):
                raise BadInputError(f"a {name} of {span} is too short: give an hour or more")
        model = self.monitor.specification.model
        if self.plan.model != model:
            raise BadInputError(
                f"{self.source} is a plan of {self.plan.model}, and monitor "
                f"{self.monitor.name} watches {model}"
            )
        if not self.simulated_gates:
            names = ", ".join(gate.value for gate in self.plan.gates.required)
            raise BadInputError(
                f"{self.source} requires no gate but {names}, which need pixels: a backtest "
                "could refuse nothing"
            )

    @property
    def simulated_gates(self) -> tuple[Gate, ...]:
        """The plan's gates that a replay can evaluate, in the plan's order."""
        return tuple(gate for gate in self.plan.gates.required if gate not in NOT_SIMULATED)

    @property
    def gates_left_out(self) -> tuple[Gate, ...]:
        """The plan's other gates, in its order."""
        return tuple(gate for gate in self.plan.gates.required if gate in NOT_SIMULATED)

    @property
    def rehearsed(self) -> Plan:
        """The plan as it is in force in the replay: with these gates alone.

        What it would only propose, people are taken to take up at once.
        """
        simulated = [*self.simulated_gates]
        left = [gate for gate in self.plan.gates.people_decide if gate in simulated]
        gates = self.plan.gates.model_copy(
            update={"required": simulated, "people_decide": left}
        )
        # No candidate reads anything in a replay, so that no stage could show anything.
        changed: dict[str, object] = {"gates": gates, "stages": []}
        if self.plan.autonomy is Autonomy.PROPOSE:
            changed["autonomy"] = Autonomy.ACT
        return self.plan.model_copy(update=changed)


def ask(
    session: Session,
    monitor: str,
    *,
    since: datetime | None,
    until: datetime,
    text: str | None = None,
    source: str = "the plan in force",
    period: timedelta = PERIOD,
    look: timedelta = LOOK,
) -> Question:
    """Return the question of a monitor's past under a plan.

    Parameters
    ----------
    since : None for the time when the monitor's first reference was accepted
    text : of a plan that need not be in force; None for the one that is

    Raises
    ------
    NotFoundError
        If there is no such monitor, it has no reference, or its model has no plan and none
        was given.
    PlanError
        If the text is no plan; it names file, line and key.
    BadInputError
        If the span is none, the plan is another model's, or the task has several findings.
    """
    watched = require_monitor(session, monitor)
    champion = serving.champion(session, watched.specification.model)
    task = watched.specification.task
    if (
        champion is not None
        and len(findings_judged(session, version=champion.id, task=task)) > 1
    ):
        raise BadInputError(
            f"task {task} has several findings, and a backtest replays a task of one: name a "
            "monitor of such a task"
        )
    in_force = text is None
    if text is None:
        text = plans.require_plan(session, watched.specification.model).text
    return Question(
        monitor=watched,
        since=since or _first_reference(session, monitor),
        until=until,
        plan=parse_plan(text, source=source, applied=in_force),
        digest=sha256(text.encode()),
        source=source,
        period=period,
        look=look,
    )


def _first_reference(session: Session, monitor: str) -> datetime:
    row = session.scalars(
        select(ReferenceRow)
        .where(ReferenceRow.monitor == monitor)
        .order_by(ReferenceRow.accepted_at)
    ).first()
    if row is None:
        raise NotFoundError(
            f"monitor {monitor} has no reference yet: `driftward reference build {monitor}`"
        )
    return row.accepted_at


def looks(question: Question) -> Iterator[datetime]:
    """Yield the moments at which what came is looked at: regularly, at windows' ends, at the end."""
    spec = question.monitor.specification
    length = spec.window_length
    regular = question.since + question.look
    passed = (question.since - spec.anchor) // length + 1
    window = spec.anchor + max(passed, 1) * length
    while (moment := min(regular, window)) < question.until:
        yield moment
        regular += question.look if moment == regular else timedelta(0)
        window += length if moment == window else timedelta(0)
    yield question.until
