"""What the pattern of a shift says of its cause: reference, window and classifier together.

The classifier (`monitor/statistics/attribution`) reads the shift in the champion's and in the
monitoring encoder's space, the champion's probabilities, and the pixels. Where one of them is
not to be had, there is no pattern, and a sentence says what lacks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from monitor import embeddings
from monitor.embedding.embedding import Embedder
from monitor.embeddings import EmbeddedScans
from monitor.episodes.estimating import champion_results
from monitor.imaging.pixel_measures import MEASURES
from monitor.monitors import Monitor
from monitor.performance import performance
from monitor.performance.performance import LabelledResults
from monitor.references import EncoderRole, ProfileStore, deciding
from monitor.statistics.attribution.classifier import (
    Attribution,
    CauseClassifier,
    shipped_classifier,
)
from monitor.statistics.attribution.first_level import FirstLevel
from monitor.statistics.attribution.pattern import (
    AttributionReference,
    Measures,
    SpaceShift,
    pattern,
)
from monitor.statistics.patients import Patients, some_patients
from monitor.statistics.performance.label_shift import (
    LEAST_FIT,
    LabelShift,
    estimate_label_shift,
)
from monitor.statistics.performance.recalibration import CalibratedReference
from monitor.subgroups import HIERARCHY, Subgroup, value_of
from monitor.tables import ReferenceRow, ScanRow
from monitor.windows import Window
from registry.bundles.heads import TaskKind
from registry.canonical import Json
from registry.errors import BadInputError, DriftwardError, InsufficientDataError
from registry.versions import VersionRow, task_of

#: Fewest labelled scans of a reference, and patients of a window, on which the classifier of
#: causes was tried.
LEAST_REFERENCE, LEAST_WINDOW = 200, 60
#: Labelled scans of a reference that are looked at: their pixels are read again.
_MOST_REFERENCE = 1500
#: Of these, and of a window's, the share whose pixels may have become unreadable: without so few
#: the rest still stands for all.
MOST_UNREAD = 0.05
_LEVEL = 0.95
_SEED = 0
#: Pieces of evidence that an episode names.
_NAMED = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """What the pattern of a shift says of its cause, or why there is no pattern."""

    attribution: Attribution | None
    #: where there is none, what lacks
    reason: str | None
    #: share of scans with the finding, from scans that the shift did not touch otherwise
    prevalence: LabelShift | None
    #: scans, of the window and of the reference, that are left out as their pixels cannot be
    #: read again
    unread: int = 0

    def prevalence_words(self) -> str:
        """Return how frequent the finding is now, in a sentence; empty where nothing is known."""
        told = self.prevalence
        if told is None:
            return ""
        return (
            f"{told.prevalence:.0%} of scans have the finding ({told.interval.low:.0%} to "
            f"{told.interval.high:.0%}), {told.before:.0%} in the reference: told by "
            f"{told.scans} scans that nothing else touched"
        )

    def to_dict(self) -> dict[str, Json]:
        """Return it as an episode keeps it."""
        found = self.attribution
        if found is None:
            return {"cause": None, "reason": self.reason}
        return {
            "cause": found.cause.value,
            "doubt": found.doubt.value,
            "leading": found.leading.value,
            "likest": found.likest,
            "confidence": round(found.confidence, 4),
            "farther": round(found.farther, 4),
            "unlike": list(found.unlike),
            "shares": [[cause.value, round(share, 4)] for cause, share in found.shares],
            "evidence": [
                {
                    "piece": one.piece,
                    "contribution": round(one.contribution, 4),
                    "numbers": {name: round(v, 4) for name, v in one.numbers.items()},
                }
                for one in found.evidence[:_NAMED]
            ],
            "prevalence": _prevalence(self.prevalence),
            "unread": self.unread,
        }


def _prevalence(found: LabelShift | None) -> Json:
    if found is None:
        return None
    return [found.prevalence, found.interval.low, found.interval.high, found.before]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """What is kept of a reference between alarms."""

    reference: AttributionReference
    calibrated: CalibratedReference
    #: of its scans, those whose pixels cannot be read again
    unread: int


class Attributor:
    """Names the cause that the pattern of a shift speaks for."""

    def __init__(self, profiles: ProfileStore, embedder: Embedder) -> None:
        self._profiles = profiles
        self._embedder = embedder
        self._known: dict[tuple[str, ...], _Known] = {}

    def attribute(
        self, session: Session, monitor: Monitor, window: Window, place: Subgroup | None
    ) -> Attributed:
        """Look at all scans of a window, those apart from the shift's place among them.

        Parameters
        ----------
        window : from the shift's onset on
        place : the subgroup that carries the shift, None for all scans
        """
        try:
            return self._attribute(session, monitor, window, place)
        except DriftwardError as error:  # an alarm without a cause is worth more than none
            return Attributed(attribution=None, reason=str(error), prevalence=None)

    def _attribute(
        self, session: Session, monitor: Monitor, window: Window, place: Subgroup | None
    ) -> Attributed:
        rows = {EncoderRole(row.encoder): row for row in deciding(session, monitor.name)}
        if set(rows) != set(EncoderRole):
            raise InsufficientDataError(
                what="references, one of each encoder", needed=2, got=len(rows)
            )
        monitoring, champion = rows[EncoderRole.MONITORING], rows[EncoderRole.CHAMPION]
        _require_what_it_was_fitted_to(session, monitor, champion)
        said = champion_results(
            session,
            version=champion.version,
            task=monitor.specification.task,
            window=window,
            subgroup=None,
        )
        seen = {
            role: embeddings.in_window(session, row.version, window)
            for role, row in rows.items()
        }
        by_id = dict(zip(said.scans, said.scores.tolist(), strict=True)) if said else {}
        common = _common(seen, by_id)
        _require_patients(common)
        known = self._reference(session, monitor, monitoring, champion)
        measures, read = self._measures(session, champion, common, what="the window")
        scans = [common[i] for i in read.tolist()]
        patients = _require_patients(scans)
        scores = np.array([by_id[scan.id] for scan in scans])
        grouped = Patients.of(patients, scans=len(scans))
        groups = [_scanner(scan) for scan in scans]
        reference = known.reference
        shifts = {
            role: SpaceShift.of(space, space.see(_vectors(seen[role], scans)), grouped, groups)
            for role, space in (
                (EncoderRole.MONITORING, reference.monitoring),
                (EncoderRole.CHAMPION, reference.champion),
            )
        }
        found = _classifier().answer(
            pattern(
                reference,
                monitoring=shifts[EncoderRole.MONITORING],
                champion=shifts[EncoderRole.CHAMPION],
                probabilities=known.calibrated.probabilities(scores),
                measures=measures,
                patients=grouped,
            )
        )
        return Attributed(
            attribution=found,
            reason=None,
            prevalence=_unaffected_prevalence(
                found, known.calibrated, scans, scores, patients, place
            ),
            unread=known.unread + len(common) - len(scans),
        )

    def _reference(
        self,
        session: Session,
        monitor: Monitor,
        monitoring: ReferenceRow,
        champion: ReferenceRow,
    ) -> _Known:
        results = performance.reference_results(
            session,
            monitor,
            version=champion.version,
        )
        key = (monitoring.profile_digest, champion.profile_digest, str(len(results.scans)))
        if key not in self._known:
            # Labels come and references go: what was kept of others is of no use.
            self._known = {key: self._fit(session, monitoring, champion, results)}
        return self._known[key]

    def _fit(
        self,
        session: Session,
        monitoring: ReferenceRow,
        champion: ReferenceRow,
        results: LabelledResults,
    ) -> _Known:
        if monitoring.dataset != champion.dataset:
            raise InsufficientDataError(
                what="references of both encoders on the same scans", needed=2, got=1
            )
        if len(results.scans) < LEAST_REFERENCE:
            raise InsufficientDataError(
                what="labelled scans in the reference",
                needed=LEAST_REFERENCE,
                got=len(results.scans),
            )
        calibrated = CalibratedReference.fit(
            results.scores, results.truth, list(results.patients), seed=_SEED
        )
        grouped = Patients.of(list(results.patients), scans=len(results.scans))
        chosen = some_patients(grouped, scans=_MOST_REFERENCE, rng=np.random.default_rng(_SEED))
        measured, read = self._measures(
            session,
            champion,
            [results.scans[i] for i in chosen.tolist()],
            what="the reference",
        )
        unread, chosen = len(chosen) - len(read), chosen[read]
        scans = [results.scans[i] for i in chosen.tolist()]
        profiles = {
            row.id: self._profiles.load(row.profile_digest) for row in (monitoring, champion)
        }
        embedded = {
            row.id: embeddings.in_dataset(session, row.version, row.dataset)
            for row in (monitoring, champion)
        }
        reference = AttributionReference.fit(
            monitoring=profiles[monitoring.id].portfolio,
            monitoring_embeddings=_vectors(embedded[monitoring.id], scans),
            champion=profiles[champion.id].portfolio,
            champion_embeddings=_vectors(embedded[champion.id], scans),
            patients=grouped.subset(chosen),
            probabilities=calibrated.probabilities(results.scores[chosen]),
            finding=results.truth[chosen].astype(np.float64),
            measures=Measures(
                values=measured,
                names=tuple(MEASURES),
                aspects=tuple(aspect.value for aspect in MEASURES.values()),
            ),
            fitted_on=profiles[champion.id].scans,
            seed=_SEED,
        )
        return _Known(reference=reference, calibrated=calibrated, unread=unread)

    def _measures(
        self, session: Session, champion: ReferenceRow, scans: Sequence[ScanRow], *, what: str
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Return the pixel measures of what can be read again of scans, and which these are.

        Raises
        ------
        InsufficientDataError
            If they are too few to stand for all.
        """
        version = session.get_one(VersionRow, champion.version)
        measured = self._embedder.measures(version, scans)
        read = np.flatnonzero(np.isfinite(measured).all(axis=1))
        needed = math.ceil((1 - MOST_UNREAD) * len(scans))
        if len(read) < needed:
            raise InsufficientDataError(
                what=f"scans of {what} whose pixels can be read again "
                "(`driftward scan verify` says why not)",
                needed=needed,
                got=len(read),
            )
        return measured[read], read


@cache
def _classifier() -> CauseClassifier:
    return shipped_classifier()


def _common(
    seen: Mapping[EncoderRole, EmbeddedScans], scores: Mapping[int, float]
) -> list[ScanRow]:
    """Return the scans that both encoders and the champion have read, in order."""
    read = set(scores)
    for one in seen.values():
        read &= {scan.id for scan in one.scans}
    return [scan for scan in seen[EncoderRole.MONITORING].scans if scan.id in read]


def _require_patients(scans: Sequence[ScanRow]) -> list[str]:
    """Return whose scans a window's are.

    Raises
    ------
    InsufficientDataError
        If they are of fewer patients than the classifier was tried on.
    """
    patients = [f"{scan.site}/{scan.person}" for scan in scans]
    if len(set(patients)) < LEAST_WINDOW:
        raise InsufficientDataError(
            what="patients that both encoders and the champion have read",
            needed=LEAST_WINDOW,
            got=len(set(patients)),
        )
    return patients


def _vectors(embedded: EmbeddedScans, scans: Sequence[ScanRow]) -> npt.NDArray[np.float32]:
    places = {scan.id: at for at, scan in enumerate(embedded.scans)}
    return embedded.vectors[[places[scan.id] for scan in scans]]


def _require_what_it_was_fitted_to(
    session: Session, monitor: Monitor, champion: ReferenceRow
) -> None:
    """Refuse a task that the classifier's card excludes: all but one finding and its absence.

    To it another finding that comes more often is another form of the one that it looks at.

    Raises
    ------
    BadInputError
    """
    task = task_of(session.get_one(VersionRow, champion.version), monitor.specification.task)
    if task is None:
        return  # of a version from before its tasks were kept, which all had one
    if task.threshold is None:
        raise BadInputError(
            f"task {task.name} has no threshold, and so no finding to tell it by"
        )
    of = "findings" if task.kind is TaskKind.MULTI_LABEL else "classes"
    if len(task.classes) > (1 if task.kind is TaskKind.MULTI_LABEL else 2):
        raise BadInputError(
            f"task {task.name} has {len(task.classes)} {of}, and the classifier of causes was "
            "fitted to one finding and its absence"
        )


def _scanner(scan: ScanRow) -> str:
    """Return what tells a scanner from others, its software's version included."""
    return "/".join(value_of(scan, attribute) or "" for attribute in HIERARCHY)


def _unaffected_prevalence(
    found: Attribution,
    calibrated: CalibratedReference,
    scans: Sequence[ScanRow],
    scores: Floats,
    patients: Sequence[str],
    place: Subgroup | None,
) -> LabelShift | None:
    """Return the prevalence with its interval, or None where no scan can tell it.

    Where the prevalence alone changed, all scans tell it. Where something else changed at a
    place, those apart from it do. Scores that no mixture of the classes explains tell nothing.
    """
    if found.cause is FirstLevel.PREVALENCE:
        told = np.ones(len(scans), dtype=bool)
    elif place is not None:
        told = np.array([not place.holds(scan) for scan in scans])
    else:
        return None
    try:
        estimate = estimate_label_shift(
            calibrated,
            scores[told],
            [patient for patient, kept in zip(patients, told.tolist(), strict=True) if kept],
            level=_LEVEL,
            seed=_SEED,
        )
    except InsufficientDataError:
        return None
    return estimate if estimate.fit_p_value > LEAST_FIT else None
