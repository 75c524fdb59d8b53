"""A sequential test that bets: the portfolio, scan by scan, within a false-alarm budget.

A gambler bets that the next scans continue what the averages of past scans show
(`stakes.py`). A scan pays y, a mean of payoffs in standard deviations, of mean zero while
nothing has shifted: its features are independent of the past, and the directions that are
bet on, of the pooled mean's error, so that a reference's error costs nothing on average. The
wealth follows Shiryaev and Roberts,

    R_t = (1 + R_{t-1}) (1 + b y_t).

Then R_t - t is a martingale, and the time T to an alarm at R >= A has E[T] = E[R_T] - R_0
whatever the features' law (Pollak 1987, *Ann. Statist.* 15:749-779; for bets in place of
likelihoods Shin, Ramdas & Rinaldo 2024, *NEJSDS* 2:229-260): a threshold in closed form, up
to how far the wealth jumps over it.

Patients are bet on, not scans: with k scans of a patient the bet is on their weighted sum
(`patients.py`), and no average sees a patient before his bet is over. So however alike the
scans of one patient are, they do not shorten the time between false alarms. Averages see the
patients of a *round* together, four of them: bets cost less so, patients may take turns
within a round, and a shift is seen a scan or two later.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np

from monitor.statistics.embeddings import Flags, Floats, Integers
from monitor.statistics.streams.averages import Averages
from monitor.statistics.streams.stakes import MOST_SCANS, Stakes, StreamLaw

# Standard deviation of the wealth's relative change by one scan. Half or twice as much
# detects the benchmark's shifts at most a tenth later.
_STAKE = 0.15
_LEAST_FACTOR = 0.05
# How far the wealth jumps over the threshold, in stakes: .583 for normal payoffs (Siegmund
# 1985, *Sequential Analysis*, section 10.3), and more for their heavier tails.
_OVERSHOOT = 0.75
# Scans' worth of agreement with the expected variance, before it is learnt.
_AGREED = 200.0
# Scans' worth of doubt that bets gain anything by themselves.
_DOUBT = 20.0
#: patients in a round
ROUND = 4


@cache
def start_wealth(stake: float = _STAKE) -> float:
    """Return R_0: the median of what the wealth tends to while nothing shifts.

    In continuous time the wealth's stationary law is that of 2 / b^2 over an exponential
    variable: a stream that has just begun is as watchful as one that has run for long.
    """
    return float(2.0 / (stake**2 * np.log(2.0)))


@cache
def alarm_wealth(scans_between_false_alarms: float, stake: float = _STAKE) -> float:
    """Return A, at which the mean time to a false alarm is the budget."""
    return (scans_between_false_alarms + start_wealth(stake)) / (1.0 + _OVERSHOOT * stake)


@dataclass(slots=True, kw_only=True)
class Round:
    """The patients who are bet on before the averages see them, K places in each of S streams."""

    #: [S] places taken
    taken: Integers
    #: [S, K, D] sums of the features of each patient's scans, and the scans' number [S, K]
    sums: Floats
    scans: Integers
    #: [S, K] sums of what the scans paid
    paid: Floats
    #: [S, K] what a patient's scans paid that were bet on in an earlier round
    settled: Floats
    #: [S] wealth before the round
    before: Floats
    #: [S] scans of the round
    length: Integers

    @classmethod
    def empty(cls, wealth: Floats, *, size: int) -> Round:
        """Return a round without a scan, for features of the given size."""
        places = (len(wealth), ROUND)
        return cls(
            taken=np.zeros(len(wealth), dtype=np.int64),
            sums=np.zeros((*places, size)),
            scans=np.zeros(places, dtype=np.int64),
            paid=np.zeros(places),
            settled=np.zeros(places),
            before=wealth.copy(),
            length=np.zeros(len(wealth), dtype=np.int64),
        )

    def clear(self, ended: Flags, wealth: Floats) -> None:
        """Begin anew in the streams whose round has ended, [S]."""
        for array in (self.taken, self.sums, self.scans, self.paid, self.settled, self.length):
            array[ended] = 0
        self.before[ended] = wealth[ended]


@dataclass(slots=True, kw_only=True)
class Bets:
    """The wealth of S streams, which are followed in step and never meet."""

    law: StreamLaw
    averages: Averages
    round: Round
    #: [S] R
    wealth: Floats
    #: [S, L, G] payoffs times lengths of directions, and the latter squared, in variances of
    #: a payoff: their ratio is how much of a direction persists by itself
    persisting: Floats
    persisting_squared: Floats
    #: [S] squared payoffs over their expected variance, and the mass that paid them
    surprise: Floats
    surprised: Floats
    #: [S] sum of payoffs in standard deviations
    gained: Floats
    #: whether ordinary stretches differ, so that what bets gain from that is learnt
    learning: bool
    #: whether wealth is kept; without, every round begins with the first wealth
    watching: bool
    #: whether scans are taken for ordinary: else the pooled mean, and how much persists and
    #: scatters, are left as they are
    pooling: bool
    #: what follows from the averages: stakes, all bets as one, and the standard deviation of
    #: a scan's mean payoff [S]
    stakes: Stakes
    direction: Floats
    constant: Floats
    deviation: Floats

    @classmethod
    def start(cls, law: StreamLaw, *, streams: int = 1, learning: bool = False) -> Bets:
        """Return the bets of streams that have seen nothing.

        Parameters
        ----------
        learning : whether ordinary stretches differ, so that some of a direction persists
            without a shift, and bets gain by it; both are learnt from all of the stream, and
            taken off
        """
        averages = Averages.empty(
            streams=streams,
            keep=law.keep,
            starts=law.edges[:-1],
            size=law.size,
            reference=law.sizes,
        )
        nothing = np.zeros((streams, len(law.keep), len(law.members)))
        wealth = np.full(streams, start_wealth())
        stakes = Stakes.of(law, averages, nothing)
        direction, constant = stakes.together(averages)
        deviation: Floats = np.sqrt(stakes.variance)
        return cls(
            law=law,
            averages=averages,
            round=Round.empty(wealth, size=law.size),
            wealth=wealth,
            persisting=nothing,
            persisting_squared=nothing.copy(),
            surprise=np.full(streams, _AGREED),
            surprised=np.full(streams, _AGREED),
            gained=np.zeros(streams),
            learning=learning,
            watching=not learning,
            pooling=True,
            stakes=stakes,
            direction=direction,
            constant=constant,
            deviation=deviation,
        )

    @property
    def persistence(self) -> Floats:
        """Share of a direction's length that persists without a shift, [S, L, G]."""
        persistence: Floats = self.persisting / np.maximum(self.persisting_squared, 1.0)
        return persistence

    @property
    def usual(self) -> Floats:
        """Mean payoff so far in standard deviations, where that is learnt, [S]."""
        usual: Floats = self.gained / (self.surprised - _AGREED + _DOUBT)
        return usual

    def advance(self, features: Floats, *, arrived: Flags) -> Floats:
        """Bet on one scan of each stream; return the wealth after it, [S].

        Parameters
        ----------
        features : [S, D] about the reference's mean
        arrived : [S] whether the scan is another patient's than the one before
        """
        full = arrived & (self.round.taken == ROUND)
        if full.any():
            self.settle(full)
        self.round.taken += arrived
        return self.bet(features, self.round.taken - 1)

    def bet(self, features: Floats, places: Integers) -> Floats:
        """Bet on one scan [S, D] of the patients in these places [S]; return the wealth [S]."""
        present = self.round
        paid = np.einsum("ij,ij->i", self.direction, features) + self.constant
        for stream, place in enumerate(places.tolist()):
            # Beyond as many scans a patient is no longer listened to.
            if present.scans[stream, place] < MOST_SCANS:
                present.paid[stream, place] += paid[stream]
                present.sums[stream, place] += features[stream]
                present.scans[stream, place] += 1
        gained = (self._weighted(present.paid) - present.settled) / self.deviation[:, None]
        factors = np.maximum(1.0 + _STAKE * gained, _LEAST_FACTOR)
        # Further scans of a round are scans of the budget, too.
        self.wealth = (1.0 + present.before) * factors.prod(axis=1) + present.length
        present.length += 1
        return self.wealth

    def settle(self, ended: Flags) -> None:
        """End the round in some streams [S]: their averages see its patients."""
        present, stakes = self.round, self.stakes
        masses = np.where(ended[:, None], self.law.masses[present.scans], 0.0)
        weights = masses / np.maximum(present.scans, 1)
        scores = np.einsum("ik,ikj->ij", weights, present.sums)
        mass = masses.sum(axis=1)
        products = self.averages.products(scores)
        if self.learning and self.pooling:
            in_variances = np.where(
                stakes.ready[..., None], stakes.lengths / np.square(stakes.deviations), 0.0
            )
            self.persisting += stakes.payoffs(scores, products, mass) * in_variances
            self.persisting_squared += mass[:, None, None] * stakes.lengths * in_variances
        if self.pooling:
            paid = self._weighted(present.paid)
            betting = ended & stakes.ready.any(axis=1)
            if self.learning:
                gained = paid.sum(axis=1) / self.deviation + self.usual * mass
                self.gained += np.where(betting, gained, 0.0)
            squared = np.square(paid).sum(axis=1) / stakes.variance
            self.surprise += np.where(betting, squared, 0.0)
            self.surprised += np.where(betting, mass, 0.0)
        self.averages.add(scores, mass, products, pooled=self.pooling)
        if not self.watching:
            self.wealth = np.where(ended, start_wealth(), self.wealth)
        present.clear(ended, self.wealth)
        self.spread()

    def spread(self) -> None:
        """Spread the stakes by what the averages say now."""
        self.stakes = Stakes.of(self.law, self.averages, self.persistence, pooled=self.pooling)
        self.direction, self.constant = self.stakes.together(self.averages)
        self.deviation = np.sqrt(self.stakes.variance * self.surprise / self.surprised)
        self.constant -= self.usual * self.deviation

    def readmit(self, sums: Floats, scans: int, *, age: float) -> None:
        """Give a place to a patient of an earlier round, in the only stream.

        The patients of the present round are settled, and the averages no longer see the
        one who comes back: what they hold of him comes in again with his new scans.

        Parameters
        ----------
        sums : [D] of the features of the patient's earlier scans
        scans : their number
        age : mass that was added since, the present round's not counted
        """
        mass = float(self.law.masses[scans])
        present = self.round
        age += float(self.law.masses[present.scans].sum())
        self.settle(np.ones(1, dtype=bool))
        # While a shift is followed the plain sum stays as it is.
        self.averages.withdraw(0, sums * (mass / scans), mass, age=age, pooled=self.pooling)
        self.spread()
        present.taken[0] = 1
        present.sums[0, 0], present.scans[0, 0] = sums, scans
        present.paid[0, 0] = (self.direction[0] * sums).sum() + scans * self.constant[0]
        present.settled[0, 0] = self._weighted(present.paid)[0, 0]

    def restart(self) -> None:
        """Begin again in all streams, with what is known of the pooled mean."""
        everywhere = np.ones(len(self.wealth), dtype=bool)
        self.averages.forget()
        self.wealth = np.full(len(self.wealth), start_wealth())
        self.round.clear(everywhere, self.wealth)
        self.spread()

    def state(self) -> dict[str, Floats | Integers]:
        """Return the arrays that scans change, by name; they are the bets' own.

        Stakes, and all bets as one, follow from them by `spread`.
        """
        names = (
            "persisting",
            "persisting_squared",
            "surprise",
            "surprised",
            "gained",
            "wealth",
        )
        return {
            **{f"averages.{name}": one for name, one in self.averages.state().items()},
            **{f.name: getattr(self.round, f.name) for f in fields(self.round)},
            **{name: getattr(self, name) for name in names},
        }

    def _weighted(self, paid: Floats) -> Floats:
        """Return what patients paid as the bet counts it, [S, K]."""
        weighted: Floats = self.law.mass_shares[self.round.scans] * paid
        return weighted
