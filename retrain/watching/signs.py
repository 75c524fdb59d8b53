"""What a watch sees without labels: warnings, which prove nothing of how a version reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from monitor.assembling.counting import not_withdrawn
from monitor.episodes.episodes import EpisodeState
from monitor.performance.finding import findings_judged, score
from monitor.statistics.performance.independent_differences import independent_difference
from monitor.statistics.performance.proportions import Proportion, proportion
from monitor.tables import EpisodeRow, MonitorRow, ResultRow, ScanRow
from registry.canonical import Json
from registry.serving import EVERYWHERE
from retrain.staging import concerns
from retrain.tables import WatchRow
from retrain.watching.labelled import of_watch
from retrain.watching.rules import Sign

#: Of the interval of a difference that is worth a warning.
LEVEL = 0.99
#: Fewest patients in shadow, and in use, for their calls to be compared.
LEAST_PATIENTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """One sign, in a sentence without its full stop."""

    sign: Sign
    sentence: str

    def to_dict(self) -> dict[str, Json]:
        return {"sign": self.sign.value, "sentence": self.sentence}


def signs(session: Session, row: WatchRow, *, task: str, at: datetime) -> list[Warned]:
    """Return what is to be seen without labels."""
    found = []
    for episode in _episodes(session, row):
        where = episode.subgroup or "all scans"
        found.append(
            Warned(
                sign=Sign.DRIFT,
                sentence=f"episode {episode.id} is open: {episode.cause} at {where}",
            )
        )
        fallen = (episode.evidence.get("estimated") or {}).get("fallen") or []
        if fallen:
            found.append(
                Warned(
                    sign=Sign.ESTIMATED,
                    sentence=(
                        f"by the estimate of episode {episode.id}, {' and '.join(fallen)} fell "
                        "below the reference by more than the margin"
                    ),
                )
            )
    calls = _calls(session, row, task=task, at=at)
    return found if calls is None else [*found, calls]


def _episodes(session: Session, row: WatchRow) -> Sequence[EpisodeRow]:
    """Return the open episodes of the model that began since, and may concern the deployment."""
    rows = session.scalars(
        select(EpisodeRow)
        .join(MonitorRow, MonitorRow.name == EpisodeRow.monitor)
        .where(
            MonitorRow.model == row.model,
            EpisodeRow.state == EpisodeState.OPEN,
            EpisodeRow.opened_at >= row.since,
        )
        .order_by(EpisodeRow.id)
    )
    return [
        one
        for one in rows
        if row.deployment == EVERYWHERE or concerns(one.subgroup, [row.deployment])
    ]


def _calls(session: Session, row: WatchRow, *, task: str, at: datetime) -> Warned | None:
    """Compare the share that is called positive with that of the same version in its shadow.

    Of several findings one that is called makes a scan positive.
    """
    several = findings_judged(session, version=row.version, task=task) != ("",)
    now = _positive(session, of_watch(row, task=task, until=at), several=several)
    before = _positive(
        session,
        (
            ResultRow.version == row.version,
            ResultRow.task == task,
            ResultRow.delivery == "background",
            ScanRow.arrived_at < row.since,
            not_withdrawn(),
        ),
        several=several,
    )
    if now is None or before is None or min(now.patients, before.patients) < LEAST_PATIENTS:
        return None
    interval = independent_difference(before, now, level=LEVEL).interval
    if 0.0 in interval:
        return None
    return Warned(
        sign=Sign.CALLS,
        sentence=(
            f"{now.estimate:.1%} of {now.scans} scans are called positive, and in its shadow "
            f"the same version called {before.estimate:.1%} of {before.scans} so"
        ),
    )


def _positive(
    session: Session, where: Sequence[ColumnElement[bool]], *, several: bool
) -> Proportion | None:
    rows = session.execute(
        select(
            ResultRow.probabilities,
            ResultRow.finding,
            ResultRow.threshold,
            ScanRow.site,
            ScanRow.person,
        )
        .join(ScanRow, ScanRow.id == ResultRow.scan)
        .where(*where, ResultRow.threshold.is_not(None))
    ).all()
    if not rows:
        return None
    called: npt.NDArray[np.bool_] = np.array(
        [
            (max(row.probabilities) if several else score(row.probabilities, row.finding))
            >= row.threshold
            for row in rows
        ]
    )
    return proportion(called, [f"{row.site}/{row.person}" for row in rows], level=LEVEL)
