"""How many labels a plan's gates need, by the tests that will decide: said before anybody reads.

The sample is of patients, and each counts once. How many of them have the finding follows the
binomial distribution at the expected prevalence, so the power is a mean over how many may
come. Sensitivity and specificity must both hold, and rest on different patients: the
chance that they do is the product of the two powers. The AUC, which is secondary, and
subgroups are not reckoned with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom

from monitor.statistics.performance.paired_power import (
    non_inferiority_power,
    superiority_power,
)
from registry.canonical import Json
from registry.errors import InsufficientDataError
from retrain.gates.limits import GateLimits
from retrain.gates.measures import CO_PRIMARY, Measure
from retrain.gates.spending import Uses
from retrain.label_rules import LabelRules, RequestRules

#: Beyond this many patients a plan's claim counts as one that no data can meet.
CEILING = 100_000
#: Up to so many times what a request may ask for the patients are counted by the tests themselves;
#: beyond, which no request could bring, the usual formula says about how many it would take.
_LOOKED_BEYOND = 2
#: Share of patients near the threshold, whose chance a plan may favour.
_NEAR = 1 / 3
#: Quantiles of how many patients with the finding may come, each for a fifth of the cases.
_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the gates ask where one measure was lost, and with which power it is shown."""

    lost: Measure
    #: that the gain in what was lost is shown, and that the other is shown not to be inferior
    superior: float
    kept: float
    both: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelNeeds:
    """How many patients a request asks for, and why."""

    #: with a label that counts, for the gates
    judged: int
    #: of whom to ask for it, since some cannot be read
    gate: int
    selection: int
    training: int
    prevalence: float
    #: where that figure is from
    prevalence_of: str
    #: one for each measure that may have been lost
    claims: tuple[Claim, ...]
    design_effect: float
    #: what the plan says, for sentences
    rules: RequestRules
    limits: GateLimits
    locked_share: float
    alpha: float
    uses: int = field(default=1)

    @property
    def total(self) -> int:
        return self.gate + self.selection + self.training

    @property
    def power(self) -> float:
        return min(claim.both for claim in self.claims)

    def positives(self) -> int:
        """Return how many of the judged patients are expected to have the finding."""
        return round(self.judged * self.prevalence)

    def in_words(self) -> list[str]:
        """Return the arithmetic, sentence by sentence."""
        rules = self.rules
        others = self.judged - self.positives()
        found = [
            f"Judged on {self.judged} patients: about {self.positives()} with and {others} without "
            f"the finding, at a prevalence of {self.prevalence:.1%} ({self.prevalence_of})."
        ]
        for claim in self.claims:
            other = _other(claim.lost)
            found.append(
                f"If {claim.lost.value} fell: a gain of {rules.gain * 100:g} points is shown with "
                f"power {claim.superior:.2f} (McNemar, one-sided alpha {self.alpha:.3g}"
                + (f", the first of {self.uses} uses" if self.uses > 1 else "")
                + f"), and a {other.value} that is no worse than by "
                f"{self.limits.drifted_margins.of(other) * 100:g} points with power "
                f"{claim.kept:.2f} (Tango, alpha {self.limits.non_inferiority_alpha:g}): both "
                f"{claim.both:.2f}, of {rules.power:g} asked for."
            )
        found.append(
            f"Champion and candidate are expected to differ on {rules.discordance:.1%} of patients "
            "besides what is gained; the AUC and subgroups are not reckoned with."
        )
        if self.design_effect > 1:
            found.append(
                f"Patients near the threshold are drawn {rules.favour_near_threshold:g} times as "
                f"often, which costs a design effect of {self.design_effect:.2f}."
            )
        if self.gate > self.judged:
            found.append(
                f"{rules.unreadable:.1%} are expected to be unreadable, so {self.gate} are drawn."
            )
        found.append(
            f"That is the gates' {self.locked_share:.0%} of {self.total} patients: {self.gate} to "
            f"judge by, {self.selection} to choose by and to measure the impact, {self.training} "
            "to train on."
        )
        return found

    def as_record(self) -> dict[str, Json]:
        """Return the arithmetic as JSON, for the request and the ledger."""
        return {
            "judged": self.judged,
            "gate": self.gate,
            "selection": self.selection,
            "training": self.training,
            "positives": self.positives(),
            "negatives": self.judged - self.positives(),
            "prevalence": self.prevalence,
            "prevalence_of": self.prevalence_of,
            "power": self.power,
            "power_asked": self.rules.power,
            "claims": [
                {
                    "lost": claim.lost.value,
                    "superior": claim.superior,
                    "kept": claim.kept,
                    "both": claim.both,
                }
                for claim in self.claims
            ],
            "gain": self.rules.gain,
            "discordance": self.rules.discordance,
            "unreadable": self.rules.unreadable,
            "design_effect": self.design_effect,
            "sentences": [*self.in_words()],
        }


def label_needs(
    labels: LabelRules,
    limits: GateLimits,
    *,
    uses: int,
    prevalence: float,
    prevalence_of: str,
    lost: Sequence[Measure] = CO_PRIMARY,
    at_most: int | None = None,
) -> LabelNeeds:
    """Return how many patients to ask for.

    Parameters
    ----------
    labels : with its `request`
    uses : candidates that a locked set may judge, over which the alpha is shared out
    prevalence : expected share of patients with the finding
    prevalence_of : where that is from
    lost : which measures may have fallen; each is reckoned with, and the costliest decides
    at_most : patients that can be asked for; far more than these are not looked into. None for
        whatever it takes, up to `CEILING` to judge by

    Raises
    ------
    InsufficientDataError
        If no number of patients, or only one far beyond `at_most`, gives the power that is
        asked for.
    """
    rules = labels.request
    if rules is None:
        raise ValueError("the plan requests no labels")
    case = _Case.of(rules, limits, uses=uses)
    readable = 1.0 - rules.unreadable
    can_judge = CEILING
    if at_most is not None:
        can_judge = min(CEILING, max(1, ceil(at_most * labels.locked_share * readable)))
    looked_into = min(CEILING, _LOOKED_BEYOND * can_judge)
    judged = _fewest(case, prevalence, rules.power, tuple(lost), looked_into)
    if judged is None:
        best = min(_both(case, prevalence, measure, can_judge).both for measure in lost)
        by_formula = max(
            _by_formula(case, prevalence, rules.power, measure) for measure in lost
        )
        raise InsufficientDataError(
            what=f"patients to judge by, for a power of {rules.power:g} at a prevalence of "
            f"{prevalence * 100:.3g} %, a gain of {rules.gain * 100:.3g} points, "
            f"{rules.discordance * 100:.3g} % discordant and margins of "
            f"{limits.drifted_margins.sensitivity * 100:g} and "
            f"{limits.drifted_margins.specificity * 100:g} points ({can_judge} would give "
            f"{best:.2f})",
            needed=max(looked_into + 1, by_formula),
            got=can_judge,
        )
    total = max(labels.at_least, judged / labels.locked_share)
    gate = ceil(max(judged, total * labels.locked_share) / readable - 1e-9)
    selection = ceil(total * labels.selection_share / readable - 1e-9)
    all_of_them = ceil(total / readable - 1e-9)
    judged = max(judged, ceil(total * labels.locked_share - 1e-9))
    return LabelNeeds(
        judged=judged,
        gate=gate,
        selection=selection,
        training=max(0, all_of_them - gate - selection),
        prevalence=prevalence,
        prevalence_of=prevalence_of,
        claims=tuple(_both(case, prevalence, measure, judged) for measure in lost),
        design_effect=case.effect,
        rules=rules,
        limits=limits,
        locked_share=labels.locked_share,
        alpha=case.alpha,
        uses=uses,
    )


def power_of(
    labels: LabelRules,
    limits: GateLimits,
    *,
    uses: int,
    positives: int,
    negatives: int,
    lost: Sequence[Measure] = CO_PRIMARY,
) -> float:
    """Return the power of what came: of so many patients with, and without the finding."""
    rules = labels.request
    if rules is None:
        raise ValueError("the plan requests no labels")
    case = _Case.of(rules, limits, uses=uses)
    found = []
    for measure in lost:
        superior, kept = _powers(case, measure, positives, negatives)
        found.append(superior * kept)
    return min(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What a power hangs on besides the patients."""

    gain: float
    discordance: float
    alpha: float
    kept_alpha: float
    #: in sensitivity, in specificity
    margins: tuple[float, float]
    #: fewest patients with, and without the finding
    minima: tuple[int, int]
    effect: float

    @classmethod
    def of(cls, rules: RequestRules, limits: GateLimits, *, uses: int) -> _Case:
        return cls(
            gain=rules.gain,
            discordance=rules.discordance,
            alpha=Uses(before=0, declared=uses).spent(limits.superiority_alpha),
            kept_alpha=limits.non_inferiority_alpha,
            margins=(limits.drifted_margins.sensitivity, limits.drifted_margins.specificity),
            minima=(limits.minimum_positives, limits.minimum_negatives),
            effect=_design_effect(rules.favour_near_threshold),
        )


@lru_cache(maxsize=256)
def _fewest(
    case: _Case, prevalence: float, power: float, lost: tuple[Measure, ...], ceiling: int
) -> int | None:
    """Return the fewest patients that give the power and, in 9 of 10 cases, the least sizes.

    None if so many as `ceiling` do not.
    """

    def enough(patients: int) -> bool:
        positives = int(binom.ppf(0.1, patients, prevalence))
        negatives = int(binom.ppf(0.1, patients, 1 - prevalence))
        sizes = positives / case.effect, negatives / case.effect
        return all(
            size >= least for size, least in zip(sizes, case.minima, strict=True)
        ) and all(_both(case, prevalence, measure, patients).both >= power for measure in lost)

    low, high = 8, 16
    while not enough(high):
        if high >= ceiling:
            return None
        low, high = high, min(2 * high, ceiling)
    while low + 1 < high:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _by_formula(case: _Case, prevalence: float, power: float, lost: Measure) -> int:
    """Return about how many patients the usual formulae ask for; too few, if anything.

    Connor (1987), Biometrics 43:207-211, for the superiority, and its counterpart for the
    non-inferiority; each is given the whole power, though both must hold.
    """
    z_power = float(ndtri(power))
    discordant = min(1.0, case.gain + case.discordance)
    spread = sqrt(max(0.0, discordant - case.gain**2))
    superior = (-float(ndtri(case.alpha)) * sqrt(discordant) + z_power * spread) / case.gain
    margin = case.margins[1 if lost is Measure.SENSITIVITY else 0]
    kept = (z_power - float(ndtri(case.kept_alpha))) * sqrt(case.discordance) / margin
    with_it, without = max(prevalence, 1e-9), max(1.0 - prevalence, 1e-9)
    of_lost, of_other = (
        (with_it, without) if lost is Measure.SENSITIVITY else (without, with_it)
    )
    sizes = superior * superior / of_lost, kept * kept / of_other
    minima = case.minima[0] / with_it, case.minima[1] / without
    # Whatever tiny gain or margin was written: more than all people is as good as more.
    return ceil(min(case.effect * max(*sizes, *minima), 1e10))


def _both(case: _Case, prevalence: float, lost: Measure, patients: int) -> Claim:
    counts = [int(binom.ppf(q, patients, prevalence)) for q in _QUANTILES]
    powers = [_powers(case, lost, count, patients - count) for count in counts]
    return Claim(
        lost=lost,
        superior=float(np.mean([one for one, _ in powers])),
        kept=float(np.mean([other for _, other in powers])),
        both=float(np.mean([one * other for one, other in powers])),
    )


@lru_cache(maxsize=4096)
def _powers(case: _Case, lost: Measure, positives: int, negatives: int) -> tuple[float, float]:
    """Return the power of superiority in what was lost, and of non-inferiority in the other."""
    sizes = [int(positives / case.effect), int(negatives / case.effect)]
    of_lost, of_other = sizes if lost is Measure.SENSITIVITY else reversed(sizes)
    margin = case.margins[1 if lost is Measure.SENSITIVITY else 0]
    superior = superiority_power(
        of_lost,
        difference=case.gain,
        discordant=min(1.0, case.gain + case.discordance),
        alpha=case.alpha,
        weighted=case.effect > 1.0,
    )
    kept = non_inferiority_power(
        of_other, margin=margin, discordant=case.discordance, alpha=case.kept_alpha
    )
    return superior, kept


def _design_effect(favour: float) -> float:
    """Return Kish's design effect of drawing the nearest third so many times as often."""
    drawn = favour * _NEAR + 1 - _NEAR
    return drawn * (_NEAR / favour + 1 - _NEAR)


def _other(measure: Measure) -> Measure:
    return CO_PRIMARY[1 - CO_PRIMARY.index(measure)]
