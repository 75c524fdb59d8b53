"""Which views of a scan there are, and what they say together of a window's prevalence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from monitor.statistics.attribution.class_views import ClassView, ViewReading
from monitor.statistics.attribution.pixel_shift import PixelReference
from monitor.statistics.attribution.shifts import signed_log
from monitor.statistics.attribution.spaces import SeenScans, SpaceReference
from monitor.statistics.design import MEAN_SHIFT
from monitor.statistics.embeddings import Floats

#: aspects of pixels that can be views
ASPECTS = (
    "texture",
    "gray values",
    "layout",
    "texture of the middle",
    "gray values of the middle",
)
#: the champion's head, leading directions of either space, aspects of the pixels
VIEWS = ("head", "monitoring", "champion", *ASPECTS)
#: views in which the classes lie nearer than this say nothing: deviations
LEAST_SEPARATION = 1.0
#: views whose scores were moved least, each of which enters by itself
_LEAST_MOVED = ("least moved", "second", "third")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What several estimates of the change of prevalence have in common."""

    median: float
    #: the smallest change, with its sign if all have the same one, else 0
    common: float
    #: largest less smallest
    range: float
    #: mean square of their differences, in squared standard errors
    heterogeneity: float


def fit_views(
    values: Mapping[str, Floats], *, probabilities: Floats, finding: Floats, seed: int
) -> dict[str, ClassView]:
    """Fit every view of a reference's scans.

    Parameters
    ----------
    values : the reference's scans, as if they were new, in every view but the head's
    probabilities : [N] by the champion, calibrated
    finding : [N] 0 to 1
    seed : of the folds
    """
    return {
        "head": ClassView.of_log_odds(logit(probabilities), finding),
        **{name: ClassView.fit(own, finding, seed=seed) for name, own in values.items()},
    }


def view_values(
    seen_by_space: Mapping[str, tuple[SpaceReference, SeenScans]],
    *,
    pixels: PixelReference | None,
    scores: Floats | None,
) -> dict[str, Floats]:
    """Return scans in every view but the head's, [n, p] each.

    Parameters
    ----------
    seen_by_space : the scans, by name of the space
    pixels, scores : the reference's pixels, and normal scores of the scans' measures, or None
    """
    values = {name: leading(space, seen) for name, (space, seen) in seen_by_space.items()}
    if pixels is not None and scores is not None:
        for aspect in ASPECTS:
            values[aspect] = scores[:, np.array([one == aspect for one in pixels.aspects])]
    return values


def leading(space: SpaceReference, seen: SeenScans) -> Floats:
    """Return scans along the leading whitened directions, [n, p]."""
    part = space.layout.part(space.names.index(MEAN_SHIFT))
    return seen.features[:, part].astype(np.float64)


def agreement(readings: Mapping[str, ViewReading], views: Mapping[str, ClassView]) -> Agreement:
    """Compare the estimates of all views that tell the classes apart."""
    clear = [one for name, one in readings.items() if _tells(views[name])]
    return _compared(
        np.array([one.change for one in clear]), np.array([one.error for one in clear])
    )


def agreement_of_shapes(
    readings: Mapping[str, ViewReading], views: Mapping[str, ClassView]
) -> Agreement:
    """Compare the estimates from the shapes of the scores' distributions."""
    clear = [(name, one) for name, one in readings.items() if _tells(views[name])]
    changes = np.array(
        [one.deformed.prevalence - views[name].densities.prevalence for name, one in clear]
    )
    # A likelihood ratio's root is the change over its standard error.
    evidence = np.array([max(one.deformed.prevalence_evidence, 0.1) for _, one in clear])
    return _compared(changes, np.maximum(np.abs(changes) / evidence, 0.02))


def view_numbers(
    readings: Mapping[str, ViewReading], views: Mapping[str, ClassView], *, before: float
) -> Iterator[tuple[str, float]]:
    """Yield the pattern's numbers that say what views tell of the prevalence.

    Few changes of the image chain touch every view. Those whose scores look like a mixture of
    the reference's classes without having been moved or stretched tell the prevalence best,
    whichever they are: the three that were moved least stand for themselves.

    Parameters
    ----------
    readings, views : of those that reference and window have
    before : the reference's prevalence
    """
    for name in VIEWS:
        own = readings.get(name)
        yield from _reading_numbers(name, own)
        change = 0.0 if own is None else own.deformed.prevalence - before
        evidence = 0.0 if own is None else np.sign(change) * own.deformed.prevalence_evidence
        yield f"{name}: change by shape", change
        yield f"{name}: evidence by shape", signed_log(evidence)
    clear = [one for name, one in readings.items() if _tells(views[name])]
    clear.sort(key=lambda one: one.deformed.deformation_evidence)
    for at, label in enumerate(_LEAST_MOVED):
        yield from _reading_numbers(label, clear[at] if at < len(clear) else None)
    for label, both in (
        ("all", agreement(readings, views)),
        ("all by shape", agreement_of_shapes(readings, views)),
    ):
        yield f"{label}: median change", both.median
        yield f"{label}: common change", both.common
        yield f"{label}: range of changes", both.range
        yield f"{label}: contradiction", float(np.log1p(both.heterogeneity))


def _reading_numbers(label: str, own: ViewReading | None) -> Iterator[tuple[str, float]]:
    yield f"{label}: change", 0.0 if own is None else own.change
    yield f"{label}: evidence", 0.0 if own is None else signed_log(own.evidence)
    moved = 0.0 if own is None else own.deformed.deformation_evidence
    yield f"{label}: moved scores", float(np.log1p(moved))


def _tells(view: ClassView) -> bool:
    return view.separation >= LEAST_SEPARATION


def _compared(changes: Floats, errors: Floats) -> Agreement:
    if not len(changes):
        return Agreement(median=0.0, common=0.0, range=0.0, heterogeneity=0.0)
    same = np.all(changes > 0) or np.all(changes < 0)
    weights = 1.0 / np.square(errors)
    mean = float(weights @ changes / weights.sum())
    return Agreement(
        median=float(np.median(changes)),
        common=float(changes[np.abs(changes).argmin()]) if same else 0.0,
        range=float(np.ptp(changes)),
        heterogeneity=float(np.mean(np.square(changes - mean) / np.square(errors))),
    )
