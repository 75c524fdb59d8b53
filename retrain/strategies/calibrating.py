"""What turns a head's logits into probabilities and a call: temperature, intercept, threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit

from monitor.statistics.performance.calibration import fit_temperature
from monitor.statistics.performance.discrimination import auc
from monitor.statistics.performance.label_shift import likeliest_prevalence
from registry.bundles.heads import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE
from registry.errors import InsufficientDataError
from retrain.strategies.scans import require_both_classes

#: What a head says before its calibration: one margin a scan [n], or one logit a class [n, k].
Margins = npt.NDArray[np.float64]
#: 0 or 1, or a class, of each scan [n]; of several findings 0 or 1 for each [n, k].
Targets = npt.NDArray[np.int64]

#: Without labels a prevalence is read off this many scans of the shift, or not at all.
LEAST_UNLABELLED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a margin (logit of the finding less that of its absence) is read."""

    temperature: float
    #: added to the margin before the temperature divides it
    intercept: float
    #: on the probability
    threshold: float

    def log_odds(self, margins: Margins) -> Margins:
        """Return calibrated log-odds of the finding, [n]."""
        return (margins + self.intercept) / self.temperature

    def loss(self, margins: Margins, targets: Targets) -> float:
        """Return the mean cross-entropy of the calibrated probabilities."""
        log_odds = self.log_odds(margins)
        return float(np.mean(np.logaddexp(0.0, np.where(targets == 1, -log_odds, log_odds))))

    def area(self, margins: Margins, targets: Targets) -> float:
        """Return the area under the curve, which no calibration changes."""
        return auc(margins, targets)

    def operating_point(self, margins: Margins, targets: Targets) -> tuple[float, float]:
        """Return sensitivity and specificity at the threshold."""
        called = self.log_odds(margins) >= logit(self.threshold)
        return float(np.mean(called[targets == 1])), float(np.mean(~called[targets == 0]))


def calibrated_after_training(margins: Margins, targets: Targets) -> Calibration:
    """Return temperature and threshold for a head that was trained: its intercept was, too.

    Parameters
    ----------
    margins, targets : of the selection set, [n]
    """
    temperature = temperature_of(margins, targets)
    return Calibration(
        temperature=temperature,
        intercept=0.0,
        threshold=operating_threshold(margins, targets, temperature=temperature),
    )


def recalibrated(margins: Margins, targets: Targets) -> Calibration:
    """Return temperature, intercept and threshold as labels of a shift ask for them.

    Temperature scaling with a bias (Alexandari, Kundaje and Shrikumar 2020, ICML, PMLR
    119:222-232, section 3): the intercept takes up a change of prevalence and of scores
    that rose or fell together, the temperature one of their spread. Order, and so the
    AUC, stays.

    Parameters
    ----------
    margins, targets : of labelled scans of the shift, [n]

    Raises
    ------
    InsufficientDataError
        If a class is missing, or scores no longer rise with the finding.
    """
    require_both_classes(targets, what="labelled scans of the shift")
    signs = np.where(targets == 1, 1.0, -1.0)
    # Margins of unit spread: both parameters of the search are then of one size.
    spread = float(np.std(margins)) or 1.0

    def loss(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        slope, intercept = parameters
        agreement = signs * (slope * margins / spread + intercept)
        wrong = expit(-agreement) * signs
        gradient = -np.array([np.mean(wrong * margins / spread), np.mean(wrong)])
        return float(np.mean(np.logaddexp(0.0, -agreement))), gradient

    steepest, flattest = spread / LOWEST_TEMPERATURE, spread / HIGHEST_TEMPERATURE
    separated = margins[targets == 1].min() > margins[targets == 0].max()
    if separated:
        # No slope is the likeliest: scores keep their spread and move only.
        temperature = 1.0
        intercept = -(margins[targets == 1].min() + margins[targets == 0].max()) / 2.0
    else:
        found = minimize(
            loss,
            np.array([1.0, 0.0]),
            jac=True,
            method="L-BFGS-B",
            bounds=[(None, steepest), (None, None)],
            options={"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-10},
        )
        slope = float(found.x[0])
        if slope <= flattest:
            raise InsufficientDataError(
                what="labelled scans of the shift whose scores still rise with the finding "
                "(a recalibration keeps their order: train instead)",
                needed=1,
                got=0,
            )
        temperature = spread / slope
        intercept = float(found.x[1]) * temperature
    moved = margins + intercept
    return Calibration(
        temperature=temperature,
        intercept=intercept,
        threshold=operating_threshold(moved, targets, temperature=temperature),
    )


def recalibrated_by_prevalence(
    unlabelled: Margins, reference: Margins, targets: Targets
) -> Calibration:
    """Return what fits scans without labels if nothing changed but the prevalence.

    Temperature and intercept are fitted on the reference; the intercept then moves by
    the likeliest new prevalence of the scans without labels (Saerens et al. 2002, as
    `monitor.statistics.performance.label_shift` has it).

    Parameters
    ----------
    unlabelled : margins of scans of the shift, [m]
    reference, targets : margins and labels of the reference, [n]

    Raises
    ------
    InsufficientDataError
        If there are too few scans without labels to read a prevalence off.
    """
    if len(unlabelled) < LEAST_UNLABELLED:
        raise InsufficientDataError(
            what="scans of the shift to read a prevalence off",
            needed=LEAST_UNLABELLED,
            got=len(unlabelled),
        )
    before = recalibrated(reference, targets)
    old = float(np.mean(expit(before.log_odds(reference))))
    chances = np.clip(expit(before.log_odds(unlabelled)), 1e-7, 1.0 - 1e-7)
    share = likeliest_prevalence(chances, before=old, weights=np.ones((1, len(chances))))
    new = float(np.clip(share[0], 1.0 / (len(chances) + 1), len(chances) / (len(chances) + 1)))
    moved = float(logit(new) - logit(old))
    # A call is worth the same likelihood ratio as before.
    threshold = float(expit(logit(before.threshold) + moved))
    return Calibration(
        temperature=before.temperature,
        intercept=before.intercept + moved * before.temperature,
        threshold=threshold,
    )


def operating_threshold(margins: Margins, targets: Targets, *, temperature: float) -> float:
    """Return the probability at which sensitivity + specificity is largest (Youden 1950).

    On probabilities that are calibrated that is the prevalence, where a scan is
    as likely among the positives as among the negatives. Only the intercept of
    the calibration is fitted here, which a small selection set bears; the
    empirical optimum would follow single scans.

    Parameters
    ----------
    margins : logit of the positive class less that of the negative, [n]
    targets : 0 or 1, [n], both present
    temperature : by which margins are divided before they become probabilities
    """
    scaled = margins / temperature
    prevalence = float(np.mean(targets))
    intercept = float(
        brentq(lambda shift: float(np.mean(expit(scaled + shift))) - prevalence, -60.0, 60.0)
    )
    return float(expit(logit(prevalence) - intercept))


def temperature_of(margins: Margins, targets: Targets) -> float:
    """Return the temperature that calibrates, or 1 where no error of the selection set bounds it.

    A small selection set that is read without an error would make every
    probability 0 or 1; the probabilities then stay as they were trained.
    """
    try:
        return fit_temperature(np.stack([np.zeros_like(margins), margins], axis=1), targets)
    except InsufficientDataError:
        return 1.0
