"""A reference's profile: fitted once, checked often, kept without a pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monitor.profile_files import read_profile, write_profile
from monitor.statistics.change_point import ChangePoint, change_point
from monitor.statistics.cross_fitting import fit_portfolio
from monitor.statistics.embeddings import (
    Embeddings,
    Flags,
    Floats,
    Integers,
    Singles,
    checked_embeddings,
    require_few_copies,
)
from monitor.statistics.patients import Identifiers, Patients
from monitor.statistics.persistence import KeptDraws, persistence_p_value
from monitor.statistics.portfolio import Portfolio
from monitor.statistics.threads import kernels, one_thread
from monitor.statistics.verdicts import Detection, Verdict
from monitor.statistics.weeks import LEAST_WEEK_PATIENTS, LEAST_WEEKS
from registry.errors import (
    InsufficientDataError,
    InsufficientReferenceError,
    SpaceMismatchError,
)

__all__ = ["Detection", "ReferenceProfile", "Verdict"]

#: patients below which no calibration of a reference is shown
LEAST_REFERENCE_PATIENTS = 200
#: scans below which a window is not judged
LEAST_WINDOW_SCANS = 20
#: patients below which a window is not judged
LEAST_WINDOW_PATIENTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceProfile:
    """What is known of a reference: enough to judge any window, and no scan of it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> profile = ReferenceProfile.fit(rng.normal(size=(300, 6)), seed=1)
    >>> profile.check(rng.normal(0.8, 1.0, size=(60, 6))).p_value < 0.001
    True
    """

    portfolio: Portfolio
    #: scans of the reference
    scans: int
    seed: int
    #: digest of encoder and preprocessing; "" where none was given
    space: str
    #: numerical libraries of the fit, which bit-for-bit agreement depends on
    kernels: tuple[str, ...]
    #: draws of the rule of two windows
    _draws: KeptDraws = field(default_factory=KeptDraws, init=False, repr=False, compare=False)

    @classmethod
    def fit(
        cls,
        embeddings: Embeddings,
        patients: Identifiers | None = None,
        *,
        weeks: Identifiers | None = None,
        seed: int = 0,
        space: str = "",
    ) -> ReferenceProfile:
        """Fit a profile on a reference.

        Parameters
        ----------
        embeddings : float32, shape [N, d]
        patients : [N] identifiers, all strings or all integers; without them, each scan
            counts as a patient of its own
        weeks : [N] identifiers of the weeks in which the scans arrived, all accepted as
            ordinary; with them, verdicts also say whether a shift exceeds what such weeks
            differ by
        seed : of everything that is drawn
        space : digest of the encoder and the preprocessing that made the embeddings

        Raises
        ------
        EmbeddingsError
            For NaN, infinities, constant embeddings or identifiers that do not fit.
        InsufficientReferenceError
            For fewer than 200 patients, or, with weeks, fewer than 8 of 20 patients and more.
        """
        singles = checked_embeddings(embeddings, what="reference")
        require_few_copies(singles, what="reference")
        grouped = Patients.of(patients, scans=len(singles))
        if grouped.count < LEAST_REFERENCE_PATIENTS:
            raise InsufficientReferenceError(
                what="patients in the reference",
                needed=LEAST_REFERENCE_PATIENTS,
                got=grouped.count,
            )
        week = None if weeks is None else _weeks(weeks, grouped)
        with one_thread():
            portfolio = fit_portfolio(singles, grouped, week, seed=seed)
        return cls(
            portfolio=portfolio, scans=len(singles), seed=seed, space=space, kernels=kernels()
        )

    @property
    def patients(self) -> int:
        """Patients of the reference."""
        return self.portfolio.patients

    @property
    def dimension(self) -> int:
        """Dimension d of the embeddings."""
        return len(self.portfolio.fit.frame.basis.mean)

    @property
    def explained(self) -> tuple[float, float]:
        """Share of the reference's variance in each of `project`'s two components."""
        variances = self.portfolio.fit.frame.basis.variances
        first, second = variances[:2] / variances.sum()
        return float(first), float(second)

    def check(
        self,
        window: Embeddings,
        patients: Identifiers | None = None,
        *,
        weeks: Identifiers | None = None,
        space: str | None = None,
        copies: bool = False,
    ) -> Verdict:
        """Judge a window.

        A window of more patients than calibration is shown for (half of the reference's,
        and no more than 1,000) is judged by a part that the profile's seed picks, and the
        verdict says so.

        Parameters
        ----------
        window : float32, shape [n, d], n >= 20
        patients : [n] identifiers, or None as in `fit`
        weeks : [n] identifiers of the weeks in which the scans arrived; None for one week.
            They matter where the reference knows weeks: the differences of several even out
        space : of the window; None asserts nothing
        copies : whether a window of which more than half repeats others is judged, too. Blank
            images of several patients are a shift, and not the window's mistake

        Raises
        ------
        SpaceMismatchError
            If the window lies in another space than the reference.
        EmbeddingsError
            For NaN, infinities, or another dimension; for copies, if they are not to be judged.
        InsufficientDataError
            For fewer than 20 scans or 5 patients.
        """
        singles, grouped, subsampled = self._window(window, patients, space, copies=copies)
        with one_thread():
            return self.portfolio.check(
                singles,
                grouped,
                week_share=1.0 if weeks is None else _week_share(weeks, len(window)),
                subsampled=subsampled,
                seed=self.seed,
            )

    def scan_weights(self, window: Embeddings, patients: Identifiers | None = None) -> Floats:
        """Return each scan's part in the leading detector's squared shift, [n].

        The parts add up to the unbiased squared distance between the window's and the
        reference's mean feature; scans that speak against the shift count negative. No
        scan is left out, however large the window. Raises as `check` does.
        """
        singles = checked_embeddings(window, what="window", dimension=self.dimension)
        grouped = self._enough(Patients.of(patients, scans=len(singles)), len(singles))
        with one_thread():
            return self.portfolio.contributions(singles, grouped)

    def onset(
        self, scans: Embeddings, patients: Identifiers | None, shifted: Flags
    ) -> tuple[ChangePoint, Floats]:
        """Return when a shift began, as an index into scans in the order of arrival.

        With it the `scan_weights` of the shifted scans, [m], which it rests on.

        Parameters
        ----------
        scans : float32, shape [n, d], from before the shift to now
        patients : [n] identifiers, or None as in `fit`
        shifted : [n] those that an alarm was raised on; they say which way the shift goes

        Raises as `check` does, for too few shifted scans too.
        """
        singles = checked_embeddings(scans, what="window", dimension=self.dimension)
        grouped = Patients.of(patients, scans=len(singles))
        rows = np.flatnonzero(shifted)
        self._enough(grouped.subset(rows), len(rows))
        with one_thread():
            alignments, weights = self.portfolio.alignments(singles, grouped, shifted)
            return change_point(alignments), weights

    def scan_scores(self, window: Embeddings) -> Floats:
        """Return how far out each scan lies, [n]: its rank among reference scans, (0, 1).

        Ranks of log-Mahalanobis distances; reference scans count as if their patient had
        not been in the fit. Raises EmbeddingsError as `check` does.
        """
        singles = checked_embeddings(window, what="window", dimension=self.dimension)
        with one_thread():
            return self.portfolio.outlier_scores(singles)

    def project(self, embeddings: Embeddings) -> Singles:
        """Return the first two principal components of the reference, [n, 2].

        In embedding units about the reference's mean; `explained` holds their share of
        variance. Raises EmbeddingsError as `check` does.
        """
        singles = checked_embeddings(embeddings, what="window", dimension=self.dimension)
        with one_thread():
            return self.portfolio.fit.frame.basis.leading_components(singles, count=2)

    def persistence_p_value(self, p_values: Sequence[float], sizes: Sequence[int]) -> float:
        """Return the p-value of two significant windows in a row.

        For windows w0 (the last of the week before), w1 and w2, S = min(max(p0, p1),
        max(p1, p2)) is referred to its law when nothing shifted, in which the windows
        share the error of this one reference. With two windows, S = max(p1, p2).

        Parameters
        ----------
        p_values : of two or three windows in a row, oldest first
        sizes : patients compared in each (`Verdict.patients`)

        Raises
        ------
        InsufficientDataError
            For fewer than two windows.
        BadInputError
            For more than three, sizes that do not match, or p-values outside (0, 1].
        """
        self._draws.tidy()
        with one_thread():
            return persistence_p_value(
                p_values,
                sizes,
                reference_size=self.patients,
                forms=self.portfolio.forms,
                weights=np.array([member.weight for member in self.portfolio.members]),
                kept=self._draws,
            )

    def save(self, directory: Path) -> None:
        """Write the profile: the same profile gives the same bytes.

        Tensors go to `profile.safetensors`, everything else to `profile.json`.
        """
        write_profile(
            directory,
            self.portfolio,
            {
                "scans": self.scans,
                "seed": self.seed,
                "space": self.space,
                "kernels": list(self.kernels),
            },
        )

    @classmethod
    def load(cls, directory: Path) -> ReferenceProfile:
        """Read a profile that `save` wrote.

        Raises
        ------
        NotFoundError
            If the directory holds no profile.
        BadInputError
            If what it holds is not a profile that this version reads.
        IntegrityError
            If the tensors are not those that were saved.
        """
        portfolio, facts = read_profile(directory)
        return cls(
            portfolio=portfolio,
            scans=int(facts["scans"]),
            seed=int(facts["seed"]),
            space=str(facts["space"]),
            kernels=tuple(facts["kernels"]),
        )

    def _window(
        self,
        window: Embeddings,
        patients: Identifiers | None,
        space: str | None,
        *,
        copies: bool,
    ) -> tuple[Singles, Patients, bool]:
        if space is not None and space != self.space:
            raise SpaceMismatchError(
                f"the window lies in space {space!r} and the reference in {self.space!r}: "
                "embed both with the same encoder and preprocessing"
            )
        singles = checked_embeddings(window, what="window", dimension=self.dimension)
        if not copies:
            require_few_copies(singles, what="window")
        grouped = self._enough(Patients.of(patients, scans=len(singles)), len(singles))
        if grouped.count <= self.portfolio.largest_window:
            return singles, grouped, False
        chosen = np.zeros(grouped.count, dtype=bool)
        rng = np.random.default_rng([self.seed, grouped.count])
        chosen[rng.permutation(grouped.count)[: self.portfolio.largest_window]] = True
        rows = grouped.members(chosen)
        return singles[rows], grouped.subset(rows), True

    @staticmethod
    def _enough(grouped: Patients, scans: int) -> Patients:
        if scans < LEAST_WINDOW_SCANS:
            raise InsufficientDataError(
                what="scans in the window", needed=LEAST_WINDOW_SCANS, got=scans
            )
        if grouped.count < LEAST_WINDOW_PATIENTS:
            raise InsufficientDataError(
                what="patients in the window", needed=LEAST_WINDOW_PATIENTS, got=grouped.count
            )
        return grouped


def _weeks(weeks: Identifiers, patients: Patients) -> Integers:
    """Return the number of each scan's week, [N]."""
    week = Patients.of(weeks, scans=len(patients.codes), what="week").codes
    heard = _heard(week, patients)
    if heard < LEAST_WEEKS:
        raise InsufficientReferenceError(
            what=f"weeks of at least {LEAST_WEEK_PATIENTS} patients in the reference",
            needed=LEAST_WEEKS,
            got=heard,
        )
    return week


def spans_weeks(weeks: Identifiers, patients: Identifiers) -> bool:
    """Return whether scans [N] cover enough weeks of enough patients for `fit` to use them."""
    grouped = Patients.of(patients, scans=len(patients))
    week = Patients.of(weeks, scans=len(patients), what="week").codes
    return _heard(week, grouped) >= LEAST_WEEKS


def _heard(week: Integers, patients: Patients) -> int:
    """Return the number of weeks with enough patients."""
    seen = np.unique(np.stack([week, patients.codes]), axis=1)[0]
    return int(np.count_nonzero(np.bincount(seen) >= LEAST_WEEK_PATIENTS))


def _week_share(weeks: Identifiers, scans: int) -> float:
    """Return the sum of squares of the weeks' shares of a window."""
    counts = Patients.of(weeks, scans=scans, what="week").scans
    return float(np.square(counts / counts.sum()).sum())
