"""Which views of a scan there are, and what they say together of a window's prevalence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from monitor.statistics.attribution.class_views import ClassView, ViewReading
from monitor.statistics.attribution.pixel_shift import PixelReference
from monitor.statistics.attribution.spaces import SeenScans, SpaceReference
from monitor.statistics.design import MEAN_SHIFT
from monitor.statistics.embeddings import Floats

#: aspects of pixels that can be views
ASPECTS = ("texture", "gray values", "layout")
#: the champion's head, leading directions of either space, aspects of the pixels
VIEWS = ("head", "monitoring", "champion", *ASPECTS)
#: views in which the classes lie nearer than this say nothing: deviations
LEAST_SEPARATION = 1.0


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
    *,
    seen_by_space: Mapping[str, tuple[SpaceReference, SeenScans]],
    probabilities: Floats,
    pixels: PixelReference | None,
    measures: Floats | None,
    finding: Floats,
    seed: int,
) -> dict[str, ClassView]:
    """Fit every view of a reference's scans.

    Parameters
    ----------
    seen_by_space : the reference's scans, as if they were new, by name of the space
    probabilities : [N] by the champion, calibrated
    pixels, measures : the reference's [N, m], or None
    finding : [N] 0 to 1
    seed : of the folds
    """
    views = {"head": ClassView.of_log_odds(logit(probabilities), finding)}
    for name, (space, seen) in seen_by_space.items():
        views[name] = ClassView.fit(leading(space, seen), finding, seed=seed)
    if pixels is not None and measures is not None:
        scores = pixels.normal_scores(measures)
        for aspect in ASPECTS:
            own = np.array([one == aspect for one in pixels.aspects])
            views[aspect] = ClassView.fit(scores[:, own], finding, seed=seed)
    return views


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
