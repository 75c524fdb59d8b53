"""What gates hold a candidate to. A change plan fills it in: no margin has a default."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from registry.canonical import Json, to_json
from registry.errors import BadInputError
from retrain.gates.measures import Measure


class LimitError(BadInputError, ValueError):
    """A limit is none; as a ValueError, whoever reads it from a file can say where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse a candidate may be and still count as not inferior, as fractions."""

    sensitivity: float
    specificity: float
    auc: float

    def __post_init__(self) -> None:
        for field in fields(self):
            _between(getattr(self, field.name), f"the margin in {field.name}", 0.0, 0.5)

    def of(self, measure: Measure) -> float:
        match measure:
            case Measure.SENSITIVITY:
                return self.sensitivity
            case Measure.SPECIFICITY:
                return self.specificity
            case Measure.AUC:
                return self.auc


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """Scans whose attribute has a value, declared before any result was seen."""

    attribute: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupLimits:
    """What holds within each declared subgroup."""

    declared: tuple[Subgroup, ...]
    sensitivity_margin: float
    specificity_margin: float
    #: fewest patients with scans of a class (with, or without the finding)
    minimum: int
    #: one-sided chance, over all subgroups together, of refusing a candidate without cause
    harm_alpha: float

    def __post_init__(self) -> None:
        _between(self.sensitivity_margin, "a subgroup's margin in sensitivity", 0.0, 0.5)
        _between(self.specificity_margin, "a subgroup's margin in specificity", 0.0, 0.5)
        _between(self.harm_alpha, "the alpha of harm in subgroups", 0.0, 0.5)
        _positive(self.minimum, "the fewest patients of a class in a subgroup")
        if len(set(self.declared)) != len(self.declared):
            raise LimitError("a subgroup is declared twice: declare each once")

    def margin(self, measure: Measure) -> float:
        return (
            self.sensitivity_margin
            if measure is Measure.SENSITIVITY
            else self.specificity_margin
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A closed range that an interval must lie in."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise LimitError(f"a range needs low < high, got {self.low} and {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationLimits:
    """How well calibrated a candidate must be shown to be."""

    #: log-odds; perfect is 0
    intercept: Range
    #: perfect is 1
    slope: Range
    #: largest expected calibration error
    error: float
    bins: int
    #: one-sided, for each bound
    alpha: float
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        if not self.intercept.low < 0.0 < self.intercept.high:
            raise LimitError("the range of the calibration intercept must hold 0")
        if not self.slope.low < 1.0 < self.slope.high:
            raise LimitError("the range of the calibration slope must hold 1")
        _between(self.error, "the largest calibration error", 0.0, 1.0)
        _between(self.alpha, "the alpha of calibration", 0.0, 0.5)
        _positive(self.bins, "the bins of the calibration error")
        if self.resamples < 2 / self.alpha:
            raise LimitError(
                f"{self.resamples} resamples cannot give a quantile of {self.alpha}: "
                f"take {round(20 / self.alpha)} or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessLimits:
    """How much a candidate may lose under small changes of the acquisition, as fractions."""

    sensitivity_margin: float
    specificity_margin: float

    def __post_init__(self) -> None:
        _between(self.sensitivity_margin, "robustness' margin in sensitivity", 0.0, 0.5)
        _between(self.specificity_margin, "robustness' margin in specificity", 0.0, 0.5)

    def margin(self, measure: Measure) -> float:
        return (
            self.sensitivity_margin
            if measure is Measure.SENSITIVITY
            else self.specificity_margin
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """Every margin and error rate of the gates."""

    #: one-sided, of each superiority test
    superiority_alpha: float
    #: one-sided, of each non-inferiority test
    non_inferiority_alpha: float
    #: on the drifted locked set, for what the drift did not harm
    drifted_margins: Margins
    #: on the reference locked set
    reference_margins: Margins
    #: fewest patients with scans with, and without the finding, in a locked set
    minimum_positives: int
    minimum_negatives: int
    subgroups: SubgroupLimits
    calibration: CalibrationLimits
    #: largest absolute difference between ONNX and torch
    parity_tolerance: float
    #: None in a plan without the gate `robustness`
    robustness: RobustnessLimits | None = None
    #: how many times as long as the champion a candidate may take for a scan, and its largest
    #: bundle in millions of bytes; None in a plan without the gate `latency_and_size`
    latency_ratio: float | None = None
    bundle_megabytes: float | None = None

    def __post_init__(self) -> None:
        _between(self.superiority_alpha, "the alpha of superiority", 0.0, 0.5)
        _between(self.non_inferiority_alpha, "the alpha of non-inferiority", 0.0, 0.5)
        _between(self.parity_tolerance, "the tolerance of parity", 0.0, 1.0)
        if self.latency_ratio is not None:
            _between(self.latency_ratio, "the ratio of latencies", 0.0, 1000.0)
        if self.bundle_megabytes is not None:
            _between(self.bundle_megabytes, "the largest bundle in MB", 0.0, 1e6)
        # Two of a class are the least for which a variance exists.
        _positive(self.minimum_positives, "the fewest patients with the finding", least=2)
        _positive(self.minimum_negatives, "the fewest patients without the finding", least=2)

    def as_record(self) -> Json:
        """Return the limits as JSON, for the ledger."""
        return to_json(asdict(self))


def no_limit(key: str) -> BadInputError:
    """Return the error of a gate that the limits say nothing of."""
    return BadInputError(
        f"gates.limits holds no {key}, which a required gate is held to: add it"
    )


def _between(value: float, what: str, low: float, high: float) -> None:
    if not low < value < high:
        raise LimitError(
            f"{what} is {value}: it must lie between {low:g} and {high:g}, both excluded"
        )


def _positive(value: int, what: str, *, least: int = 1) -> None:
    if value < least:
        raise LimitError(f"{what} is {value}: it must be at least {least}")
