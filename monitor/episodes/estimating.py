"""How well the champion reads the scans of a shift, before their labels come.

Which estimate is allowed follows from the cause (Castro et al. 2020): what stays as it was on
the reference is what an estimate can rest on. Where nothing is known to stay there is no
figure, and a sentence says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor import embeddings, labels, parts
from monitor.assembling.counting import not_withdrawn
from monitor.episodes.causes import Cause
from monitor.monitors import Monitor
from monitor.performance import performance
from monitor.performance.falls import IMPACT_ALPHA, MARGINS
from monitor.performance.finding import findings_judged, score
from monitor.performance.performance import LabelledResults
from monitor.statistics.performance.difference_of_confidences import (
    SecondOpinion,
    by_difference_of_confidences,
    by_thresholded_confidence,
)
from monitor.statistics.performance.estimated_performance import (
    OF_THE_MODEL,
    Assumption,
    Estimate,
    EstimatedPerformance,
    NoEstimate,
    called_positive,
    estimate_under_covariate_shift,
    estimate_under_label_shift,
)
from monitor.statistics.performance.label_shift import LEAST_WINDOW_PATIENTS
from monitor.statistics.performance.recalibration import CalibratedReference
from monitor.subgroups import Subgroup
from monitor.tables import EmbeddingRow, ResultRow, ScanRow
from monitor.windows import Window
from registry import serving
from registry.canonical import Json
from registry.errors import InsufficientDataError
from registry.versions import VersionRow, task_of

LEVEL = 0.95
#: Above this share of scans beyond the reference's 95th percentile of outlier scores, most of
#: what is new about them was never calibrated.
MOST_NOVEL = 0.25
SEED = 0

#: What each cause leaves as it was.
ASSUMPTIONS: Mapping[Cause, Assumption] = {
    Cause.PREVALENCE: Assumption.LABEL_SHIFT,
    Cause.POPULATION: Assumption.COVARIATE_SHIFT,
}
#: Why no figure is told under the others; each goes on from "no estimate: ".
_BROKEN: Mapping[Cause, str] = {
    Cause.TECHNICAL: "a technical change moves the scores themselves, so that they no longer "
    "mean what they meant on the reference",
    Cause.ACQUISITION: "an acquisition change moves the scores themselves, so that they no "
    "longer mean what they meant on the reference",
    Cause.PIPELINE: "a change in the pipeline moves the scores themselves, so that they no "
    "longer mean what they meant on the reference",
    Cause.CASE_MIX: "with milder or graver findings the same score stands for another risk "
    "than on the reference",
    Cause.PRACTICE: "what counts as a finding changed, and with it what a score means",
    Cause.ROUTING: "scans outside the intended use have no truth to be estimated",
    Cause.MIXED: "with several causes at once nothing is known to have stayed as it was",
    Cause.UNKNOWN: "while the cause is unknown, nothing is known to have stayed as it was",
}
#: What an estimate rests on, in words that go on from "if ".
RESTS_ON: Mapping[Assumption, str] = {
    Assumption.COVARIATE_SHIFT: "a score means what it meant on such scans of the reference",
    Assumption.LABEL_SHIFT: "only the frequency of the finding changed",
}
_NAMES = {"auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactEstimate:
    """What is said of a champion on the scans of a shift, while labels lack."""

    #: figures, or why there are none
    performance: EstimatedPerformance | NoEstimate
    #: share of scans that are called positive: seen, and so free of assumptions
    called_positive: Estimate | None
    #: the same on the reference
    called_positive_before: float | None
    second_opinions: Mapping[str, SecondOpinion]
    #: measures that fell by more than their margin, by the estimate
    fallen: tuple[str, ...]
    #: of a task of several findings, of each the share called, and that on the reference
    by_finding: Mapping[str, tuple[Estimate, float | None]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Json]:
        """Return it as an episode keeps it; figures are [estimate, low, high]."""
        document: dict[str, Json] = {
            "called_positive": _figures(self.called_positive),
            "called_positive_before": self.called_positive_before,
        }
        if self.by_finding:
            document["by_finding"] = {
                finding: {"called": _figures(called), "before": before}
                for finding, (called, before) in self.by_finding.items()
            }
        if isinstance(self.performance, NoEstimate):
            return {**document, "figures": None, "reason": self.performance.reason}
        return {
            **document,
            "figures": {
                name: _figures(measure) for name, measure in self.performance.measures().items()
            },
            "assumption": self.performance.assumption.value,
            "rests_on": RESTS_ON[self.performance.assumption],
            "fallen": list(self.fallen),
            "scans": self.performance.scans,
            "patients": self.performance.patients,
            "level": LEVEL,
            "second_opinions": {
                name: {
                    "sensitivity": opinion.sensitivity,
                    "specificity": opinion.specificity,
                    "ppv": opinion.ppv,
                    "npv": opinion.npv,
                }
                for name, opinion in self.second_opinions.items()
            },
        }


def _figures(measure: Estimate | None) -> Json:
    if measure is None:
        return None
    return [measure.estimate, measure.interval.low, measure.interval.high]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionResults:
    """What a champion said of a window's scans."""

    #: [n]
    scans: tuple[int, ...]
    #: probability of the positive class, [n]
    scores: npt.NDArray[np.float64]
    patients: tuple[str, ...]
    threshold: float


def estimate_impact(
    session: Session,
    monitor: Monitor,
    *,
    cause: Cause,
    window: Window,
    subgroup: Subgroup | None,
    novel_share: float,
) -> ImpactEstimate:
    """Estimate the champion's performance on the scans of a shift, as far as its cause allows.

    Parameters
    ----------
    cause : of the shift
    window : from its onset to the end of what has been judged
    subgroup : where it is, or None for all scans
    novel_share : of its scans beyond the reference's 95th percentile of outlier scores
    """
    champion = serving.champion(session, monitor.specification.model)
    if champion is None:
        return _nothing("no version of the model is in use")
    task = monitor.specification.task
    found = champion_results(
        session,
        version=champion.id,
        task=task,
        window=window,
        subgroup=subgroup,
    )
    if found is None:
        return replace(
            _nothing(_why_none(session, champion, task)),
            by_finding=_called_by_finding(
                session, monitor, version=champion.id, window=window, subgroup=subgroup
            ),
        )
    called = called_positive(
        found.scores, found.patients, threshold=found.threshold, level=LEVEL
    )
    try:
        labelled = performance.reference_results(
            session, monitor, version=champion.id, subgroup=subgroup
        )
        refusal = _refusal(found, cause=cause, novel_share=novel_share)
        if refusal is not None:
            return _nothing(refusal, called=called, labelled=labelled)
        estimated, second_opinions = _estimated(
            session, found, labelled, version=champion.id, assumption=ASSUMPTIONS[cause]
        )
    except InsufficientDataError as error:
        return _nothing(f"the reference has too few labels ({error})", called=called)
    if isinstance(estimated, NoEstimate):
        return _nothing(estimated.reason, called=called, labelled=labelled)
    return ImpactEstimate(
        performance=estimated,
        called_positive=called,
        called_positive_before=_called_before(labelled),
        second_opinions=second_opinions,
        fallen=tuple(
            _NAMES[name]
            for name in OF_THE_MODEL
            if estimated.differences[name].p_fall(MARGINS[_NAMES[name]])
            <= IMPACT_ALPHA / len(OF_THE_MODEL)
        ),
    )


def _called_by_finding(
    session: Session,
    monitor: Monitor,
    *,
    version: int,
    window: Window,
    subgroup: Subgroup | None,
) -> dict[str, tuple[Estimate, float | None]]:
    """Return of each of several findings how often it is called; nothing of a task of one."""
    task = monitor.specification.task
    shares: dict[str, tuple[Estimate, float | None]] = {}
    for finding in filter(None, findings_judged(session, version=version, task=task)):
        found = champion_results(
            session,
            version=version,
            task=task,
            window=window,
            subgroup=subgroup,
            finding=finding,
        )
        if found is None:
            continue
        try:
            before = _called_before(
                performance.reference_results(
                    session, monitor, version=version, subgroup=subgroup, finding=finding
                )
            )
        except InsufficientDataError:
            before = None
        called = called_positive(
            found.scores, found.patients, threshold=found.threshold, level=LEVEL
        )
        shares[finding] = (called, before)
    return shares


def _why_none(session: Session, champion: VersionRow, task: str) -> str:
    """Return why there is nothing to estimate from."""
    if findings_judged(session, version=champion.id, task=task) != ("",):
        return f"task {task} has several findings: only labels say what became of each"
    declared = task_of(champion, task)
    if declared is not None and declared.threshold is None:
        return f"task {task} has no threshold: nothing is called positive"
    return "the champion has read none of these scans"


def champion_results(
    session: Session,
    *,
    version: int,
    task: str,
    window: Window,
    subgroup: Subgroup | None,
    finding: str = "",
) -> ChampionResults | None:
    """Return what a version said of a window's scans, or None if it read none.

    Nor is anything returned of a task without a threshold, or of several findings where none
    of them is named.
    """
    findings = findings_judged(session, version=version, task=task)
    if finding not in findings:
        return None
    column = findings.index(finding) if finding else None
    query = (
        select(
            ScanRow.id,
            ScanRow.site,
            ScanRow.person,
            ResultRow.probabilities,
            ResultRow.finding,
            ResultRow.threshold,
        )
        .join(ResultRow, ResultRow.scan == ScanRow.id)
        .where(
            ResultRow.version == version,
            ResultRow.task == task,
            ScanRow.arrived_at >= window.start,
            ScanRow.arrived_at < window.end,
            *parts.of_arrivals(session, ResultRow.scan, since=window.start, until=window.end),
            not_withdrawn(),
        )
        .order_by(ScanRow.id)
    )
    if subgroup is not None:
        query = query.where(subgroup.where())
    rows = session.execute(query).all()
    if not rows or rows[0].threshold is None:
        return None
    return ChampionResults(
        scans=tuple(row.id for row in rows),
        scores=np.array(
            [
                score(row.probabilities, row.finding if column is None else column)
                for row in rows
            ]
        ),
        patients=tuple(f"{row.site}/{row.person}" for row in rows),
        threshold=rows[0].threshold,
    )


def _refusal(found: ChampionResults, *, cause: Cause, novel_share: float) -> str | None:
    """Return why nothing can be estimated, whatever the scores are; None where it may."""
    if cause not in ASSUMPTIONS:
        return _BROKEN[cause]
    if novel_share > MOST_NOVEL:
        return (
            f"{novel_share:.0%} of the scans lie beyond the reference's 95th percentile (at most "
            f"{MOST_NOVEL:.0%} may), so the reference does not say what their scores mean"
        )
    patients = len(set(found.patients))
    if patients < LEAST_WINDOW_PATIENTS:
        return f"{patients} patients are too few (at least {LEAST_WINDOW_PATIENTS})"
    return None


def _estimated(
    session: Session,
    found: ChampionResults,
    labelled: LabelledResults,
    *,
    version: int,
    assumption: Assumption,
) -> tuple[EstimatedPerformance | NoEstimate, dict[str, SecondOpinion]]:
    patients = list(labelled.patients)
    if assumption is Assumption.LABEL_SHIFT:
        reference = CalibratedReference.fit(
            labelled.scores, labelled.truth, patients, seed=SEED
        )
        under_label_shift = estimate_under_label_shift(
            reference,
            found.scores,
            found.patients,
            threshold=found.threshold,
            level=LEVEL,
            seed=SEED,
        )
        return under_label_shift, {}
    before = _vectors(session, version, [scan.id for scan in labelled.scans])
    now = _vectors(session, version, found.scans)
    if before is None or now is None:
        before = now = None
    reference = CalibratedReference.fit(
        labelled.scores, labelled.truth, patients, vectors=before, seed=SEED
    )
    under_covariate_shift = estimate_under_covariate_shift(
        reference,
        found.scores,
        found.patients,
        vectors=now,
        threshold=found.threshold,
        level=LEVEL,
        seed=SEED,
    )
    return under_covariate_shift, _second_opinions(reference, found, now)


def _vectors(
    session: Session, version: int, scans: Sequence[int]
) -> npt.NDArray[np.float32] | None:
    """Return the embeddings of scans by a version, [n, d]; None where one lacks its own."""
    found: dict[int, bytes] = {}
    for start in range(0, len(scans), labels.PARAMETERS):
        part = scans[start : start + labels.PARAMETERS]
        rows = session.execute(
            select(EmbeddingRow.scan, EmbeddingRow.vector).where(
                EmbeddingRow.version == version, EmbeddingRow.scan.in_(part)
            )
        )
        found.update((scan, vector) for scan, vector in rows)
    if len(found) < len(scans):
        return None
    return np.array(
        [np.frombuffer(found[scan], dtype=embeddings.STORED) for scan in scans],
        dtype=np.float32,
    )


def _second_opinions(
    reference: CalibratedReference,
    found: ChampionResults,
    vectors: npt.NDArray[np.float32] | None,
) -> dict[str, SecondOpinion]:
    try:
        return {
            "difference of confidences": by_difference_of_confidences(
                reference, found.scores, vectors=vectors, threshold=found.threshold
            ),
            "thresholded confidence": by_thresholded_confidence(
                reference, found.scores, threshold=found.threshold
            ),
        }
    except InsufficientDataError:
        return {}  # one side of the threshold is empty: there is nothing to differ


def _nothing(
    reason: str, *, called: Estimate | None = None, labelled: LabelledResults | None = None
) -> ImpactEstimate:
    return ImpactEstimate(
        performance=NoEstimate(reason=reason),
        called_positive=called,
        called_positive_before=_called_before(labelled) if labelled else None,
        second_opinions={},
        fallen=(),
    )


def _called_before(labelled: LabelledResults) -> float:
    return float(np.mean(labelled.scores >= labelled.threshold))
