"""What a run's request would ask for: the plan's arithmetic beside who can be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from monitor import datasets, labels, references
from monitor.datasets import Purpose
from monitor.performance.finding import finding_of, is_there
from monitor.requests.frame import NOT_READ, Frame, frame_of
from monitor.tables import EpisodeRow
from registry.errors import InsufficientDataError, PlanRefusedError
from registry.versions import VersionRow
from retrain import run_data
from retrain.change_plan import Plan
from retrain.gates.measures import CO_PRIMARY, Measure
from retrain.label_arithmetic import LabelNeeds, label_needs
from retrain.label_rules import LabelSample
from retrain.plans import AppliedPlan
from retrain.tables import RunRow

TRAINED = "their patient trained the champion"
JUDGED = "their patient stands in the locked reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What a request would ask for, before anything is drawn."""

    needs: LabelNeeds
    frame: Frame
    #: why it cannot be made now; None where it can
    refusal: str | None

    def in_words(self) -> list[str]:
        """Return the arithmetic, and how many patients there are to draw from."""
        left_out = [
            f"{count} scans are left out: {why}." for why, count in self.frame.left_out.items()
        ]
        found = [
            *self.needs.in_words(),
            f"{len(self.frame.patients)} patients with {self.frame.scans} scans can be drawn.",
            *left_out,
        ]
        return found if self.refusal is None else [*found, self.refusal]


def propose(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: AppliedPlan,
    *,
    task: str,
    at: datetime,
) -> Proposed:
    """Reckon what a run's request would ask for, and whether it can.

    Raises
    ------
    PlanRefusedError
        If the plan requests no labels.
    InsufficientDataError
        If no number of labels satisfies the plan, or nothing says how frequent the finding is.
    """
    rules = plan.plan.labels
    if rules.sample is not LabelSample.REQUESTED or rules.request is None:
        raise PlanRefusedError(
            f"plan {plan.number} takes the labels that come (labels.sample: census): set it to "
            "requested, with labels.request, to draw scans"
        )
    prevalence, source = _prevalence(session, run, plan.plan, task=task)
    needs = label_needs(
        rules,
        plan.plan.gates.limits,
        uses=plan.plan.gates.locked_set_uses,
        prevalence=prevalence,
        prevalence_of=source,
        lost=_lost(episode),
    )
    frame = _frame(session, run, episode, plan.plan, task=task, at=at)
    return Proposed(
        needs=needs,
        frame=frame,
        refusal=_refusal(run, episode, plan, needs, frame, at=at),
    )


def _frame(
    session: Session,
    run: RunRow,
    episode: EpisodeRow,
    plan: Plan,
    *,
    task: str,
    at: datetime,
) -> Frame:
    first = run_data.first_run(session, run.model)
    base = session.get_one(VersionRow, run.base)
    return frame_of(
        session,
        run_data.permitted_scans(session, episode, run.model, plan.data, at=at),
        version=run.base,
        task=task,
        at=at,
        apart={
            TRAINED: references.trained_patients(session, [base]),
            JUDGED: run_data.patients_of(
                datasets.members(session, first.datasets[Purpose.LOCKED_REFERENCE])
            ),
        },
    )


def _prevalence(session: Session, run: RunRow, plan: Plan, *, task: str) -> tuple[float, str]:
    """Return the expected share of patients with the finding, and where that is from."""
    rules = plan.labels.request
    if rules is not None and rules.prevalence is not None:
        return rules.prevalence, "as the plan expects"
    first = run_data.first_run(session, run.model)
    scans = datasets.members(session, first.datasets[Purpose.LOCKED_REFERENCE])
    known = labels.latest(session, [scan.id for scan in scans])
    finding = finding_of(session, model=run.model, task=task)
    ill = {
        scan.person
        for scan in scans
        if (scan.id, task) in known and is_there(known[scan.id, task].value, finding)
    }
    everybody = {scan.person for scan in scans if (scan.id, task) in known}
    if not ill or len(ill) == len(everybody):
        raise InsufficientDataError(
            what="patients of the locked reference with, and without the finding, from whom the "
            "prevalence would follow (labels.request.prevalence states it)",
            needed=1,
            got=0,
        )
    return len(ill) / len(everybody), "as in the locked reference"


def _lost(episode: EpisodeRow) -> Sequence[Measure]:
    """Return which measures may have fallen: those that labels showed, or else both."""
    falls = (episode.evidence.get("impact") or {}).get("falls", [])
    shown = [measure for measure in CO_PRIMARY if measure in {f["measure"] for f in falls}]
    return tuple(shown) or CO_PRIMARY


def _refusal(
    run: RunRow,
    episode: EpisodeRow,
    plan: AppliedPlan,
    needs: LabelNeeds,
    frame: Frame,
    *,
    at: datetime,
) -> str | None:
    rules = needs.rules
    if needs.total > rules.at_most:
        return (
            f"Of plan {plan.number} a request may ask for {rules.at_most} patients "
            f"(labels.request.at_most), and this takes {needs.total}: raise it, ask for less power, "
            "or expect a larger gain."
        )
    got = len(frame.patients)
    if got >= needs.total:
        return None
    influenced = sum(
        count for why, count in frame.left_out.items() if why not in {TRAINED, JUDGED, NOT_READ}
    )
    where = f"--subgroup '{episode.subgroup}' " if episode.subgroup else ""
    verb = "restrict" if episode.subgroup else "suspend"
    found = f"Of {needs.total} patients, {got} can be drawn."
    if influenced:
        found += (
            f" {influenced} scans were left out because an AI would influence their labels: "
            f"`driftward {verb} {run.model} {where}--reason …` withholds results, and of what "
            "arrives from then on honest labels can be asked for."
        )
    days = (at - episode.onset) / timedelta(days=1)
    if got > 0 and days > 0:
        left = math.ceil((needs.total - got) * days / got)
        found += f" At the rate since the onset the others come within {left} days."
    return found
