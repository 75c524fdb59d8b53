"""Which views of a scan are held against each other, and what of it enters a pattern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from monitor.statistics.attribution.location import Location
from monitor.statistics.attribution.spaces import SeenScans, SpaceReference
from monitor.statistics.attribution.ties import Tie, TieShift, tie_shift
from monitor.statistics.attribution.views import ASPECTS
from monitor.statistics.embeddings import Floats
from monitor.statistics.patients import Patients

#: spaces in which a shift is looked at
SPACES = ("monitoring", "champion")
#: how the champion's space goes with the monitoring one
_BETWEEN = "between"
#: whitened directions that other views are told from, and those of a space that are told
_GIVEN, _TOLD = 128, 32


def fit_ties(
    seen_by_space: Mapping[str, tuple[SpaceReference, SeenScans]],
    *,
    scores: Floats | None,
    patients: Patients,
    seed: int,
) -> dict[str, Tie]:
    """Learn on a reference's scans how views go together.

    Parameters
    ----------
    seen_by_space : the reference's scans, as if they were new, by name of the space
    scores : [N, m] normal scores of the reference's pixel measures, or None
    patients : whose scans they are
    seed : of the folds
    """
    ties = {}
    for name, (space, seen) in seen_by_space.items():
        if scores is not None:
            ties[name] = Tie.fit(_given(space, seen), scores, patients, seed=seed)
    (space, seen), (other, also_seen) = (seen_by_space[name] for name in SPACES)
    ties[_BETWEEN] = Tie.fit(
        _given(space, seen), _given(other, also_seen)[:, :_TOLD], patients, seed=seed
    )
    return ties


def _given(space: SpaceReference, seen: SeenScans) -> Floats:
    """Return scans along the first whitened directions, of length one over all, [n, p]."""
    part = space.whitened
    return seen.features[:, part.start : min(part.start + _GIVEN, part.stop)].astype(np.float64)


def tie_numbers(
    ties: Mapping[str, Tie],
    shifts: Mapping[str, tuple[SpaceReference, SeenScans, Location | None]],
    *,
    scores: Floats | None,
    aspects: Sequence[str],
    patients: Patients,
) -> Iterator[tuple[str, float]]:
    """Yield the pattern's numbers that say how far views came apart.

    Parameters
    ----------
    shifts : by space, a window's scans, and the group that carries the shift there
    scores : [n, m] of the window's pixel measures, or None where pixels are not kept
    aspects : [m] what each is a measure of
    """
    given = {name: _given(space, seen) for name, (space, seen, _) in shifts.items()}
    places = {
        name: None if place is None else place.inside for name, (_, _, place) in shifts.items()
    }
    for name in SPACES:
        own = (
            None
            if scores is None
            else tie_shift(ties[name], given[name], scores, patients, places[name])
        )
        yield from _numbers_of_tie(f"pixels by {name}", own)
        for aspect in ASPECTS:
            of = np.array([one == aspect for one in aspects], dtype=bool)
            moved = 0.0 if own is None else float(np.abs(own.by_coordinate[of]).max())
            yield f"pixels by {name}: {aspect}", float(np.log1p(moved))
    between = tie_shift(
        ties[_BETWEEN],
        given["monitoring"],
        given["champion"][:, :_TOLD],
        patients,
        places["champion"],
    )
    yield from _numbers_of_tie("champion by monitoring", between)


def _numbers_of_tie(label: str, own: TieShift | None) -> Iterator[tuple[str, float]]:
    yield f"{label}: displacement", 0.0 if own is None else float(np.log1p(own.mean))
    yield f"{label}: middle", 0.0 if own is None else float(np.log1p(own.middle))
    yield f"{label}: middle of the group", 0.0 if own is None else float(np.log1p(own.group))
    yield f"{label}: middle of the others", 0.0 if own is None else float(np.log1p(own.others))
    yield f"{label}: all alike", 0.0 if own is None else own.alike
