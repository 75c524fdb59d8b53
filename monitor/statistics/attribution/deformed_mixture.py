"""The prevalence behind scores that were also moved and stretched.

A change of the image chain moves a champion's scores, and what the likeliest prevalence then
says is anybody's guess. If it moves the scores of both classes alike, as far as a line on the
scale of log-odds goes, the shares of the two classes still show in the *shape* of their
mixture. So beside the shares w of the two classes, a move a and a stretch b are fitted,

    max over w, a, b of  sum_i log( (1 - w) f0((l_i - a) / b) + w f1((l_i - a) / b) ) - n log b,

with f0 and f1 the densities of the reference's log-odds without and with the finding. The
likelihood ratio says whether the prevalence changed whatever the scores suffered, and whether
the scores suffered whatever the prevalence is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from monitor.statistics.embeddings import Floats, Singles

#: log-odds beyond which a score is as sure as it can be
_SUREST = 8.0
_REACH = 16.0
_CELLS = 1600
_WIDTH = 2 * _REACH / _CELLS
# Moves and logarithms of stretches that are tried, then finer around the best.
_MOVES = np.linspace(-3.0, 3.0, 11)
_LOG_STRETCHES = np.linspace(-0.6, 0.4, 6)
_FINER = np.linspace(-0.5, 0.5, 6)
# Newton's steps at most, and a change of the share below which they have arrived.
_STEPS, _NEAR = 12, 1e-4
# A floor, so that one scan cannot decide alone.
_FLOOR = 0.003
_LEAST_BANDWIDTH = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DeformedMixture:
    """What the shape of the scores' distribution says."""

    #: likeliest share with the finding, moves and stretches allowed
    prevalence: float
    #: in log-odds, and as a factor
    move: float
    stretch: float
    #: root of twice the log-likelihood ratio against the old prevalence, moves allowed
    prevalence_evidence: float
    #: the same against no move and no stretch, any prevalence allowed
    deformation_evidence: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Deformed:
    """Densities of a window's log-odds, at each of K pairs of a move and a stretch."""

    #: [K] each
    moves: Floats
    log_stretches: Floats
    #: [K, n] without the finding, and what is added with it: single precision tells enough
    without: Singles
    gains: Singles


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    share: float
    move: float
    log_stretch: float
    likelihood: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreDensities:
    """Densities of the reference's log-odds, without and with the finding."""

    #: [2, cells] on an even grid over +-16
    densities: Floats
    prevalence: float

    @classmethod
    def fit(cls, odds: Floats, finding: Floats) -> ScoreDensities:
        """Smooth the reference's log-odds by class (Silverman's rule, 1986, eq. 3.31).

        Parameters
        ----------
        odds : [N] log-odds of the finding, or a score on about that scale
        finding : [N] 0 to 1
        """
        cut = np.clip(odds, -_SUREST, _SUREST)
        rows = []
        for weights in (1.0 - finding, finding):
            total = weights.sum()
            middle = float(weights @ cut / total)
            deviation = float(np.sqrt(weights @ np.square(cut - middle) / total))
            counts, _ = np.histogram(
                cut, bins=_CELLS, range=(-_REACH, _REACH), weights=weights / total
            )
            bandwidth = max(0.9 * deviation * float(total) ** -0.2, _LEAST_BANDWIDTH)
            rows.append(gaussian_filter1d(counts / _WIDTH, bandwidth / _WIDTH, mode="constant"))
        return cls(densities=np.stack(rows), prevalence=float(finding.mean()))

    def explain(self, odds: Floats) -> DeformedMixture:
        """Fit shares, a move and a stretch to a window's log-odds [n]."""
        cut = np.clip(odds, -_SUREST, _SUREST)
        coarse = self._deformed(cut, _MOVES, _LOG_STRETCHES)
        free = self._climbed(cut, coarse, fixed=False)
        old = self._climbed(cut, coarse, fixed=True)
        plain = self._likeliest(self._deformed(cut, np.zeros(1), np.zeros(1)), fixed=False)
        return DeformedMixture(
            prevalence=free.share,
            move=free.move,
            stretch=float(np.exp(free.log_stretch)),
            prevalence_evidence=_root(free.likelihood - old.likelihood),
            deformation_evidence=_root(free.likelihood - plain.likelihood),
        )

    def _climbed(self, odds: Floats, coarse: _Deformed, *, fixed: bool) -> _Fitted:
        """Return the likeliest move and stretch, with the old share or the likeliest."""
        best = self._likeliest(coarse, fixed=fixed)
        moves = best.move + _FINER * (_MOVES[1] - _MOVES[0])
        stretches = best.log_stretch + _FINER * (_LOG_STRETCHES[1] - _LOG_STRETCHES[0])
        finer = self._likeliest(self._deformed(odds, moves, stretches), fixed=fixed)
        return max(best, finer, key=lambda one: one.likelihood)

    def _deformed(self, odds: Floats, moves: Floats, log_stretches: Floats) -> _Deformed:
        """Return the densities at all pairs of a move and a stretch."""
        move, log_stretch = (one.ravel() for one in np.meshgrid(moves, log_stretches))
        back = (odds - move[:, None]) * np.exp(-log_stretch)[:, None]
        cells = np.clip((back + _REACH) / _WIDTH, 0, _CELLS - 1).astype(np.int32)
        without, having = self.densities.astype(np.float32) + np.float32(_FLOOR)
        return _Deformed(
            moves=move,
            log_stretches=log_stretch,
            without=without[cells],
            gains=(having - without)[cells],
        )

    def _likeliest(self, tried: _Deformed, *, fixed: bool) -> _Fitted:
        without, gains = tried.without, tried.gains
        share = np.full(len(without), self.prevalence, dtype=np.float32)
        for _ in range(0 if fixed else _STEPS):
            # Newton's steps on a concave likelihood, held inside (0, 1).
            ratio = gains / (without + share[:, None] * gains)
            slope, bend = ratio.sum(axis=1), np.einsum("kn,kn->k", ratio, ratio)
            before = share
            share = np.clip(
                share + slope / np.maximum(bend, 1e-12), 0.2 * share, 1.0 - 0.2 * (1.0 - share)
            )
            if np.abs(share - before).max() < _NEAR:
                break
        mixture = without + share[:, None] * gains
        # Added up in double precision: ratios of likelihoods are differences of large sums.
        likelihood = (
            np.log(mixture).sum(axis=1, dtype=np.float64)
            - without.shape[1] * tried.log_stretches
        )
        best = int(likelihood.argmax())
        return _Fitted(
            share=float(share[best]),
            move=float(tried.moves[best]),
            log_stretch=float(tried.log_stretches[best]),
            likelihood=float(likelihood[best]),
        )


def _root(ratio: float) -> float:
    return float(np.sqrt(2.0 * max(ratio, 0.0)))
