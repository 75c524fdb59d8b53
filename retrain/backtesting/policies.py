"""The policies that a plan is compared with: never, by the calendar, and by measured falls.

They update by the same refit of the head as the plan's repairs do, on the labels that were
there, and promote what they make: no detection, no cause, no gate and no approval stands
between. So the difference to the plan is what these bring, and cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.datasets import Purpose
from monitor.labelling.truth import Truth
from monitor.performance import performance
from monitor.performance.falls import Fall, falls
from monitor.performance.performance import LabelledResults, Performance
from monitor.tables import ScanRow
from registry.errors import InsufficientDataError
from retrain import run_data
from retrain.backtesting.labelled import LabelledSpan
from retrain.backtesting.refitting_runs import Repair, best_repair, without_pixels
from retrain.backtesting.scratch import Scratch
from retrain.backtesting.stored_reading import Heads
from retrain.change_plan import Strategy
from retrain.workspace import Role

#: Labelled scans that an update learns from are no older than this.
MEMORY = timedelta(weeks=13)
#: How often measured performance is looked at, and at the scans of which time: in a longer one
#: a fall drowns in the weeks before it.
CHECK, LOOKED_AT = timedelta(weeks=1), timedelta(weeks=6)
#: Of patients, to choose the penalty by.
_SELECTION_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One update that a policy made, and why."""

    at: datetime
    heads: Heads
    reason: str
    #: ids of the labelled scans of the span that it learnt from, or was judged on
    labels: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a policy did over the span."""

    name: str
    #: what the policy is, in a sentence
    rule: str
    updates: tuple[Update, ...]
    #: training runs that were begun
    runs: int
    #: moments at which it would have updated and could not, with the reason
    passed_over: tuple[tuple[datetime, str], ...] = ()


class Baselines:
    """Simulates the three policies on one labelled span."""

    def __init__(self, scratch: Scratch, span: LabelledSpan) -> None:
        self._scratch, self._span = scratch, span
        self._question = scratch.past.question
        self._first = scratch.reader.heads(scratch.past.champion)
        self._known_before: tuple[Heads, Performance | None] | None = None
        with scratch.database.reading() as session:
            self._replayed = self._replay(session)
            self._reference = _reference(session, scratch)

    @property
    def reference(self) -> Performance | None:
        """How well the first champion reads its reference; None where that has no labels."""
        if self._reference is None:
            return None
        return performance.measure(self._reference)

    def never(self) -> Course:
        return Course(name="never", rule="the first champion stays", updates=(), runs=0)

    def periodic(self) -> Course:
        """Refit the head at fixed intervals."""
        question = self._question
        updates: list[Update] = []
        passed: list[tuple[datetime, str]] = []
        moment = question.since + question.period
        heads = self._first
        while moment < question.until:
            made = self._update(heads, moment, "the calendar", passed)
            if made is not None:
                updates.append(made)
                heads = made.heads
            moment += question.period
        days = question.period / timedelta(days=1)
        return Course(
            name="periodic",
            rule=f"the head is refitted every {days:g} days, and what comes of it serves",
            updates=tuple(updates),
            runs=len(updates),
            passed_over=tuple(passed),
        )

    def triggered(self) -> Course:
        """Refit the head when labels show that performance fell."""
        question = self._question
        updates: list[Update] = []
        passed: list[tuple[datetime, str]] = []
        since, heads = question.since, self._first
        moment = question.since + CHECK
        while moment < question.until:
            fallen = self._fallen(heads, max(since, moment - LOOKED_AT), moment)
            if fallen:
                reason = "; ".join(
                    f"{fall.measure} fell from {fall.before:.2f} to {fall.after:.2f}"
                    for fall in fallen
                )
                made = self._update(heads, moment, reason, passed)
                if made is not None:
                    updates.append(made)
                    since, heads = moment, made.heads
            moment += CHECK
        return Course(
            name="performance-triggered",
            rule="the head is refitted when labels of the last six weeks show that a measure "
            "fell, looked at weekly, and what comes of it serves",
            updates=tuple(updates),
            runs=len(updates),
            passed_over=tuple(passed),
        )

    def _fallen(self, heads: Heads, since: datetime, at: datetime) -> list[Fall]:
        """Return which measures labels show to have fallen on the scans since a time."""
        if self._reference is None:
            return []
        known = [
            (place, truth)
            for place in self._span.places(since, at).tolist()
            if (truth := self._span.scans[place].truth(at)) is not None
            and not truth.ai_influenced
        ]
        before = self._before(heads)
        results = self._results(heads, known)
        if before is None or results is None or _measured(results) is None:
            return []
        moments = [self._span.scans[place].known_since() or at for place, _ in known]
        return falls(before, results, known_at=moments)

    def _results(
        self, heads: Heads, known: Sequence[tuple[int, Truth]]
    ) -> LabelledResults | None:
        if not known:
            return None
        places = [place for place, _ in known]
        scores, threshold = heads.scores(self._span.embeddings[places], self._scratch.task)
        return LabelledResults(
            scores=scores,
            truth=np.array([truth.value == self._span.present for _, truth in known]),
            patients=tuple(self._span.patients[place] for place in places),
            scans=tuple(self._span.scans[place].scan for place in places),
            threshold=threshold,
            ai_influenced=0,
        )

    def _before(self, heads: Heads) -> Performance | None:
        """Return how well heads read the reference: the same, week by week, while they serve."""
        if self._reference is None:
            return None
        known = self._known_before
        if known is None or known[0] is not heads:
            known = heads, _measured(self._rescored(heads, self._reference))
            self._known_before = known
        return known[1]

    def _rescored(self, heads: Heads, reference: LabelledResults) -> LabelledResults:
        """Return the reference as other heads read it."""
        embeddings = self._scratch.reader.embeddings(reference.scans)
        scores, threshold = heads.scores(embeddings, self._scratch.task)
        return replace(reference, scores=scores, threshold=threshold)

    def _update(
        self,
        heads: Heads,
        at: datetime,
        reason: str,
        passed: list[tuple[datetime, str]],
    ) -> Update | None:
        try:
            learnt, repair = self._refitted(heads, at)
        except InsufficientDataError as error:
            passed.append((at, str(error)))
            return None
        return Update(at=at, heads=repair.heads, reason=reason, labels=learnt)

    def _refitted(self, heads: Heads, at: datetime) -> tuple[frozenset[int], Repair]:
        """Refit the head on the newest labels, with the first version's training data replayed."""
        rules = self._question.plan.labels
        usable = self._span.usable(rules, after=at - MEMORY, at=at)
        if len(usable) < rules.at_least:
            raise InsufficientDataError(
                what="labelled scans of the last quarter",
                needed=rules.at_least,
                got=len(usable),
            )
        truths = {self._span.scans[place].scan.id: truth.value for place, truth in usable}
        parts = datasets.split_by_patient(
            [self._span.scans[place].scan for place, _ in usable],
            {Purpose.SELECTION: _SELECTION_SHARE, Purpose.TRAINING: 1 - _SELECTION_SHARE},
            salt=f"{self._scratch.model}/policies",
        )
        choosing = {scan.person for scan in parts[Purpose.SELECTION]}
        replayed = [
            (scan, value) for scan, value in self._replayed if scan.person not in choosing
        ]
        wanted = round(self._question.plan.training.replay_ratio * len(parts[Purpose.TRAINING]))
        replayed = replayed[:wanted]
        scans = [
            *parts[Purpose.TRAINING],
            *(scan for scan, _ in replayed),
            *parts[Purpose.SELECTION],
        ]
        training = len(scans) - len(parts[Purpose.SELECTION])
        values = {**{scan.id: value for scan, value in replayed}, **truths}
        repair = best_repair(
            heads,
            self._scratch.task,
            self._scratch.reader.embeddings(scans),
            without_pixels(
                [values[scan.id] for scan in scans],
                [Role.TRAINING] * training + [Role.SELECTION] * (len(scans) - training),
                [scan.id in truths for scan in scans],
            ),
            [Strategy.LINEAR_PROBE],
        )
        return frozenset(truths), repair

    def _replay(self, session: Session) -> list[tuple[ScanRow, int]]:
        """Return the first version's training scans with their labels, in a fixed random order."""
        try:
            first = run_data.first_run(session, self._scratch.model)
        except InsufficientDataError:
            return []  # it was imported whole
        scans = datasets.members(session, first.datasets[Purpose.TRAINING])
        known = labels.latest(session, [scan.id for scan in scans])
        having = [
            (scan, known[scan.id, self._scratch.task].value)
            for scan in scans
            if (scan.id, self._scratch.task) in known
            and scan.id in self._scratch.reader.vectors
        ]
        order = np.random.default_rng(0).permutation(len(having))
        return [having[place] for place in order.tolist()]


def _reference(session: Session, scratch: Scratch) -> LabelledResults | None:
    """Return the first champion's results on the reference that was in force at the beginning."""
    champion = scratch.past.champion
    dataset = next(
        (
            row.dataset
            for row in scratch.past.references
            if row.version == champion.id and row.accepted_at <= scratch.past.question.since
        ),
        None,
    )
    if dataset is None:
        return None
    try:
        return performance.labelled_results(
            session,
            version=champion.id,
            task=scratch.task,
            dataset=dataset,
            without_ai=True,
        )
    except InsufficientDataError:
        return None


def _measured(results: LabelledResults) -> Performance | None:
    try:
        return performance.measure(results)
    except InsufficientDataError:
        return None
