"""What champion and candidate said of the same scans: how they differ, and who is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from monitor import labels, parts
from monitor.labelling.truth import Truth
from monitor.performance.finding import (
    finding_of,
    findings_judged,
    holds,
    is_there,
    says_which,
    score,
)
from monitor.statistics.performance.proportions import Proportion, proportion
from monitor.tables import ResultRow, ScanRow
from registry.bundles.heads import Task
from registry.canonical import Json
from registry.versions import VersionRow, task_of
from retrain.shadow.reading import arrived_within, count_read
from retrain.tables import RunRow

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How one version reads labelled scans; None where no scan has the class.

    Of several findings: of all that are there, the share that is called, and of all that are
    not, the share that is not.
    """

    sensitivity: Proportion | None
    specificity: Proportion | None

    def to_dict(self) -> dict[str, Json]:
        """Return estimate, low, high and scans of each."""
        return {
            "sensitivity": _as_json(self.sensitivity),
            "specificity": _as_json(self.specificity),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """How two versions differ on the scans that both read, with intervals by patient.

    Of several findings one that is called otherwise makes a scan so.
    """

    patients: int
    #: of all scans, called otherwise than by the champion
    different: Proportion
    #: of all scans, positive by the candidate alone
    newly_positive: Proportion
    #: of all scans, positive by the champion alone
    newly_negative: Proportion
    #: mean absolute difference of the probabilities of the positive class
    mean_difference: float

    def to_dict(self) -> dict[str, Json]:
        """Return each share as estimate, low, high and scans."""
        return {
            "patients": self.patients,
            "different": _as_json(self.different),
            "newly_positive": _as_json(self.newly_positive),
            "newly_negative": _as_json(self.newly_negative),
            "mean_difference": self.mean_difference,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowComparison:
    """A candidate beside its champion, on what arrived in [since, until)."""

    since: datetime
    until: datetime
    #: scans that the champion read
    by_champion: int
    #: scans that the candidate read, too
    by_both: int
    #: None while both have read no scan
    disagreement: Disagreement | None
    #: scans read by both whose label no AI influenced
    labelled: int
    #: labels that are left out, since an AI influenced them
    ai_influenced: int
    champion: Rates
    candidate: Rates

    def to_dict(self) -> dict[str, Json]:
        """Return it as the ledger keeps it."""
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "by_champion": self.by_champion,
            "by_both": self.by_both,
            "disagreement": self.disagreement.to_dict() if self.disagreement else None,
            "labelled": self.labelled,
            "ai_influenced": self.ai_influenced,
            "champion": self.champion.to_dict(),
            "candidate": self.candidate.to_dict(),
        }

    def in_words(self) -> str:
        """Return it as a sentence."""
        read = f"both read {self.by_both} of the champion's {self.by_champion} scans"
        if self.disagreement is None:
            return read
        found = self.disagreement
        interval = found.different.interval
        return (
            f"{read}, of {found.patients} patients, and call {found.different.estimate:.1%} "
            f"otherwise ({interval.low:.1%} to {interval.high:.1%}): "
            f"{found.newly_positive.successes:.0f} are positive by the candidate alone, "
            f"{found.newly_negative.successes:.0f} by the champion alone"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCalls:
    """What two versions said of the same scans, [n] each, or [n, k] of several findings."""

    champion: npt.NDArray[np.float64]
    candidate: npt.NDArray[np.float64]
    champion_calls: npt.NDArray[np.bool_]
    candidate_calls: npt.NDArray[np.bool_]
    #: [n]
    patients: npt.NDArray[np.str_]


def compare(
    session: Session, run: RunRow, *, since: datetime, until: datetime
) -> ShadowComparison:
    """Compare a run's candidate with its champion on the scans that arrived in [since, until)."""
    scans, paired = _both_read(session, run, since=since, until=until)
    known, ai_influenced = _truth(session, scans, _findings(session, run))
    chosen = np.flatnonzero([scan in known for scan in scans])
    truth = np.array([known[scans[index]] for index in chosen], dtype=np.bool_)
    truth = truth.reshape(len(chosen), paired.champion_calls.shape[1])
    patients = paired.patients[chosen]
    return ShadowComparison(
        since=since,
        until=until,
        by_champion=count_read(session, run, since=since, until=until, by_both=False),
        by_both=len(scans),
        disagreement=disagreement(paired),
        labelled=len(chosen),
        ai_influenced=ai_influenced,
        champion=_rates(paired.champion_calls[chosen], truth, patients),
        candidate=_rates(paired.candidate_calls[chosen], truth, patients),
    )


def disagreement(paired: PairedCalls) -> Disagreement | None:
    """Return how two versions differ, or None where they read nothing."""
    if not len(paired.patients):
        return None
    scans = len(paired.patients)
    before, after = (
        calls.reshape(scans, -1) for calls in (paired.champion_calls, paired.candidate_calls)
    )

    def share(events: npt.NDArray[np.bool_]) -> Proportion:
        return proportion(events.any(axis=1), paired.patients, level=LEVEL)

    different = share(before != after)
    return Disagreement(
        patients=different.patients,
        different=different,
        newly_positive=share(~before & after),
        newly_negative=share(before & ~after),
        mean_difference=float(np.abs(paired.champion - paired.candidate).mean()),
    )


def _both_read(
    session: Session, run: RunRow, *, since: datetime, until: datetime
) -> tuple[list[int], PairedCalls]:
    before, after = aliased(ResultRow), aliased(ResultRow)
    sought = _findings(session, run)
    task = sought.task
    rows = session.execute(
        select(
            ScanRow.id,
            ScanRow.site,
            ScanRow.person,
            before.probabilities,
            before.threshold,
            after.probabilities,
            after.threshold,
            after.finding,
        )
        .join(before, before.scan == ScanRow.id)
        .join(after, after.scan == ScanRow.id)
        .where(
            before.version == run.champion_before,
            before.task == task,
            after.version == run.candidate,
            after.task == task,
            *arrived_within(since, until),
            *parts.of_arrivals(session, before.scan, after.scan, since=since, until=until),
        )
        .order_by(ScanRow.id)
    ).all()
    shape = (len(rows), len(sought.columns or (None,)))
    champion, candidate = (
        np.array([sought.scores(row[place], row[7]) for row in rows], dtype=np.float64).reshape(
            shape
        )
        for place in (3, 5)
    )
    thresholds = [
        np.array([row[place] for row in rows], dtype=np.float64)[:, None] for place in (4, 6)
    ]
    return [row[0] for row in rows], PairedCalls(
        champion=champion,
        candidate=candidate,
        champion_calls=champion >= thresholds[0],
        candidate_calls=candidate >= thresholds[1],
        patients=np.array([f"{row[1]}/{row[2]}" for row in rows], dtype=np.str_),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Findings:
    """What a run's task looks for."""

    task: str
    #: of several findings: the task as its candidate has it, and a column of each
    declared: Task | None
    columns: tuple[int, ...]
    #: of one: the number of its class, None where results do not say
    finding: int | None

    def scores(self, probabilities: Sequence[float], finding: int | None) -> list[float]:
        if self.declared is None:
            return [score(probabilities, finding)]
        return [probabilities[column] for column in self.columns]

    def of(self, label: Truth) -> list[bool] | None:
        """Return which findings a label says are there, None where it does not say which."""
        if self.declared is None:
            return [is_there(label.value, self.finding)]
        if not says_which(self.declared, label):
            return None
        return [holds(self.declared, name, label) for name in self.declared.classes]


def _findings(session: Session, run: RunRow) -> _Findings:
    task = run.settings["task"]
    candidate = session.get_one(VersionRow, run.candidate)
    several = findings_judged(session, version=candidate.id, task=task) != ("",)
    declared = task_of(candidate, task) if several else None
    return _Findings(
        task=task,
        declared=declared,
        columns=() if declared is None else tuple(range(len(declared.classes))),
        finding=finding_of(session, model=candidate.model, task=task),
    )


def _truth(
    session: Session, scans: Sequence[int], sought: _Findings
) -> tuple[dict[int, list[bool]], int]:
    """Return the truth by scan, without labels that an AI influenced, and how many those are."""
    truth: dict[int, list[bool]] = {}
    influenced = 0
    for (scan, of), label in labels.latest(session, scans).items():
        if of != sought.task:
            continue
        said = sought.of(label)
        if label.ai_influenced:
            influenced += 1
        elif said is not None:
            truth[scan] = said
    return truth, influenced


def _rates(
    calls: npt.NDArray[np.bool_],
    truth: npt.NDArray[np.bool_],
    patients: npt.NDArray[np.str_],
) -> Rates:
    # Each finding of a scan is a case of its patient.
    patients = np.repeat(patients, truth.shape[1])
    calls, truth = calls.ravel(), truth.ravel()

    def of(chosen: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]) -> Proportion | None:
        if not chosen.any():
            return None
        return proportion(right[chosen], patients[chosen], level=LEVEL)

    return Rates(sensitivity=of(truth, calls), specificity=of(~truth, ~calls))


def _as_json(share: Proportion | None) -> dict[str, Json] | None:
    if share is None:
        return None
    return {
        "estimate": share.estimate,
        "low": share.interval.low,
        "high": share.interval.high,
        "count": share.successes,
        "scans": share.scans,
    }
