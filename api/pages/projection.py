"""Where scans lie: reference and newest window on the reference's two principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from api.pages import wording
from api.pages.judged import JudgedWindow
from monitor import embeddings, references
from monitor.references import ProfileStore
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow
from registry.canonical import Json
from registry.errors import IntegrityError, NotFoundError

#: Reference scans that are drawn: enough to see the cloud.
REFERENCE_SHOWN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The chart's data."""

    chart: dict[str, Json]
    window: str
    reference_scans: int
    window_scans: int
    subgroup_scans: int
    #: share of the reference's variance that the two components hold
    explained: str


def projection(
    session: Session,
    profiles: ProfileStore,
    monitor: str,
    newest: JudgedWindow | None,
    episode: EpisodeRow | None,
) -> Projection | None:
    """Project the newest window in the monitoring encoder's space.

    None where there is nothing to show, or the profile's files are gone.
    """
    reference = references.trend(session, monitor)
    if reference is None or newest is None:
        return None
    try:
        profile = profiles.load(reference.profile_digest)
    except (NotFoundError, IntegrityError):
        return None
    usual = embeddings.in_dataset(session, reference.version, reference.dataset)
    window = embeddings.in_window(session, reference.version, newest.window)
    if not len(usual) or not len(window):
        return None
    step = max(1, len(usual) // REFERENCE_SHOWN)
    subgroup = Subgroup.parse(episode.subgroup) if episode and episode.subgroup else None
    shifted = np.array(
        [subgroup is not None and subgroup.holds(scan) for scan in window.scans], dtype=bool
    )
    places = profile.project(window.vectors)
    chart: dict[str, Json] = {
        "reference": _points(profile.project(usual.vectors[::step])),
        "window": _points(places[~shifted]),
        "subgroup": _points(places[shifted]),
        "subgroup_name": wording.subgroup_name(str(subgroup)) if subgroup else None,
        "open": episode is not None and episode.closed_at is None,
    }
    return Projection(
        chart=chart,
        window=wording.span(newest.window.start, newest.window.end),
        reference_scans=len(usual),
        window_scans=len(window),
        subgroup_scans=int(shifted.sum()),
        explained=wording.percent(sum(profile.explained)),
    )


def _points(places: npt.NDArray[np.floating]) -> list[Json]:
    return [[round(float(first), 2), round(float(second), 2)] for first, second in places]
