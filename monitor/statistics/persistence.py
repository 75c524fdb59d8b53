"""Two significant windows in a row, calibrated together.

With windows w0 (the last of the week before), w1 and w2, the rule opens an episode when
S = min(max(p0, p1), max(p1, p2)) is small. All three are compared with one reference,
whose error they share; S is therefore referred to joint draws of three windows and a
reference, and not to independent uniforms.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import numpy as np

from monitor.statistics.combination import Tails, evidence
from monitor.statistics.embeddings import Floats, Singles
from registry.errors import BadInputError, InsufficientDataError

#: independent means in each draw: three windows and a reference
GROUPS = 4
_GRID = 257


def persistence_statistic(p_values: Floats) -> Floats:
    """Return S, [...], of two or three consecutive windows' p-values [..., 2 or 3].

    Examples
    --------
    >>> float(persistence_statistic(np.array([0.9, 0.02, 0.04])))
    0.04
    """
    pairs = np.maximum(p_values[..., :-1], p_values[..., 1:])
    smallest: Floats = pairs.min(axis=-1)
    return smallest


def persistence_draws(
    sizes: Sequence[float], *, reference_size: float, forms: Singles, weights: Floats
) -> Floats:
    """Return draws of S when nothing shifted, rising.

    Parameters
    ----------
    sizes : patients in each of two or three windows in a row, oldest first
    reference_size : patients in the reference
    forms : [B, 4, 4, G] inner products of independent means, as `FoldSums.forms` draws
    weights : [G] the members' say
    """
    drawn: list[Floats] = []
    # Groups are alike, so each takes each role in turn: four times as many draws.
    for turn in range(GROUPS):
        roles = [(turn + role) % GROUPS for role in range(GROUPS)]
        columns = [
            _p_values(
                forms,
                window=roles[position],
                reference=roles[-1],
                ratio=size / reference_size,
                weights=weights,
            )
            for position, size in enumerate(sizes)
        ]
        drawn.append(persistence_statistic(np.stack(columns, axis=-1)))
    return np.sort(np.concatenate(drawn))


def persistence_p_value(
    p_values: Sequence[float],
    sizes: Sequence[float],
    *,
    reference_size: float,
    forms: Singles,
    weights: Floats,
    kept: MutableMapping[tuple[float, ...], Floats] | None = None,
) -> float:
    """Return P(S <= observed) when nothing shifted: (1 + b) / (1 + B).

    Takes the p-values of two or three consecutive windows, oldest first, and what
    `persistence_draws` takes.

    Parameters
    ----------
    kept : draws of this reference by the windows' sizes; those that lack are put into it

    Raises
    ------
    InsufficientDataError
        For fewer than two windows: one cannot persist.
    BadInputError
        For more than three, for sizes that do not match, or for a p-value outside (0, 1].
    """
    windows = len(p_values)
    if windows < 2:
        raise InsufficientDataError(what="windows in a row", needed=2, got=windows)
    if windows > 3 or len(sizes) != windows:
        raise BadInputError(
            f"the rule takes the p-values and sizes of two or three windows in a row, "
            f"got {windows} and {len(sizes)}"
        )
    if not all(0 < p <= 1 for p in p_values) or not all(size > 0 for size in sizes):
        raise BadInputError("p-values lie in (0, 1] and window sizes above 0")
    observed = float(persistence_statistic(np.asarray(p_values, dtype=np.float64)))
    draws = None if kept is None else kept.get(tuple(sizes))
    if draws is None:
        draws = persistence_draws(
            sizes, reference_size=reference_size, forms=forms, weights=weights
        )
        if kept is not None:
            kept[tuple(sizes)] = draws
    return (1 + int(np.searchsorted(draws, observed, side="right"))) / (1 + len(draws))


def _p_values(
    forms: Singles, *, window: int, reference: int, ratio: float, weights: Floats
) -> Floats:
    """Return the p-value of one window in each draw, by its rank among the draws, [B].

    With n/N = ratio, T = (n |w/sqrt(n) - r/sqrt(N)|^2) / (1 + ratio).
    """
    own = forms[:, window, window].astype(np.float64)
    shared = forms[:, reference, reference].astype(np.float64)
    cross = forms[:, window, reference].astype(np.float64)
    statistics = (own + ratio * shared - 2.0 * np.sqrt(ratio) * cross) / (1.0 + ratio)
    values = evidence(_log_p(statistics), weights)
    ranks = np.empty(len(values))
    ranks[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return ranks / (1 + len(values))


def _log_p(statistics: Floats) -> Floats:
    """Return log p of draws [B, G] by their own law, read off a fine grid.

    The draws only rank each other, and the law is costly at every one of them.
    """
    grid = np.linspace(statistics.min(axis=0), statistics.max(axis=0), _GRID)
    at_grid = Tails.of(statistics).log_p(grid)
    return np.stack(
        [
            np.interp(statistics[:, g], grid[:, g], at_grid[:, g])
            for g in range(statistics.shape[1])
        ],
        axis=1,
    )
