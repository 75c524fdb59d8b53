"""What performance is expected to be where each scan's truth is known as a probability.

A scan counts p as positive and 1 - p as negative. An expected share is the ratio of expected
sums, and an expected area the sum over pairs of different scans

    AUC = sum p_i (1 - p_j) [s_i > s_j] / sum p_i (1 - p_j),    i != j, ties half.

Either misses the expected ratio by about one part in the sums.
"""

from __future__ import annotations

import numpy as np

from monitor.statistics.embeddings import Floats

MEASURES = ("auc", "sensitivity", "specificity", "ppv", "npv", "prevalence")
#: Below it the mass of pairs is rounding.
_NO_PAIR = 1e-9


def expected_measures(
    probabilities: Floats, weights: Floats, *, scores: Floats, threshold: float
) -> dict[str, Floats]:
    """Return what is expected of a window's performance under each weighting, [B] each.

    With the truth in the place of probabilities this is the performance itself.

    Parameters
    ----------
    probabilities : what scores mean, in [0, 1], shape [B, n] or [n]
    weights : how often each scan counts, shape [B, n]
    scores : shape [n]
    threshold : positive is `score >= threshold`
    """
    sick, well = weights * probabilities, weights * (1.0 - probabilities)
    called = scores >= threshold
    hits, misses = sick[:, called].sum(axis=1), sick[:, ~called].sum(axis=1)
    alarms, passes = well[:, called].sum(axis=1), well[:, ~called].sum(axis=1)
    return {
        "auc": _expected_area(sick, well, scores),
        "sensitivity": _share(hits, misses),
        "specificity": _share(passes, alarms),
        "ppv": _share(hits, alarms),
        "npv": _share(passes, misses),
        "prevalence": _share(hits + misses, alarms + passes),
    }


def _share(part: Floats, rest: Floats) -> Floats:
    """Return part of the whole; NaN where there is none."""
    whole = part + rest
    shares: Floats = np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0.0)
    return shares


def _expected_area(sick: Floats, well: Floats, scores: Floats) -> Floats:
    """Return the expected area [B] of masses with and without the finding, [B, n] each.

    In O(n log n), through the mass without the finding that lies below each score. A scan
    is no pair with itself.
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    first = np.searchsorted(ordered, ordered, side="left")
    last = np.searchsorted(ordered, ordered, side="right")
    mass = np.concatenate([np.zeros((len(well), 1)), np.cumsum(well[:, order], axis=1)], axis=1)
    below = (mass[:, first] + mass[:, last]) / 2.0
    own = np.einsum("bn,bn->b", sick, well)
    ranked = np.einsum("bn,bn->b", sick[:, order], below) - own / 2.0
    pairs = sick.sum(axis=1) * well.sum(axis=1) - own
    area: Floats = np.divide(
        ranked, pairs, out=np.full_like(pairs, np.nan), where=pairs > _NO_PAIR
    )
    return area
