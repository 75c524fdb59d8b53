"""Whether a shift that was seen is over.

Along the shift D = mean of the shifted scans - mean before, of squared length U, a score
about the mean before has mean U while the shift lasts and 0 once it is over, and variance
s^2. The logarithm of the likelihood ratio adds up from zero, and stays there while it would
be negative (Page 1954, *Biometrika* 41:100-115):

    W <- max(0, W + (U^2 / 2 - U <D, f>) / s^2).

U is taken one standard error low: were it too large, a shift that lasts would seem to fade.

Where W is 0, scans since are taken to have shifted, too. Of a weak shift that ended, D then
comes to hold mostly ordinary scans: U shrinks towards what ordinary weeks differ by, W no
longer moves, and the end would never be told. So a shift is over as well once D, with all
scans since, is half as long as when it raised the alarm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monitor.statistics.embeddings import Floats

# Of U at the alarm, what it must not exceed for the shift to be over: half of D's length.
_FADED = 0.25


@dataclass(slots=True, kw_only=True)
class Recovery:
    """One member's shift, and what speaks for its end."""

    #: variance of one scan's features, and along a random direction
    trace: float
    spread: float
    #: 1 / effective number of scans behind the mean before
    inverse_size: float
    #: [s] sum of the shifted scores about the mean before, and its mass
    shifted: Floats
    mass: float
    #: [s] of scores since W was last 0, which may not be shifted any more
    pending: Floats
    pending_mass: float
    #: W
    evidence: float
    #: U when the shift raised the alarm
    first_squared_shift: float

    @classmethod
    def start(
        cls, shifted: Floats, mass: float, *, trace: float, spread: float, inverse_size: float
    ) -> Recovery:
        """Begin with the scores [s] of the scans that are taken to have shifted, summed."""
        begun = cls(
            trace=trace,
            spread=spread,
            inverse_size=inverse_size,
            shifted=np.array(shifted, dtype=np.float64),
            mass=mass,
            pending=np.zeros(len(shifted)),
            pending_mass=0.0,
            evidence=0.0,
            first_squared_shift=0.0,
        )
        begun.first_squared_shift = max(begun.squared_shift, 0.0)
        return begun

    @property
    def squared_shift(self) -> float:
        """U less one standard error; not positive if the shift does not show any more."""
        inverse = 1.0 / self.mass + self.inverse_size
        mean = self.shifted / self.mass
        squared = float(mean @ mean) - self.trace * inverse
        # tr V^2 = spread * trace.
        null = 2.0 * self.trace * self.spread * inverse**2
        return squared - float(np.sqrt(null + 4.0 * max(squared, 0.0) * self.spread * inverse))

    def see(self, scores: Floats, mass: float) -> None:
        """Weigh the next scores [s] about the mean before, of this mass."""
        squared = self.squared_shift
        if squared > 0.0:
            mean = self.shifted / self.mass
            variance = float(mean @ mean) * self.spread
            along = float(mean @ scores)
            gained = (mass * squared**2 / 2.0 - squared * along) / variance
            self.evidence = max(0.0, self.evidence + gained)
        self.pending += scores
        self.pending_mass += mass
        if self.evidence == 0.0 or squared <= 0.0:
            self.shifted += self.pending
            self.mass += self.pending_mass
            self.pending = np.zeros_like(self.pending)
            self.pending_mass = 0.0

    def over(self, scans_between_mistakes: float) -> bool:
        """Return whether the shift is over, or hardly shows any more.

        A shift that lasts is seldom taken for over, by W no more than once in as many scans.
        """
        clear = self.evidence >= float(np.log(scans_between_mistakes))
        return clear or self.squared_shift <= _FADED * self.first_squared_shift
