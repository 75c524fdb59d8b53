"""What a stream's bets are made on: the portfolio's members, and shares of the stake.

A scan with features f pays, along the direction d of a member's moving average and about the
pooled mean m (`averages.py`),

    x = <d, f - m> / s,

of mean zero and variance about one while nothing has shifted. Which averages the stake goes
to is read from their own T statistic, before the scan: weight / p-value. A peaked member's
direction is the one cell that grew most.

Ordinary stretches may differ a little by themselves, so that a share of d persists without
a shift: then x = (<d, f - m> - share |d|^2) / s, as in a random-effects model, in which the
best guess of what persists is proportional to what was seen (James & Stein 1961).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from monitor.statistics.combination import Tails
from monitor.statistics.embeddings import Flags, Floats, Integers, Singles
from monitor.statistics.members.member import Member
from monitor.statistics.portfolio import Portfolio, all_features
from monitor.statistics.streams.averages import Averages, Products
from monitor.statistics.two_sample import growths

# Share of the moving averages that the newest scan makes up: windows of 32 to 266 scans.
_RATES = (0.06, 0.03, 0.015, 0.0075)
# Mass of a moving average below which nothing is bet on it.
_READY = 8.0
# Variance of the mean payoff by the sum of squared shares of the members; payoffs of one
# member's rates are nearly the same, those of different members nearly independent.
_COMMON_VARIANCE, _SHARE_VARIANCE = 0.06, 1.05
# Shares of cells are kept this far from 0 and 1 in the variance of an indicator.
_LEAST_SHARE = 1e-3
_MOST_PERSISTENT = 0.95
# Empty averages are divided by it, and nothing is bet on them.
_LEAST_MASS = 1e-12
_LEAST_INVERSE_SIZE = 1e-9
# Scans that one patient is listened to for, while they come in a row.
MOST_SCANS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLaw:
    """What a portfolio says of a stream from its reference's distribution."""

    members: tuple[Member, ...]
    #: [G + 1] offsets of the members' features
    edges: Integers
    #: [D] mean features of the reference
    centre: Floats
    #: [G] variance of one scan's features
    traces: Floats
    #: [G] variance of a payoff along a random direction, over the direction's squared length
    spreads: Floats
    #: [G] effective number of scans of the reference
    sizes: Floats
    #: [G] shares of the stake, adding to one
    weights: Floats
    #: [L] what is left of a moving sum after one scan
    keep: Floats
    #: [L, G] of T at each rate
    tails: Tails
    #: [K + 1] mass of a patient of 0, 1, 2, … scans in a row, and of each of these scans
    masses: Floats
    mass_shares: Floats

    @classmethod
    def of(cls, portfolio: Portfolio, *, rates: Sequence[float] = _RATES) -> StreamLaw:
        """Take from a portfolio what a stream needs; members without a say are left out."""
        voting = [(g, one) for g, one in enumerate(portfolio.members) if one.weight > 0]
        chosen = np.array([g for g, _ in voting])
        members = tuple(one for _, one in voting)
        edges = np.cumsum([0, *(one.size for one in members)], dtype=np.int64)
        weights = np.array([one.weight for one in members])
        keep = 1.0 - np.array(rates)
        null = portfolio.null
        laws = [
            [(share, null.tails(i)) for i, share in null.neighbours(round(size))]
            for size in (1.0 + keep) / (1.0 - keep)
        ]
        means, deviations, skewnesses = (
            np.stack(
                [
                    sum(share * getattr(tail, what)[chosen] for share, tail in law)
                    for law in laws
                ]
            )
            for what in ("means", "deviations", "skewnesses")
        )
        traces = portfolio.traces[chosen]
        weeks = portfolio.weeks
        between = 0.0 if weeks is None else weeks.ratios[chosen] / weeks.weeks
        scans = np.arange(MOST_SCANS + 1)
        masses = scans / (1.0 + np.maximum(scans - 1, 0) * portfolio.dependence.pooled)
        return cls(
            members=members,
            edges=edges,
            centre=_by_feature(portfolio, chosen),
            traces=traces,
            # A variance of T is twice the trace of the squared covariance.
            spreads=np.square(null.deviations[-1, chosen]) / (2.0 * traces),
            sizes=1.0 / (portfolio.inverse_sizes[chosen] + between),
            weights=weights / weights.sum(),
            keep=keep,
            tails=Tails(means=means, deviations=deviations, skewnesses=skewnesses),
            masses=masses,
            mass_shares=masses / np.maximum(scans, 1),
        )

    @property
    def size(self) -> int:
        """Number of features D."""
        return int(self.edges[-1])

    @property
    def peaked(self) -> list[int]:
        """Members of which one feature is tested, the one that grew most."""
        return [g for g, one in enumerate(self.members) if one.peaked]

    def part(self, member: int) -> slice:
        """Return the columns of a member."""
        return slice(int(self.edges[member]), int(self.edges[member + 1]))

    def features(self, portfolio: Portfolio, scans: Singles) -> Singles:
        """Return the features of scans [n, d] about the reference's mean, [n, D]."""
        at = portfolio.fit.frame.coordinates(scans)
        centre = self.centre.astype(np.float32)
        return np.asarray(all_features(self.members, at) - centre)


def _by_feature(portfolio: Portfolio, chosen: Integers) -> Floats:
    edges = np.cumsum([0, *(one.size for one in portfolio.members)])
    parts = [portfolio.centre[edges[g] : edges[g + 1]] for g in chosen]
    return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stakes:
    """How bets are spread over averages, from what these say before the next patient."""

    #: [S, L, G] shares, adding to one where any average is ready
    shares: Floats
    #: [S] log of the weighted mean of 1 / p over all averages
    evidence: Floats
    #: [S, L, G] squared length of the direction d; of a peaked member, the largest growth
    lengths: Floats
    #: [S, L, G] standard deviation s of a payoff along d
    deviations: Floats
    #: [S, L, 1] masses of the averages, at least a little
    masses: Floats
    #: [S, G] mass of reference and stream
    total: Floats
    #: [S, L, G] <d, m>, m the pooled mean about the reference's
    middles: Floats
    #: of each peaked member, the column [S, L] that grew most, and m there [S, L]
    cells: Mapping[int, tuple[Integers, Floats]]
    #: [S, L] whether an average is old enough to be bet on
    ready: Flags
    #: [S, L, G] shares over standard deviations
    bets: Floats
    #: [S] mean payoff of what persists without a shift
    expected: Floats
    #: [S] variance that is expected of the mean payoff
    variance: Floats

    @classmethod
    def of(
        cls, law: StreamLaw, averages: Averages, persistence: Floats, *, pooled: bool = True
    ) -> Stakes:
        """Spread the stakes.

        Parameters
        ----------
        persistence : [S, L, G] share of a direction's length that persists without a shift
        pooled : whether what the averages saw is part of the pooled mean; while a shift is
            followed it is not, and the errors of both add up
        """
        total = averages.total
        masses = np.maximum(averages.masses, _LEAST_MASS)[..., None]
        middles = averages.moving_plain / (masses * total[:, None])
        middle = (averages.plain_squared / np.square(total))[:, None]
        lengths = averages.moving_squared / np.square(masses) - 2.0 * middles + middle
        middles -= middle
        own = averages.squares[..., None] / np.square(masses)
        apart = -1.0 if pooled else 1.0
        inverse_sizes = np.maximum(own + apart / total[:, None], _LEAST_INVERSE_SIZE)
        # What persists widens the ordinary scatter of an average to v / (1 - persistence).
        ordinary = inverse_sizes / (1.0 - np.clip(persistence, 0.0, _MOST_PERSISTENT))
        statistics = lengths / ordinary - law.traces
        deviations = np.sqrt(np.maximum(lengths, law.traces * inverse_sizes) * law.spreads)
        cells: dict[int, tuple[Integers, Floats]] = {}
        for g in law.peaked:
            growth = _Growth.of(law, averages, g, masses)
            cells[g] = (growth.column, growth.middle)
            lengths[..., g] = np.maximum(growth.difference, 0.0)
            deviations[..., g] = growth.deviation
            statistics[..., g] = growth.statistic / np.sqrt(ordinary[..., g])
        log_p = _log_p(law.tails, statistics)
        ready = np.square(averages.masses) >= _READY * np.maximum(averages.squares, _LEAST_MASS)
        voices = np.log(law.weights) - log_p
        voices = np.where(ready[..., None], voices, -np.inf)
        loudest = np.max(voices, axis=(1, 2), keepdims=True)
        shares = np.exp(voices - np.where(np.isfinite(loudest), loudest, 0.0))
        heard = shares.sum(axis=(1, 2), keepdims=True)
        shares /= np.maximum(heard, _LEAST_MASS)
        by_member = shares.sum(axis=1)
        bets = shares / deviations
        with np.errstate(divide="ignore"):
            evidence = (loudest + np.log(heard / len(law.keep)))[:, 0, 0]
        return cls(
            shares=shares,
            evidence=evidence,
            lengths=lengths,
            deviations=deviations,
            masses=masses,
            total=total,
            middles=middles,
            cells=cells,
            ready=ready,
            bets=bets,
            expected=(bets * persistence * lengths).sum(axis=(1, 2)),
            variance=_COMMON_VARIANCE + _SHARE_VARIANCE * np.square(by_member).sum(axis=1),
        )

    def payoffs(self, sums: Floats, products: Products, masses: Floats) -> Floats:
        """Return <d, f - m> summed over scans, [S, L, G].

        Parameters
        ----------
        sums : [S, D] of the scans' features
        products : of the sums with the averages
        masses : [S] of the sums
        """
        payoffs: Floats = products.moving / self.masses
        payoffs -= (products.plain / self.total)[:, None]
        payoffs -= masses[:, None, None] * self.middles
        for g, (column, middle) in self.cells.items():
            at = sums[np.arange(len(sums))[:, None], column]
            payoffs[..., g] = at - masses[:, None] * middle
        return payoffs

    def together(self, averages: Averages) -> tuple[Floats, Floats]:
        """Return all bets as one: h [S, D] and c [S], a scan paying <h, f> + c."""
        bets = self.bets.copy()
        constant = -self.expected
        for g, (_, middle) in self.cells.items():
            constant -= (bets[..., g] * middle).sum(axis=1)
            bets[..., g] = 0.0
        constant -= (bets * self.middles).sum(axis=(1, 2))
        along = np.repeat(bets / self.masses, averages.widths, axis=2)
        along *= averages.moving
        direction: Floats = along.sum(axis=1)
        pooled = np.repeat(bets.sum(axis=1) / self.total, averages.widths, axis=1)
        pooled *= averages.plain
        direction -= pooled
        streams = np.arange(len(direction))[:, None]
        for g, (column, _) in self.cells.items():
            np.add.at(direction, (streams, column), self.bets[..., g])
        return direction, constant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Growth:
    """The cell of a peaked member that grew most, by stream and rate, [S, L] each."""

    #: among all features
    column: Integers
    #: pooled share, about the reference's
    middle: Floats
    #: growth of the share
    difference: Floats
    #: of the cell's indicator
    deviation: Floats
    #: the growth on a symmetric scale, in deviations
    statistic: Floats

    @classmethod
    def of(cls, law: StreamLaw, averages: Averages, g: int, masses: Floats) -> _Growth:
        part = law.part(g)
        total = averages.total[:, g, None]
        middle = averages.plain[:, part] / total
        shares = np.clip(law.centre[part] + middle, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
        differences = averages.moving[..., part] / masses - middle[:, None]
        own = averages.squares / np.square(masses[..., 0])
        grown = growths(shares[:, None] + differences, own, shares[:, None], 1.0 / total)
        cell = grown.argmax(axis=-1)
        streams, rates = np.arange(len(cell))[:, None], np.arange(cell.shape[1])
        usual = shares[streams, cell]
        return cls(
            column=cell + part.start,
            middle=middle[streams, cell],
            difference=differences[streams, rates, cell],
            deviation=np.sqrt(usual * (1.0 - usual)),
            statistic=grown[streams, rates, cell],
        )


def _log_p(tails: Tails, statistics: Floats) -> Floats:
    """Return log P(T >= statistic), [..., G], as `Tails.log_p` does, in a tenth of the time.

    A gamma variable's cube root is nearly normal (Wilson & Hilferty 1931, PNAS 17:684-688).
    """
    standard = (statistics - tails.means) / tails.deviations
    root = np.cbrt(np.maximum(1.0 + 0.5 * tails.skewnesses * standard, 0.0))
    normal = (6.0 / tails.skewnesses) * (root - 1.0) + tails.skewnesses / 6.0
    return np.asarray(log_ndtr(-normal))
