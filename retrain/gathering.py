"""What gates look at: both models on a run's locked sets, finding by finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from monitor import datasets, labels
from monitor.datasets import Purpose
from monitor.labelling.truth import Truth
from monitor.performance.finding import holds
from monitor.requests.estimating import gate_weights
from monitor.subgroups import Attribute, value_of
from monitor.tables import EpisodeRow, ScanRow
from registry import lineage
from registry.bundles.heads import Task, TaskKind
from registry.database import Database
from registry.errors import BadInputError, ConflictError, InsufficientDataError
from registry.versions import VersionRow, ref
from retrain import label_requesting, reviews, run_data
from retrain.change_plan import GateRules
from retrain.gates.classes import Finding, PairedClasses
from retrain.gates.evaluation import Evidence
from retrain.gates.impact import Change, MeasuredImpact, measure_impact
from retrain.gates.outcome import Gate
from retrain.gates.results import AiInfluence, Floats, PairedResults, Results
from retrain.gates.spending import Uses
from retrain.readers import Reader
from retrain.tables import RunRow

IMPACT_LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSet:
    """Scans of a frozen set with what is known of them."""

    scans: Sequence[ScanRow]
    truth: tuple[Truth, ...]
    #: inverse of each scan's chance to be labelled; None where the chances are equal
    weights: Floats | None = None

    def with_finding(self, task: Task, finding: str) -> npt.NDArray[np.bool_]:
        """Return of which scans a finding is true, [n]."""
        return np.array([holds(task, finding, truth) for truth in self.truth], dtype=bool)

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The number of each scan's class, of a multi-class task, [n]."""
        return np.array([truth.value for truth in self.truth], dtype=np.int64)

    @property
    def influence(self) -> tuple[AiInfluence, ...]:
        return tuple(
            AiInfluence.INFLUENCED if truth.ai_influenced else AiInfluence.NONE
            for truth in self.truth
        )

    @property
    def patients(self) -> list[str]:
        # As training data are recorded; a pseudonym is of one site.
        return [scan.person for scan in self.scans]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A version with its task."""

    version: VersionRow
    task: Task

    @property
    def findings(self) -> dict[str, int]:
        """The column of each finding by its name, which a task's only one does not need.

        Raises
        ------
        BadInputError
            If there is none: gates would have nothing to judge.
        """
        names = self.task.findings
        if not names:
            raise BadInputError(
                f"task {self.task.name} of {ref(self.version)} has no positive class: gates judge "
                "a finding at its threshold"
            )
        columns = {name: self.task.classes.index(name) for name in names}
        return columns if len(columns) > 1 else {"": columns[names[0]]}

    @property
    def threshold(self) -> float:
        if self.task.threshold is None:
            raise BadInputError(
                f"task {self.task.name} has no threshold: gates judge an operating point"
            )
        return self.task.threshold


class Gatherer:
    """Reads a run's locked sets by the versions that its gates compare."""

    def __init__(self, database: Database, reader: Reader) -> None:
        self._database = database
        self._reader = reader

    def first_version(self, run: RunRow, candidate: VersionRow) -> dict[str, Results]:
        """Return a first version's results on its locked reference, by finding."""
        locked = self.locked(run, Purpose.LOCKED_REFERENCE)
        model = self._model(candidate, run)
        return self._results(model, locked, self._read(model, locked.scans))

    def against_champion(
        self,
        run: RunRow,
        candidate: VersionRow,
        rules: GateRules,
        before: Mapping[Purpose, int],
    ) -> Evidence:
        """Return what the gates of a repair look at.

        Parameters
        ----------
        before : how many candidates each locked set has judged
        """
        with self._database.reading() as session:
            champion = session.get_one(VersionRow, run.champion_before)
        old, new = self._model(champion, run), self._model(candidate, run)
        if old.task.classes != new.task.classes:
            raise BadInputError(
                f"task {new.task.name} has other classes in {ref(candidate)} than in "
                f"{ref(champion)}: they cannot be compared"
            )
        locked = self.locked(run, Purpose.LOCKED_REFERENCE)
        known = self._read(old, locked.scans), self._read(new, locked.scans)
        reference = self._paired(old, new, locked, known)
        impact = self._impact(run, old, locked, known[0])
        away = self.locked(run, Purpose.LOCKED_DRIFTED)
        drifted = self._paired(
            old, new, away, (self._read(old, away.scans), self._read(new, away.scans))
        )
        reviewed = self._reviewed(run, old, new, locked, known[1])
        changed = (
            self._changed(old, new, locked.scans, reference)
            if Gate.ROBUSTNESS in rules.required
            else None
        )
        found = {
            name: Finding(
                drifted=drifted[name],
                reference=reference[name],
                impact=impact[name],
                reviewed=None if reviewed is None else reviewed[1][name],
                changed=None if changed is None else changed[name],
            )
            for name in new.findings
        }
        first, *further = found
        declared = rules.locked_set_uses
        return Evidence(
            finding=first,
            drifted=found[first].drifted,
            reference=found[first].reference,
            impact=found[first].impact,
            reviewed=None if reviewed is None else (reviewed[0], reviewed[1][first]),
            changed=found[first].changed,
            further={name: found[name] for name in further},
            classes=_classes(new.task, locked, known),
            trained_on=self.trained_on(candidate),
            parity=self._reader.parity(candidate),
            deployment=self._reader.timed(champion, candidate, locked.scans)
            if Gate.DEPLOYMENT in rules.required
            else None,
            drifted_uses=Uses(before=before[Purpose.LOCKED_DRIFTED], declared=declared),
            reference_uses=Uses(before=before[Purpose.LOCKED_REFERENCE], declared=declared),
        )

    def locked(self, run: RunRow, purpose: Purpose) -> LockedSet:
        """Return one of a run's locked sets with its labels.

        Raises
        ------
        ConflictError
            If some of its scans have no truth any more.
        """
        with self._database.reading() as session:
            scans = datasets.members(session, run.datasets[purpose])
            part = _with_truth(session, scans, run.settings["task"])
            return replace(part, weights=_weights(session, run, purpose, scans))

    def trained_on(self, candidate: VersionRow) -> frozenset[str]:
        """Return the patients behind the candidate and every version that it was derived from."""
        with self._database.reading() as session:
            digests = [
                data["digest"]
                for version in (candidate, *lineage.ancestors(session, candidate))
                for data in version.card["training_data"]
                if data["digest"]
            ]
            return frozenset(datasets.patients_in(session, digests))

    def _model(self, version: VersionRow, run: RunRow) -> _Model:
        return _Model(version=version, task=self._reader.task(version, run.settings["task"]))

    def _read(self, model: _Model, scans: Sequence[ScanRow]) -> Floats:
        """Return the probability of each class, [n, k]."""
        return self._reader.probabilities(model.version, scans, model.task.name)

    def _results(self, model: _Model, part: LockedSet, said: Floats) -> dict[str, Results]:
        return {
            name: Results(
                probabilities=said[:, column],
                truth=part.with_finding(model.task, model.task.classes[column]),
                patients=np.array(part.patients),
                threshold=model.threshold,
                weights=part.weights,
            )
            for name, column in model.findings.items()
        }

    def _paired(
        self, old: _Model, new: _Model, locked: LockedSet, said: tuple[Floats, Floats]
    ) -> dict[str, PairedResults]:
        subgroups = {
            attribute.value: np.array(
                [value_of(scan, attribute) or "" for scan in locked.scans]
            )
            for attribute in Attribute
        }
        return {
            name: PairedResults(
                champion=said[0][:, column],
                candidate=said[1][:, column],
                champion_threshold=old.threshold,
                candidate_threshold=new.threshold,
                truth=locked.with_finding(new.task, new.task.classes[column]),
                patients=np.array(locked.patients),
                influence=locked.influence,
                subgroups=subgroups,
                weights=locked.weights,
            )
            for name, column in new.findings.items()
        }

    def _reviewed(
        self, run: RunRow, old: _Model, new: _Model, locked: LockedSet, said: Floats
    ) -> tuple[str, dict[str, PairedResults]] | None:
        """Read the reference by the version of the last full review, if another one serves."""
        with self._database.reading() as session:
            version = reviews.reviewed_version(session, run.model)
        if version is None or version.id == old.version.id:
            return None
        model = self._model(version, run)
        read = self._read(model, locked.scans), said
        return str(ref(version)), self._paired(model, new, locked, read)

    def _changed(
        self,
        old: _Model,
        new: _Model,
        scans: Sequence[ScanRow],
        reference: Mapping[str, PairedResults],
    ) -> dict[str, dict[str, PairedResults]] | None:
        """Read the reference under small changes of the acquisition."""
        before, after = (
            self._reader.changed(model.version, scans, task=model.task) for model in (old, new)
        )
        if before is None or after is None:
            return None
        return {
            name: {
                change: replace(
                    reference[name],
                    champion=before[change][:, column],
                    candidate=after[change][:, column],
                )
                for change in before
            }
            for name, column in new.findings.items()
        }

    def _impact(
        self, run: RunRow, model: _Model, reference: LockedSet, said: Floats
    ) -> dict[str, MeasuredImpact]:
        """Measure what the shift did to the champion, on scans outside every locked set.

        The champion never saw the scans of the shift, not even those that the
        candidate was trained on; replayed scans are no part of the shift.
        """
        task = model.task.name
        with self._database.reading() as session:
            episode = session.get_one(EpisodeRow, run.episode)
            shifted = {scan.id for scan in run_data.shifted_scans(session, episode, run.model)}
            # Of requested labels those that train cover the embeddings: they are no sample.
            measuring = (
                (Purpose.TRAINING, Purpose.SELECTION)
                if label_requesting.request_of(session, run) is None
                else (Purpose.SELECTION,)
            )
            outside = [
                scan
                for purpose in measuring
                for scan in datasets.members(session, run.datasets[purpose])
                if scan.id in shifted
            ]
            known = labels.latest(session, [scan.id for scan in outside])
            # What an AI influenced may have trained the candidate; it measures nothing.
            honest = [
                scan
                for scan in outside
                if (scan.id, task) not in known or not known[scan.id, task].ai_influenced
            ]
            part = _with_truth(session, honest, task)
        before = self._results(model, reference, said)
        after = self._results(model, part, self._read(model, part.scans))
        return {
            name: _impact_of(before[name], after[name], alone=len(before) == 1)
            for name in before
        }


def _impact_of(before: Results, after: Results, *, alone: bool) -> MeasuredImpact:
    """Measure the impact on one finding.

    Of several, one may be too rare outside the locked sets to be measured. No loss is shown then,
    and nothing in it may become inferior.
    """
    try:
        return measure_impact(before, after, level=IMPACT_LEVEL)
    except InsufficientDataError:
        if alone:
            raise
        return MeasuredImpact(sensitivity=Change.KEPT, specificity=Change.KEPT, auc=Change.KEPT)


def _classes(
    task: Task, locked: LockedSet, said: tuple[Floats, Floats]
) -> PairedClasses | None:
    """Return both models on all classes of the reference, of a task that has more than two."""
    if task.kind is not TaskKind.MULTI_CLASS or len(task.classes) < 3:
        return None
    return PairedClasses(
        classes=task.classes,
        champion=said[0],
        candidate=said[1],
        truth=locked.classes,
        patients=np.array(locked.patients),
        influence=locked.influence,
        weights=locked.weights,
    )


def _with_truth(session: Session, scans: Sequence[ScanRow], task: str) -> LockedSet:
    known = labels.latest(session, [scan.id for scan in scans])
    found = [known[scan.id, task] for scan in scans if (scan.id, task) in known]
    if len(found) < len(scans):
        raise ConflictError(
            f"{len(scans) - len(found)} of its scans have lost their label, or are disputed "
            "by now: adjudicate them (`driftward label disputed`), and start a run anew"
        )
    return LockedSet(scans=scans, truth=tuple(found))


def _weights(
    session: Session, run: RunRow, purpose: Purpose, scans: Sequence[ScanRow]
) -> Floats | None:
    """Return the inverse of each scan's chance to be drawn and read, [n].

    None, for equal chances, of a set that was split from labels that nobody requested.
    """
    request = label_requesting.request_of(session, run)
    if request is None or purpose is not Purpose.LOCKED_DRIFTED:
        return None
    return gate_weights(session, request, scans)
