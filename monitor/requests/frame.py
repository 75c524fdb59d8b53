"""The frame of a request: the patients of whom an honest label can still come.

A label for a gate must be free of any AI's influence. So the frame holds the scans of which a
label that were signed now would be: nothing was delivered of them, and no model that had read
them orders the worklist. It does not ask which of them have a label already, since those would
be no sample of the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.embeddings import STORED
from monitor.labelling.influence import PARAMETERS, reasons_for, words_of
from monitor.performance.finding import score
from monitor.tables import EmbeddingRow, ResultRow, ScanRow
from registry.canonical import digest_of
from registry.errors import BadInputError

NEAR = "near the threshold"
CALLED_NEGATIVE = "called negative"
CALLED_POSITIVE = "called positive"
ALL = "all"
#: Share of the patients that count as near the threshold.
NEAR_SHARE = 1 / 3
#: Patients that a stratum must be expected to give; a smaller one joins another.
LEAST_OF_A_STRATUM = 5
NOT_READ = "the champion has not read them"


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePatient:
    """A patient who can be drawn, with the scans that would be read."""

    patient: str
    scans: tuple[int, ...]
    #: log-odds above the threshold, of the scan that is nearest to it
    distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Everybody who can be drawn, in an order that is the same each time."""

    patients: tuple[FramePatient, ...]
    #: why scans were left out -> how many
    left_out: Mapping[str, int]

    @property
    def scans(self) -> int:
        return sum(len(one.scans) for one in self.patients)

    @property
    def digest(self) -> str:
        """Digest of which scans can be drawn, and of what the strata follow from."""
        return digest_of([[*one.scans, round(one.distance, 6)] for one in self.patients])


def frame_of(
    session: Session,
    scans: Sequence[ScanRow],
    *,
    version: int,
    task: str,
    at: datetime,
    apart: Mapping[str, Collection[str]],
) -> Frame:
    """Return who of some scans' patients can be drawn.

    Parameters
    ----------
    version : the champion, whose results and embeddings say where a scan lies
    at : when labels would be signed, at the earliest
    apart : why patients are left out -> which

    Raises
    ------
    BadInputError
        If the champion's results were made at several thresholds, or at none.
    """
    left_out: Counter[str] = Counter()
    allowed: list[ScanRow] = []
    for scan in scans:
        reason = next((why for why, who in apart.items() if scan.person in who), None)
        if reason is None:
            allowed.append(scan)
        else:
            left_out[reason] += 1
    by_site: dict[str, list[ScanRow]] = defaultdict(list)
    for scan in allowed:
        by_site[scan.site].append(scan)
    honest: list[ScanRow] = []
    for site, of_site in by_site.items():
        reasons = reasons_for(
            session, [(scan.id, task, at, False) for scan in of_site], site=site
        )
        for scan, why in zip(of_site, reasons, strict=True):
            if why.influenced:
                left_out[words_of(why.value)] += 1
            else:
                honest.append(scan)
    distances = _distances(session, [scan.id for scan in honest], version=version, task=task)
    of_patient: dict[str, list[int]] = defaultdict(list)
    for scan in honest:
        if scan.id in distances:
            of_patient[scan.person].append(scan.id)
        else:
            left_out[NOT_READ] += 1
    return Frame(
        patients=tuple(
            FramePatient(
                patient=patient,
                scans=tuple(sorted(own)),
                distance=min((distances[scan] for scan in own), key=abs),
            )
            for patient, own in sorted(of_patient.items(), key=lambda item: min(item[1]))
        ),
        left_out=dict(left_out),
    )


def strata_of(frame: Frame, *, wanted: int) -> tuple[list[str], list[int]]:
    """Return the names of the strata, and the number of each patient's.

    Parameters
    ----------
    wanted : patients that will be drawn: a stratum that can give few joins the one near the
        threshold, and if that is small, too, there is one stratum
    """
    distances = np.array([one.distance for one in frame.patients])
    patients = len(distances)
    if patients == 0:
        return [], []
    near = np.abs(distances) <= np.quantile(np.abs(distances), NEAR_SHARE)
    names = np.where(near, NEAR, np.where(distances >= 0, CALLED_POSITIVE, CALLED_NEGATIVE))

    def gives(name: str) -> float:
        return wanted * np.count_nonzero(names == name) / patients

    for name in (CALLED_NEGATIVE, CALLED_POSITIVE):
        if gives(name) < LEAST_OF_A_STRATUM:
            names[names == name] = NEAR
    if gives(NEAR) < LEAST_OF_A_STRATUM or len(set(names)) == 1:
        return [ALL], [0] * patients
    kept = [one for one in (CALLED_NEGATIVE, NEAR, CALLED_POSITIVE) if one in set(names)]
    return kept, [kept.index(str(name)) for name in names]


def patient_vectors(
    session: Session, patients: Sequence[FramePatient], *, version: int
) -> npt.NDArray[np.float32]:
    """Return the mean embedding of each patient's scans, float32 [n, d].

    Raises
    ------
    BadInputError
        If the version has embedded no scan of one of them.
    """
    scans = [scan for one in patients for scan in one.scans]
    found: dict[int, npt.NDArray[np.float32]] = {}
    for start in range(0, len(scans), PARAMETERS):
        rows = session.execute(
            select(EmbeddingRow.scan, EmbeddingRow.vector).where(
                EmbeddingRow.version == version,
                EmbeddingRow.scan.in_(scans[start : start + PARAMETERS]),
            )
        )
        for scan, vector in rows:
            found[scan] = np.frombuffer(vector, dtype=STORED).astype(np.float32)
    means = []
    for one in patients:
        own = [found[scan] for scan in one.scans if scan in found]
        if not own:
            raise BadInputError(
                f"scan {one.scans[0]} has a result and no embedding of the same version: "
                "coverage needs both"
            )
        means.append(np.mean(own, axis=0, dtype=np.float32))
    return np.array(means, dtype=np.float32)


def _distances(
    session: Session, scans: Sequence[int], *, version: int, task: str
) -> dict[int, float]:
    """Return how far above the threshold each scan's result lies, in log-odds."""
    found: dict[int, float] = {}
    thresholds: set[float] = set()
    for start in range(0, len(scans), PARAMETERS):
        rows = session.execute(
            select(
                ResultRow.scan,
                ResultRow.probabilities,
                ResultRow.finding,
                ResultRow.threshold,
            ).where(
                ResultRow.version == version,
                ResultRow.task == task,
                ResultRow.scan.in_(scans[start : start + PARAMETERS]),
            )
        )
        for scan, probabilities, finding, threshold in rows:
            if threshold is None:
                raise BadInputError(
                    f"results of {task} have no threshold: a request is drawn by how far from it "
                    "they lie"
                )
            thresholds.add(threshold)
            found[scan] = _log_odds(score(probabilities, finding)) - _log_odds(threshold)
    if len(thresholds) > 1:
        raise BadInputError(
            f"results of {task} were made at {len(thresholds)} thresholds: a request is drawn "
            "by one"
        )
    return found


def _log_odds(probability: float) -> float:
    # A float32's last digit before 0 and 1.
    inside = min(max(probability, 1e-7), 1 - 1e-7)
    return float(np.log(inside / (1 - inside)))
