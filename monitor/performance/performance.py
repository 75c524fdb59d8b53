"""Performance of a version on labelled scans."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from monitor import labels, parts, references
from monitor.assembling.counting import not_withdrawn
from monitor.datasets import member_ids
from monitor.kept_answers import once
from monitor.monitors import Monitor
from monitor.performance.finding import findings_judged, holds, is_there, says_which, score
from monitor.references import EncoderRole
from monitor.statistics.performance.discrimination import Area, estimate_auc
from monitor.statistics.performance.proportions import OperatingPoint, operating_point
from monitor.statistics.performance.recalibration import LEAST_PATIENTS
from monitor.subgroups import Subgroup
from monitor.tables import DatasetMember, PerformanceRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import ledger
from registry.bundles.heads import Task
from registry.canonical import Json
from registry.errors import InsufficientDataError
from registry.versions import VersionRow, task_of

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledResults:
    """Results of one version on scans whose truth is known."""

    #: probability of the positive class, float64, [n]
    scores: npt.NDArray[np.float64]
    #: [n]
    truth: npt.NDArray[np.bool_]
    #: one a scan
    patients: tuple[str, ...]
    scans: tuple[ScanRow, ...]
    threshold: float
    #: labels among them that an AI influenced
    ai_influenced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """How well a version reads, with 95 % intervals by patient."""

    area: Area
    point: OperatingPoint

    def to_dict(self) -> dict[str, Json]:
        """Return [estimate, low, high] of each measure."""
        return {
            "auc": [
                self.area.estimate,
                self.area.interval.low,
                self.area.interval.high,
            ],
            **{
                name: [value.estimate, value.interval.low, value.interval.high]
                for name, value in (
                    ("sensitivity", self.point.sensitivity),
                    ("specificity", self.point.specificity),
                )
            },
        }


def labelled_results(
    session: Session,
    *,
    version: int,
    task: str,
    window: Window | None = None,
    dataset: int | None = None,
    subgroup: Subgroup | None = None,
    finding: str = "",
    without_ai: bool = False,
    only: Collection[int] | None = None,
) -> LabelledResults:
    """Return the results of one version on labelled scans, in the order of the scans.

    Parameters
    ----------
    finding : which of several, as `monitor.performance.finding.findings_judged` names them
    without_ai : leave out labels that an AI influenced; they lean to what it said
    only : of these scans alone, by id; None for all

    Raises
    ------
    InsufficientDataError
        If there are none, or none can be judged: there is no threshold, or no one finding.
    """

    def asked() -> LabelledResults:
        return _labelled_results(
            session,
            version=version,
            task=task,
            window=window,
            dataset=dataset,
            subgroup=subgroup,
            finding=finding,
            without_ai=without_ai,
            only=only,
        )

    if dataset is None or window is not None or only is not None:
        return asked()
    question = ("labelled results", version, task, dataset, subgroup, finding, without_ai)
    return once(session, question, asked, about=lambda: member_ids(session, dataset))


def _labelled_results(
    session: Session,
    *,
    version: int,
    task: str,
    window: Window | None,
    dataset: int | None,
    subgroup: Subgroup | None,
    finding: str,
    without_ai: bool,
    only: Collection[int] | None,
) -> LabelledResults:
    sought = _sought(session, version=version, task=task, finding=finding)
    conditions: list[ColumnElement[bool]] = [
        ResultRow.version == version,
        ResultRow.task == task,
        labels.having_label(task),
    ]
    if window is not None:
        conditions += [
            ScanRow.arrived_at >= window.start,
            ScanRow.arrived_at < window.end,
            *parts.of_arrivals(session, ResultRow.scan, since=window.start, until=window.end),
            not_withdrawn(),
        ]
    if dataset is not None:
        chosen = select(DatasetMember.scan).where(DatasetMember.dataset == dataset)
        conditions.append(ScanRow.id.in_(chosen))
    if subgroup is not None:
        conditions.append(subgroup.where())
    found = session.execute(
        select(ScanRow, ResultRow)
        .join(ResultRow, ResultRow.scan == ScanRow.id)
        .where(*conditions)
        .order_by(ScanRow.id)
    )
    rows = [(scan, result) for scan, result in found if only is None or scan.id in only]
    known = labels.latest(session, [scan.id for scan, _ in rows])
    labelled = [
        (scan, result, known[scan.id, task])
        for scan, result in rows
        if (scan.id, task) in known
        and not (without_ai and known[scan.id, task].ai_influenced)
        and (sought is None or says_which(sought, known[scan.id, task]))
    ]
    if not labelled:
        raise InsufficientDataError(what="labelled scans with a result", needed=1, got=0)
    threshold = labelled[0][1].threshold
    if threshold is None:
        raise InsufficientDataError(
            what=f"results of task {task} at a threshold", needed=1, got=0
        )
    return LabelledResults(
        scores=np.array(
            [
                score(
                    result.probabilities,
                    result.finding if sought is None else sought.classes.index(finding),
                )
                for _, result, _ in labelled
            ]
        ),
        truth=np.array(
            [
                is_there(label.value, result.finding)
                if sought is None
                else holds(sought, finding, label)
                for _, result, label in labelled
            ]
        ),
        patients=tuple(f"{scan.site}/{scan.person}" for scan, *_ in labelled),
        scans=tuple(scan for scan, *_ in labelled),
        threshold=threshold,
        ai_influenced=sum(label.ai_influenced for *_, label in labelled),
    )


def _sought(session: Session, *, version: int, task: str, finding: str) -> Task | None:
    """Return the task one of whose several findings is asked for; None of a task of one.

    Raises
    ------
    InsufficientDataError
        If it has several, and none was named.
    """
    findings = findings_judged(session, version=version, task=task)
    if findings == ("",):
        return None
    if finding not in findings:
        raise InsufficientDataError(
            what=f"findings that all of task {task} comes to (it has {len(findings)}, each judged "
            "by itself)",
            needed=1,
            got=0,
        )
    return task_of(session.get_one(VersionRow, version), task)


def reference_results(
    session: Session,
    monitor: Monitor,
    *,
    version: int,
    subgroup: Subgroup | None = None,
    finding: str = "",
) -> LabelledResults:
    """Return a version's results on its reference, without labels that an AI influenced.

    Of a subgroup, those of its own past where that has enough labels, and else of all scans.

    Raises
    ------
    InsufficientDataError
        If the version has no reference, or that has no labels.
    """
    dataset = next(
        (
            row.dataset
            for row in references.deciding(session, monitor.name)
            if row.encoder == EncoderRole.CHAMPION and row.version == version
        ),
        None,
    )
    if dataset is None:
        raise InsufficientDataError(what="references of the champion", needed=1, got=0)

    def labelled(part: Subgroup | None) -> LabelledResults:
        return labelled_results(
            session,
            version=version,
            task=monitor.specification.task,
            dataset=dataset,
            subgroup=part,
            finding=finding,
            without_ai=True,
        )

    if subgroup is not None:
        try:
            own_past = labelled(subgroup)
        except InsufficientDataError:
            return labelled(None)
        if fewest_patients(own_past.patients, own_past.truth) >= LEAST_PATIENTS:
            return own_past
    return labelled(None)


def fewest_patients(patients: Sequence[str], truth: npt.NDArray[np.bool_]) -> int:
    """Return how many patients have scans of the class that fewer have."""
    sick = {patient for patient, ill in zip(patients, truth, strict=True) if ill}
    well = {patient for patient, ill in zip(patients, truth, strict=True) if not ill}
    return min(len(sick), len(well))


def measure(results: LabelledResults) -> Performance:
    """Measure performance.

    Raises
    ------
    InsufficientDataError
        If a class is missing.
    """
    patients = list(results.patients)
    return Performance(
        area=estimate_auc(results.scores, results.truth, patients, level=LEVEL),
        point=operating_point(
            results.scores,
            results.truth,
            patients=patients,
            threshold=results.threshold,
            level=LEVEL,
        ),
    )


def store(
    session: Session,
    *,
    monitor: str,
    version: int,
    window: Window,
    subgroup: str,
    finding: str = "",
    results: LabelledResults,
    performance: Performance,
    actor: str,
    at: datetime,
) -> PerformanceRow:
    """Store what was measured; a later measurement of the same window is a new row."""
    row = PerformanceRow(
        monitor=monitor,
        version=version,
        start=window.start,
        end=window.end,
        subgroup=subgroup,
        finding=finding,
        scans=len(results.scans),
        positives=int(np.count_nonzero(results.truth)),
        measures=performance.to_dict(),
        created_at=at,
    )
    session.add(row)
    session.flush()
    ledger.append(
        session,
        at=at,
        actor=actor,
        kind="performance.measured",
        subject=monitor,
        facts={
            "window": str(window),
            "version": version,
            "subgroup": subgroup,
            **({"finding": finding} if finding else {}),
            "scans": row.scans,
            "ai_influenced": results.ai_influenced,
        },
        seals=[row],
    )
    return row


def newest(session: Session, monitor: str) -> list[PerformanceRow]:
    """Return the newest measurement of each window, subgroup and finding, in the order of time."""
    rows = session.scalars(
        select(PerformanceRow)
        .where(PerformanceRow.monitor == monitor)
        .order_by(PerformanceRow.id)
    )
    latest: dict[tuple[datetime, datetime, str, str], PerformanceRow] = {
        (row.start, row.end, row.subgroup, row.finding): row for row in rows
    }
    return sorted(
        latest.values(), key=lambda row: (row.start, row.end, row.subgroup, row.finding)
    )


def of_worst_finding(rows: Sequence[PerformanceRow]) -> list[PerformanceRow]:
    """Return, of each window and subgroup, the finding with the smallest AUC."""
    worst: dict[tuple[datetime, datetime, str], PerformanceRow] = {}
    for row in rows:
        place = (row.start, row.end, row.subgroup)
        known = worst.get(place)
        if known is None or row.measures["auc"][0] < known.measures["auc"][0]:
            worst[place] = row
    return list(worst.values())
