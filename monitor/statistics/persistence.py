"""Two significant windows in a row, calibrated together.

With windows w0 (the last of the week before), w1 and w2, the rule opens an episode when
S = min(max(p0, p1), max(p1, p2)) is small. All three are compared with one reference,
whose error they share; S is therefore referred to joint draws of three windows and a
reference, and not to independent uniforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from monitor.statistics.combination import Tails, evidence
from monitor.statistics.embeddings import Floats, Singles
from registry.errors import BadInputError, InsufficientDataError

#: independent means in each draw: three windows and a reference
GROUPS = 4
_GRID = 257
# Of a reference in memory, 64 kB each, …
_KEPT_JOINT = 16
# … and 16 kB each; three windows need twelve.
_KEPT_SINGLE = 48


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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDraws:
    """Draws of one reference, for windows whose sizes were there before: large ones count alike."""

    #: of S, by the windows' sizes
    joint: dict[tuple[float, ...], Floats] = field(default_factory=dict)
    #: of one window's p-value, by its group, the reference's, and its size
    single: dict[tuple[int, int, float], Floats] = field(default_factory=dict)

    def tidy(self) -> None:
        """Forget all where they are many."""
        if len(self.joint) >= _KEPT_JOINT:
            self.joint.clear()
        if len(self.single) >= _KEPT_SINGLE:
            self.single.clear()


def persistence_draws(
    sizes: Sequence[float],
    *,
    reference_size: float,
    forms: Singles,
    weights: Floats,
    kept: KeptDraws | None = None,
) -> Floats:
    """Return draws of S when nothing shifted, rising.

    Parameters
    ----------
    sizes : patients in each of two or three windows in a row, oldest first
    reference_size : patients in the reference
    forms : [B, 4, 4, G] inner products of independent means, as `FoldSums.forms` draws
    weights : [G] the members' say
    kept : what is drawn for single windows is looked up there, and put into it
    """
    single = {} if kept is None else kept.single

    def drawn_for(window: int, reference: int, size: float) -> Floats:
        key = window, reference, size
        if key not in single:
            single[key] = _p_values(
                forms,
                window=window,
                reference=reference,
                ratio=size / reference_size,
                weights=weights,
            )
        return single[key]

    drawn: list[Floats] = []
    # Groups are alike, so each takes each role in turn: four times as many draws.
    for turn in range(GROUPS):
        roles = [(turn + role) % GROUPS for role in range(GROUPS)]
        columns = [
            drawn_for(roles[position], roles[-1], size) for position, size in enumerate(sizes)
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
    kept: KeptDraws | None = None,
) -> float:
    """Return P(S <= observed) when nothing shifted: (1 + b) / (1 + B).

    Takes the p-values of two or three consecutive windows, oldest first, and what
    `persistence_draws` takes.

    Parameters
    ----------
    kept : draws of this reference; those that lack are put into it

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
    draws = None if kept is None else kept.joint.get(tuple(sizes))
    if draws is None:
        draws = persistence_draws(
            sizes, reference_size=reference_size, forms=forms, weights=weights, kept=kept
        )
        if kept is not None:
            kept.joint[tuple(sizes)] = draws
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
