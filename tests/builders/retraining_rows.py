"""A monitored model with a first version, a plan and an episode: rows as the loop leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest

from monitored_history import ANCHOR, History
from plan_texts import one_site_plan
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.datasets import Purpose
from monitor.episodes.causes import Cause
from monitor.episodes.episodes import EpisodeState, Impact
from monitor.labels import Label, Provenance
from monitor.tables import EpisodeRow, ResultRow, ScanRow
from registry import ledger, serving
from registry.access.signing_in import Proof
from registry.clock import ReplayClock
from registry.database import Database
from registry.identities import Identity, Role
from registry.jobs import Claim, JobQueue, enqueue
from registry.versions import VersionRow
from retrain import approvals, plans, runs
from retrain.approvals import Meaning
from retrain.change_plan import Strategy
from retrain.deciding import Decider
from retrain.gates.promises import Promise, recorded
from retrain.plans import AppliedPlan
from retrain.states import RunState
from retrain.tables import GateOutcomeRow, RunRow

MODEL, TASK, SITE = "pneumonia", "pneumonia", "site"
OLD, NEW = "1.0", "2.0"
SUBGROUP = f"software_version={NEW}"
AT_LEAST = 40
PLAN = one_site_plan(
    model=MODEL,
    at_least=str(AT_LEAST),
    locked_share="0.5",
    selection_share="0.1",
    replay_ratio="1.0",
    minimum_positives="10",
    minimum_negatives="10",
    days_between_promotions="0",
    runs_per_quarter="100",
    promotions_since_review="100",
    unsuccessful_runs="100",
    rollbacks="100",
)
EVERY_ROLE = frozenset(Role)


def person(name: str, *roles: Role) -> Identity:
    """Return an identity with these roles, or with all of them."""
    return Identity(name=name, roles=frozenset(roles) or EVERY_ROLE)


class Retraining:
    """Adds to a monitored history what retraining works on."""

    def __init__(self, history: History) -> None:
        self.history, self.database = history, history.database
        self.clock = ReplayClock(ANCHOR + timedelta(days=7))
        self.first = self._first_run()

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def apply_plan(self, text: str = PLAN) -> AppliedPlan:
        with self.database.transaction() as session:
            return plans.apply_plan(
                session, text, source="plan.yaml", actor="test", at=self.now
            )

    def shifted(
        self, count: int, *, read: bool = False, provenance: Provenance | None = None
    ) -> list[int]:
        """Add scans of the new software; with a provenance they are labelled before any result."""
        probabilities = [0.5] * count if read else None
        scans = self.history.add(
            count,
            at=ANCHOR + timedelta(hours=1),
            software_version=NEW,
            probabilities=probabilities,
        )
        if provenance is not None:
            self.label(scans, provenance=provenance)
        return scans

    def label(
        self,
        scans: Sequence[int],
        *,
        values: Sequence[int] | None = None,
        provenance: Provenance = Provenance.DATASET,
        signed_at: datetime = ANCHOR,
        site: str = SITE,
    ) -> None:
        with self.database.transaction() as session:
            rows = session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))).all()
            truth = values or [index % 2 for index in range(len(rows))]
            labels.attach(
                session,
                [
                    Label(
                        line=line,
                        instance=row.instance,
                        task=TASK,
                        value=value,
                        provenance=provenance,
                        reader="reader",
                        signed_at=signed_at,
                    )
                    for line, (row, value) in enumerate(zip(rows, truth, strict=True), start=2)
                ],
                site=site,
                actor="test",
                at=self.now,
            )

    def open_episode(
        self,
        *,
        cause: Cause = Cause.ACQUISITION,
        subgroup: str | None = SUBGROUP,
        impact: Impact = Impact.SUSPECTED,
        judged_scans: int | None = None,
    ) -> int:
        """Open an episode; `judged_scans` labelled scans stand behind its impact."""
        with self.database.transaction() as session:
            row = EpisodeRow(
                monitor="chest",
                state=EpisodeState.OPEN.value,
                opened_at=self.now,
                onset=ANCHOR,
                cause=cause.value,
                subgroup=subgroup,
                impact=impact.value,
                p_value=0.001,
                effect=1.0,
                evidence={},
                heaviest=[],
            )
            session.add(row)
            session.flush()
            seal(session, "episode.opened", row)
        if judged_scans is not None:
            self.judge(row.id, impact, scans=judged_scans)
        return row.id

    def judge(self, episode: int, impact: Impact, *, scans: int = AT_LEAST) -> None:
        """Let labels say what the impact of an episode is."""
        with self.database.transaction() as session:
            row = session.get_one(EpisodeRow, episode)
            row.impact = impact.value
            row.evidence = {"impact": {"scans": scans}}
            seal(session, "episode.impact", row)

    def decide(self, episode: int) -> None:
        """Do the job `decide` as a worker does."""
        claim = self.claim("decide", f"decide/episode {episode}", {"episode": episode})
        Decider(self.database, self.clock).handle(claim)
        JobQueue(self.database).finish(claim)

    def claim(self, kind: str, key: str, payload: Mapping[str, int | str]) -> Claim:
        """Queue a job and take it."""
        with self.database.transaction() as session:
            enqueue(session, kind=kind, key=key, payload={**payload}, again=True)
        claim = JobQueue(self.database).claim("test", [kind])
        assert claim is not None
        return claim

    def run_in_shadow(self) -> int:
        """Add a run whose candidate passed its gates, and reads beside the champion from now on."""
        return self.run_awaiting_approval(state=RunState.SHADOW)

    def run_awaiting_approval(
        self,
        *,
        episode: int | None = None,
        outcomes: Sequence[str] = ("passed", "passed"),
        state: RunState = RunState.AWAITING_APPROVAL,
        promises: Sequence[Promise] = (),
    ) -> int:
        """Add a run with a candidate, whose gates said and promised this."""
        with self.database.transaction() as session:
            champion = serving.require_champion(session, MODEL)
            candidate = candidate_of(session, champion)
            plan = plans.in_force(session, MODEL)
            assert plan is not None
            run = runs.create(
                session,
                model=MODEL,
                episode=episode,
                plan=plan,
                strategies=(Strategy.FULL,),
                base=champion,
                champion=champion,
                settings={"task": TASK},
                seed=0,
                note="test",
                actor="test",
                at=self.now,
            )
            advance(session, run, RunState.QUEUED, self.now)
            advance(session, run, RunState.TRAINING, self.now)
            run.candidate = candidate.id
            advance(session, run, RunState.VALIDATING, self.now)
            gates = [
                GateOutcomeRow(
                    run=run.id,
                    name=name,
                    outcome=outcome,
                    sentence="It was measured.",
                    detail={
                        "name": name,
                        "outcome": outcome,
                        "statistic": "a share",
                        "estimate": 0.9,
                        "interval": None,
                        "margin": None,
                        "p_value": None,
                        "n": 40,
                        "sentence": "It was measured.",
                        "parts": [],
                        "figures": recorded(promises if first else []),
                    },
                    decided_at=self.now,
                )
                for first, (name, outcome) in zip(
                    [True, *[False] * 20],
                    zip_longest(
                        plan.plan.gates.required if outcomes else [],
                        outcomes,
                        fillvalue="passed",
                    ),
                    strict=False,
                )
            ]
            session.add_all(gates)
            session.flush()
            seal(session, "gates.evaluated", *gates, subject=f"run {run.id}")
            advance(session, run, state, self.now)
            return run.id

    def approve(
        self,
        run: int,
        *,
        by: Identity | None = None,
        reason: str = "gates and data read",
        at: datetime | None = None,
        decided: Sequence[str] = (),
    ) -> None:
        """Have a run approved, by Mei and now unless said otherwise."""
        with self.database.transaction() as session:
            approvals.sign(
                session,
                runs.require_run(session, run),
                Meaning.APPROVED,
                by=by or person("Mei"),
                reason=reason,
                at=at or self.now,
                proof=Proof.PASSWORD,
                decided=decided,
            )

    def _first_run(self) -> int:
        """Let the champion be what a first run made of labelled scans."""
        plan = self.apply_plan(f"{PLAN}\n# of the first version\n")
        scans = self.history.add(120, at=ANCHOR - timedelta(days=20))
        self.label(scans, signed_at=ANCHOR - timedelta(days=19))
        with self.database.transaction() as session:
            champion = session.get_one(VersionRow, self.history.champion.id)
            run = runs.create(
                session,
                model=MODEL,
                episode=None,
                plan=plan,
                strategies=(Strategy.FULL,),
                base=session.get_one(VersionRow, self.history.encoder.id),
                champion=None,
                settings={"task": TASK},
                seed=0,
                note="first version",
                actor="test",
                at=ANCHOR,
            )
            parts = datasets.split_by_patient(
                session.scalars(select(ScanRow).where(ScanRow.id.in_(scans))),
                {
                    Purpose.TRAINING: 0.5,
                    Purpose.SELECTION: 0.2,
                    Purpose.LOCKED_REFERENCE: 0.3,
                },
                salt="first",
            )
            frozen = {
                purpose: datasets.freeze(
                    session, part, purpose=purpose, description="", actor="test", at=ANCHOR
                )
                for purpose, part in parts.items()
            }
            run.datasets = {purpose.value: row.id for purpose, row in frozen.items()}
            champion.card = {
                "training_data": [
                    {"digest": frozen[purpose].digest}
                    for purpose in (Purpose.TRAINING, Purpose.SELECTION)
                ]
            }
            champion.base = self.history.encoder.id
            run.candidate = champion.id
            seal(session, "version.registered", champion)
            for state in (
                RunState.QUEUED,
                RunState.TRAINING,
                RunState.VALIDATING,
                RunState.AWAITING_APPROVAL,
                RunState.PROMOTED,
            ):
                advance(session, run, state, ANCHOR)
            return run.id


def advance(session: Session, run: RunRow, state: RunState, at: datetime) -> None:
    runs.advance(session, run, state, note="test", actor="test", at=at)


def seal(session: Session, kind: str, *rows: ledger.Sealed, subject: str = "test") -> None:
    """Enter rows into the ledger as they stand."""
    session.flush()
    ledger.append(
        session, at=ANCHOR, actor="test", kind=kind, subject=subject, facts={}, seals=[*rows]
    )


def ledger_is_valid(database: Database) -> bool:
    with database.reading() as session:
        return ledger.verify(session).valid


def candidate_of(session: Session, base: VersionRow) -> VersionRow:
    """Register a version that was derived from another, without its files."""
    number = 1 + len(session.scalars(select(VersionRow).where(VersionRow.model == MODEL)).all())
    row = VersionRow(
        model=MODEL,
        number=number,
        tier="task",
        origin="run",
        base=base.id,
        bundle_digest=f"bundle of {number}",
        encoder_digest=f"encoder of {number}",
        space=f"space of {number}",
        dimension=base.dimension,
        card={"training_data": []},
        artifact_uri="file:///nowhere",
        mlflow_run="run",
        created_at=ANCHOR,
        created_by="test",
    )
    session.add(row)
    seal(session, "version.registered", row)
    return row


def add_results(
    session: Session,
    version: VersionRow,
    positive: Mapping[int, float],
    *,
    threshold: float,
    delivery: str,
    at: datetime,
) -> None:
    """Add what a version said of scans: the probability of the finding of each."""
    number = ledger.next_batch(session, ResultRow)
    session.add_all(
        ResultRow(
            batch=number,
            scan=scan,
            version=version.id,
            task=TASK,
            probabilities=[1 - value, value],
            threshold=threshold,
            delivery=delivery,
            created_at=at,
        )
        for scan, value in positive.items()
    )
    ledger.append(
        session,
        at=at,
        actor="test",
        kind="scans.read",
        subject="chest",
        facts={},
        batches=[(ResultRow, number)],
    )
