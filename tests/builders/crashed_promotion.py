"""Processes that are killed while a champion is approved, promoted, staged and rolled back.

Each crash begins at a copy of a home as it was left before; the same command, or the next worker,
then goes on, and what stands must be what an undisturbed life leaves at that moment.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from plan_texts import one_site_plan
from preloaded_workers import expire_leases, start_command
from small_installation import ANCHOR, ENCODER, MODEL, SITE, SmallInstallation
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tiny_bundles import CHILDREN, TASK, finding, tiny_bundle

from api.assembly import Driftward
from api.settings import Settings
from monitor import references
from monitor.monitors import MonitorSpecification, apply_monitor
from monitor.references import EncoderRole
from monitor.statistics.performance.proportions import Interval
from registry import ledger, outbox, serving
from registry.bundle_import import import_bundle
from registry.bundles.card import Tier
from registry.jobs import Job, JobState
from registry.ledger import LedgerEntry
from registry.serving import Champion, Reign
from registry.tracking import Tracking
from registry.versions import VersionRef, VersionRow, ref
from retrain import plans, runs
from retrain.change_plan import Strategy
from retrain.gates.outcome import Gate, GateOutcome, Outcome
from retrain.promotion import RENEW_REFERENCE
from retrain.shadow.ending import ask_to_end_shadows
from retrain.stage_entering import ask_to_enter_stages
from retrain.states import RunState
from retrain.tables import ApprovalRow, GateOutcomeRow

SCANS = 205
MONITOR = "chest"
#: The crash points by the step that passes them, in their order.
STEPS: Mapping[str, tuple[str, ...]] = {
    "build": (
        "reference: embedded",
        "reference: frozen",
        "reference: fitted",
        "reference: before the commit",
        "reference: committed",
    ),
    "approve": ("approve: before the commit", "approve: committed"),
    "promote": ("promote: before the commit", "promote: committed"),
    "follow": (
        "outbox: version made",
        "outbox: told",
        "outbox: before the commit",
        "outbox: committed",
        "reference: embedded",
        "reference: frozen",
        "reference: fitted",
        "reference: before the commit",
        "reference: committed",
    ),
    "roll back": ("roll back: before the commit", "roll back: committed"),
    "undo": ("undo rollback: before the commit", "undo rollback: committed"),
    "end shadow": ("shadow: before the commit", "shadow: committed"),
    "enter stage": ("enter stage: before the commit", "enter stage: committed"),
}
#: Steps of a candidate that was in shadow, and whose promotion is staged: in a home of their own.
STAGED = ("end shadow", "enter stage")
_KILLED, _SECONDS = -9, 120
#: Over at once by the clock of the commands, which is the real one.
_STAGES = f"""
stages:
  - sites: [{SITE}]
    days: 0.0000001
"""
_PLAN = {
    "at_least": "60",
    "locked_share": "0.7",
    "selection_share": "0.1",
    "minimum_positives": "5",
    "minimum_negatives": "5",
    "days_between_promotions": "0",
    "promotions_since_review": "100",
    "rollbacks": "100",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """All that a life of promotions leaves."""

    #: (deployment, version)
    champions: tuple[tuple[str, str], ...]
    #: (deployment, version) of the reigns that have no end
    reigning: tuple[tuple[str, str], ...]
    run: str
    approvals: int
    #: the version that MLflow's alias points at, where it was told all
    alias: str | None
    #: changes that MLflow has yet to be told
    undelivered: int
    #: which version's embeddings each deciding reference is of
    references: tuple[tuple[str, str], ...]
    #: a job that renews them has yet to end
    renewal_due: bool
    #: (kind, subject) of the ledger's entries but for refusals, each with how often
    entries: Mapping[tuple[str, str], int]
    #: rows and entries agree
    whole: bool = field(default=True)

    @property
    def sound(self) -> bool:
        """Return whether no place has two champions, and what follows them does, or is due."""
        everywhere = dict(self.champions).get(serving.EVERYWHERE)
        champion = dict(self.references).get(EncoderRole.CHAMPION.value)
        return (
            self.most_at_a_place == 1
            and self.champions == self.reigning
            and (self.undelivered > 0 or self.alias == everywhere)
            and (self.renewal_due or champion in {None, everywhere})
            and self.whole
        )

    @property
    def most_at_a_place(self) -> int:
        """The most champions that a place has, which must be one."""
        return max(Counter(place for place, _ in self.champions).values(), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Homes of one model before each step, and what an undisturbed step leaves."""

    before: Mapping[str, Path]
    after: Mapping[str, Standing]
    #: the run that is signed, in either home
    run: int

    def words(self, step: str) -> tuple[str, ...]:
        """Return the command that takes a step."""
        return _words(step, self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """What one crash left, and what came of it."""

    #: when the process was killed, before anything went on
    left: Standing
    #: how the same command ended when it was given again, and what it said
    code: int
    said: str
    ended: Standing


def life_of_a_champion(root: Path, *, empty_mlflow: Path) -> Life:
    """Live through all steps once, and keep a home from before each."""
    before: dict[str, Path] = {}
    after: dict[str, Standing] = {}

    def take(home: Path, step: str) -> None:
        before[step] = _copied(home, root / f"before {step}")
        _done(home, _words(step, run))
        after[step] = standing(home)
        assert after[step].sound, after[step]

    home, run = _home_with_a_candidate(root, empty_mlflow=empty_mlflow)
    for step in STEPS:
        if step not in STAGED:
            take(home, step)
    (root / "staged").mkdir()
    staged, other = _home_with_a_candidate(
        root / "staged", empty_mlflow=empty_mlflow, staged=True
    )
    assert other == run
    _done(staged, _words("build", run))
    _ask(staged, ask_to_end_shadows)
    take(staged, "end shadow")
    for step in ("approve", "promote"):
        _done(staged, _words(step, run))
    _ask(staged, ask_to_enter_stages)
    take(staged, "enter stage")
    return Life(before=before, after=after, run=run)


def _done(home: Path, words: tuple[str, ...]) -> None:
    code, said = _give(home, words)
    assert code == 0, said


def _ask(home: Path, ask: Callable[..., int]) -> None:
    """Queue what a tick would, which no command does by itself."""
    driftward = Driftward.open(Settings(home=home))
    with driftward.database.transaction() as session:
        assert ask(session, at=driftward.clock.now()) == 1
    driftward.database.dispose()


def crash(life: Life, step: str, point: str, folder: Path) -> Crashed:
    """Kill a step at a point, and give its command again."""
    home = _copied(life.before[step], folder / "home")
    code, said = _give(home, life.words(step), {"DRIFTWARD_CRASH_AT": point})
    assert code == _KILLED, f"{step} was not killed at {point!r}: it ended with {code}; {said}"
    left = standing(home)
    _let_leases_run_out(home)
    code, said = _give(home, life.words(step))
    ended = standing(home)
    shutil.rmtree(home)
    return Crashed(left=left, code=code, said=said, ended=ended)


def standing(home: Path) -> Standing:
    """Look at what stands in a home."""
    driftward = Driftward.open(Settings(home=home, device="cpu", threads=1))
    with driftward.database.reading() as session:
        found = _standing(session, driftward.tracking)
    driftward.database.dispose()
    return found


def _standing(session: Session, tracking: Tracking) -> Standing:
    def names(query: object) -> tuple[str, ...]:
        numbers = session.scalars(query).all()  # type: ignore[call-overload]
        return tuple(str(ref(session.get_one(VersionRow, number))) for number in numbers)

    def placed(query: object) -> tuple[tuple[str, str], ...]:
        rows = session.execute(query).all()  # type: ignore[call-overload]
        return tuple(
            sorted(
                (place, str(ref(session.get_one(VersionRow, number)))) for place, number in rows
            )
        )

    alias = tracking.alias(MODEL, outbox.champion_alias(serving.EVERYWHERE))
    told = names(
        select(VersionRow.id).where(
            VersionRow.model == MODEL, VersionRow.mlflow_version == alias
        )
    )
    undelivered = session.scalar(
        select(func.count(outbox.OutboxItem.id)).where(outbox.OutboxItem.delivered_at.is_(None))
    )
    kinds = session.execute(select(LedgerEntry.kind, LedgerEntry.subject))
    return Standing(
        champions=placed(
            select(Champion.deployment, Champion.version).where(Champion.model == MODEL)
        ),
        reigning=placed(
            select(Reign.deployment, Reign.version).where(
                Reign.model == MODEL, Reign.until.is_(None)
            )
        ),
        run=runs.all_runs(session, MODEL)[0].state,
        approvals=session.scalar(select(func.count(ApprovalRow.id))) or 0,
        alias=told[0] if told else None,
        undelivered=undelivered or 0,
        references=tuple(
            (row.encoder, str(ref(session.get_one(VersionRow, row.version))))
            for row in references.deciding(session, MONITOR)
        ),
        renewal_due=bool(
            session.scalar(
                select(func.count(Job.id)).where(
                    Job.kind == RENEW_REFERENCE,
                    Job.state.in_([JobState.QUEUED, JobState.RUNNING]),
                )
            )
        ),
        entries=dict(
            Counter((kind, subject) for kind, subject in kinds if not kind.endswith(".refused"))
        ),
        whole=ledger.verify(session).valid,
    )


def _words(step: str, run: int) -> tuple[str, ...]:
    commands: Mapping[str, Callable[[], tuple[str, ...]]] = {
        "build": lambda: ("reference", "build", MONITOR),
        "approve": lambda: ("approve", str(run), "--reason", "gates and data read"),
        "promote": lambda: ("promote", f"{MODEL}@2"),
        "follow": lambda: ("work", "--drain"),
        "roll back": lambda: ("rollback", MODEL, "--reason", "worse in the clinic"),
        "undo": lambda: ("rollback", MODEL, "--undo", "--reason", "it was another scanner"),
        "end shadow": lambda: ("work", "--drain"),
        "enter stage": lambda: ("work", "--drain"),
    }
    return commands[step]()


def _give(
    home: Path, words: tuple[str, ...], environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Give a command in a process of its own; returns how it ended and what it said."""
    log = home.with_name(f"{home.name}.log")
    log.unlink(missing_ok=True)
    process = start_command(home, *words, log=log, environment=environment)
    process.join(_SECONDS)
    assert process.exitcode is not None, f"{words} hangs"
    return process.exitcode, log.read_text(encoding="utf-8")


def _copied(home: Path, to: Path) -> Path:
    """Copy a home that nobody uses; its bundles and its vault are only read, and shared."""
    shared = shutil.ignore_patterns("vault", "artifacts")
    shutil.copytree(home, to, ignore=shared)
    for part in (Path("vault"), Path("mlflow") / "artifacts"):
        if (home / part).exists():
            (to / part).symlink_to((home / part).resolve())
    return to


def _let_leases_run_out(home: Path) -> None:
    driftward = Driftward.open(Settings(home=home))
    expire_leases(driftward.database)
    driftward.database.dispose()


def _home_with_a_candidate(
    root: Path, *, empty_mlflow: Path, staged: bool = False
) -> tuple[Path, int]:
    made = SmallInstallation(root, empty_mlflow=empty_mlflow)
    run = judge_a_candidate(made, root, staged=staged)
    made.driftward.database.dispose()
    return made.driftward.settings.home, run


def judge_a_candidate(
    made: SmallInstallation, root: Path, *, staged: bool = False, rules: str = ""
) -> int:
    """Give a home a champion that has no reference yet, and a candidate whose run is returned.

    It awaits approval; a staged one is in shadow still, and its plan has a stage before everywhere.

    Parameters
    ----------
    rules : more of the plan, as its file has it
    """
    values = {**_PLAN, "shadow_days": "7"} if staged else _PLAN
    made.found(one_site_plan(model=MODEL, **values) + (_STAGES if staged else "") + rules)
    driftward = made.driftward
    champion, candidate = (
        import_bundle(
            driftward.database,
            driftward.tracking,
            tiny_bundle(
                root / f"version-{seed}",
                tier=Tier.TASK,
                tasks=(finding(),),
                intended_use=CHILDREN,
                seed=seed,
            ).root,
            model=MODEL,
            base=VersionRef(model=ENCODER, number=1),
            by=made.operator,
            at=made.clock.at,
        )
        for seed in (1, 2)
    )
    outbox.deliver(driftward.database, driftward.tracking)
    with driftward.database.transaction() as session:
        serving.move_champion(
            session,
            champion,
            expected=None,
            reason="first version",
            kind="champion.promoted",
            actor=made.operator.name,
            at=made.clock.at,
        )
        apply_monitor(
            session,
            MonitorSpecification.model_validate(
                {
                    "name": MONITOR,
                    "model": MODEL,
                    "task": TASK,
                    "monitoring_encoder": f"{ENCODER}@1",
                    "window_hours": 84,
                    "anchor": ANCHOR,
                    "alpha_per_week": 0.005,
                    "subgroup_attributes": [],
                    "floor": 20,
                    "silence": None,
                    "stream": None,
                }
            ),
            actor=made.operator.name,
            at=made.clock.at,
        )
    outbox.deliver(driftward.database, driftward.tracking)
    made.receive(SCANS)
    made.clock.at += timedelta(hours=1)
    with driftward.database.transaction() as session:
        return _judged_run(session, champion, candidate, made, shadow=staged)


def _measured(gate: Gate) -> GateOutcome:
    return GateOutcome(
        name=gate.value,
        outcome=Outcome.PASSED,
        statistic="difference",
        estimate=0.02,
        interval=Interval(low=-0.02, high=0.06, level=0.95),
        margin=-0.05,
        p_value=None,
        n=140,
        sentence="It was measured.",
    )


def _judged_run(
    session: Session,
    champion: VersionRow,
    candidate: VersionRow,
    made: SmallInstallation,
    *,
    shadow: bool,
) -> int:
    """Add the run of a candidate whose gates passed, and that awaits approval or is in shadow."""
    at = made.clock.at
    plan = plans.require_plan(session, MODEL)
    run = runs.create(
        session,
        model=MODEL,
        episode=None,
        plan=plan,
        strategies=(Strategy.FULL,),
        base=champion,
        champion=champion,
        settings={"task": TASK},
        seed=0,
        note="asked for",
        actor=made.operator.name,
        at=at,
    )

    def advance(state: RunState) -> None:
        runs.advance(session, run, state, note="", actor=made.operator.name, at=at)

    advance(RunState.QUEUED)
    advance(RunState.TRAINING)
    run.candidate = candidate.id
    advance(RunState.VALIDATING)
    gates = [
        GateOutcomeRow(
            run=run.id,
            name=gate.value,
            outcome="passed",
            sentence="It was measured.",
            detail=_measured(gate).as_record(),
            decided_at=at,
        )
        for gate in plan.plan.gates.required
    ]
    session.add_all(gates)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=made.operator.name,
        kind="gates.evaluated",
        subject=f"run {run.id}",
        facts={},
        seals=[*gates],
    )
    advance(RunState.SHADOW if shadow else RunState.AWAITING_APPROVAL)
    return run.id
