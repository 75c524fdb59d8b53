"""Moving averages of features at several rates, and the mean of everything seen so far.

A stream knows its reference's mean feature c only with an error, and what it averages shares
that error. So everything is seen from the *pooled* mean of the reference and all of the
stream. With M_l the moving sum of the centred scores G at rate l, A_l its mass and Q_l its
squared mass, C their plain sum, and N + n the mass of reference and stream together, the
average's direction and its variance in variances of one scan are

    d_l = M_l / A_l - C / (N + n),    v_l = Q_l / A_l^2 - 1 / (N + n).

For normal features d_l is independent of the pooled mean (Basu 1955, *Sankhyā* 15:377-380),
so the reference's error cancels in the payoffs of `betting.py` on average, however small the
reference is. Squared lengths and products are kept up to date, so that a scan costs one
product with each average.

A unit is a patient's scans in a row. With k of them of intraclass correlation rho, their sum
weighs 1 / (1 + (k - 1) rho), and mass is what `patients.py` calls an effective number of
scans. All arrays hold S streams, which are followed in step and never meet.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from monitor.statistics.embeddings import Floats, Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """Inner products by member of features [S, D] with the averages; they add up."""

    #: [S, L, G] with each moving sum
    moving: Floats
    #: [S, G] with the plain sum
    plain: Floats


@dataclass(slots=True, kw_only=True)
class Averages:
    """Moving sums at L rates and the plain sum of features about a reference's mean."""

    #: [L] what is left of a sum after one scan
    keep: Floats
    #: [G] where each member's features start, and how many there are
    starts: Integers
    widths: Integers
    #: [G] effective number of scans of the reference
    reference: Floats
    #: [S, L, D]
    moving: Floats
    #: [S, L] masses of the moving sums
    masses: Floats
    #: [S, L] the same with squared weights
    squares: Floats
    #: [S, D]
    plain: Floats
    #: [S] mass of the plain sum
    pooled: Floats
    #: [S] mass that was ever added: what the age of a unit is told by
    clock: Floats
    #: [S, L, G] squared length of each moving sum
    moving_squared: Floats
    #: [S, L, G] its product with the plain sum
    moving_plain: Floats
    #: [S, G] squared length of the plain sum
    plain_squared: Floats

    @classmethod
    def empty(
        cls, *, streams: int, keep: Floats, starts: Integers, size: int, reference: Floats
    ) -> Averages:
        """Return the averages of no scans, for features of the given size D."""
        rates, members = len(keep), len(starts)
        return cls(
            keep=keep,
            starts=starts,
            widths=np.diff(starts, append=size),
            reference=reference,
            moving=np.zeros((streams, rates, size)),
            masses=np.zeros((streams, rates)),
            squares=np.zeros((streams, rates)),
            plain=np.zeros((streams, size)),
            pooled=np.zeros(streams),
            clock=np.zeros(streams),
            moving_squared=np.zeros((streams, rates, members)),
            moving_plain=np.zeros((streams, rates, members)),
            plain_squared=np.zeros((streams, members)),
        )

    @property
    def total(self) -> Floats:
        """Mass of reference and stream together, [S, G]."""
        total: Floats = self.reference + self.pooled[:, None]
        return total

    def products(self, features: Floats) -> Products:
        """Return the products of features [S, D] with the averages."""
        return Products(
            moving=self._added(self.moving * features[:, None]),
            plain=self._added(self.plain * features),
        )

    def add(
        self, scores: Floats, masses: Floats, products: Products, *, pooled: bool = True
    ) -> None:
        """Add a unit to each stream: its scores [S, D], masses [S], and their products.

        A unit of mass zero, whose scores and products are zero, changes nothing. Without
        `pooled` the plain sum stays as it is.
        """
        keep = self.keep ** masses[:, None]
        own = self._added(np.square(scores))
        by_member = keep[..., None]
        self.moving_plain *= by_member
        self.moving_plain += products.plain[:, None]
        self.moving_squared *= np.square(by_member)
        self.moving_squared += 2.0 * by_member * products.moving + own[:, None]
        self.moving *= by_member
        self.moving += scores[:, None]
        self.masses *= keep
        self.masses += masses[:, None]
        self.squares *= np.square(keep)
        self.squares += masses[:, None]
        self.clock += masses
        if pooled:
            # The new moving sum meets the unit in the plain one, too.
            self.moving_plain += by_member * products.moving + own[:, None]
            self.plain_squared += 2.0 * products.plain + own
            self.plain += scores
            self.pooled += masses

    def withdraw(
        self, stream: int, scores: Floats, mass: float, *, age: float, pooled: bool = True
    ) -> None:
        """Take a unit out of a stream as if it had never been added.

        Parameters
        ----------
        scores : [D] as they were added
        age : mass added since
        pooled : whether the plain sum has seen the unit
        """
        left = self.keep**age
        self.moving[stream] -= left[:, None] * scores
        # Where nothing else was added, rounding must not leave less than nothing.
        self.masses[stream] = np.maximum(self.masses[stream] - left * mass, 0.0)
        self.squares[stream] = np.maximum(self.squares[stream] - np.square(left) * mass, 0.0)
        plain, before = self.plain[stream], float(self.pooled[stream])
        if pooled:
            plain, before = plain - scores, before - mass
        self.replace_plain(stream, plain, before)
        self.moving_squared[stream] = self._added(np.square(self.moving[stream]))

    def replace_plain(self, stream: int, plain: Floats, pooled: float) -> None:
        """Put another plain sum [D] and its mass in place of a stream's."""
        self.plain[stream] = plain
        self.pooled[stream] = pooled
        self.moving_plain[stream] = self._added(self.moving[stream] * plain)
        self.plain_squared[stream] = self._added(np.square(plain))

    def forget(self) -> None:
        """Empty the moving sums, and keep the plain one."""
        for array in (
            self.moving,
            self.masses,
            self.squares,
            self.moving_squared,
            self.moving_plain,
        ):
            array[:] = 0.0

    def state(self) -> dict[str, Floats]:
        """Return the arrays that scans change, by name; they are the averages' own."""
        fixed = ("keep", "starts", "widths", "reference")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in fixed}

    def _added(self, values: Floats) -> Floats:
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1))
