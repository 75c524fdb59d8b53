"""What a check of one window says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from monitor.statistics.effect import Shift


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One detector's word on a window."""

    #: by its own null; never below 1 / (1 + draws)
    p_value: float
    #: squared shift of the mean feature, over its scale without a shift
    statistic: float
    #: the shift: for whitened means in standard deviations, for an MMD the MMD, for
    #: log-Mahalanobis in standard deviations of the rank; 0 if the estimate is not positive
    effect: float

    def __post_init__(self) -> None:
        if not 0 < self.p_value <= 1:
            raise ValueError(f"a p-value lies in (0, 1], got {self.p_value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The portfolio's output for one window."""

    #: of the whole portfolio, calibrated jointly: (1 + b) / (1 + B)
    p_value: float
    #: of a shift beyond what ordinary weeks differ by; None if the reference knows no weeks
    week_p_value: float | None
    #: by name
    detectors: Mapping[str, Detection]
    #: name of the detector with the smallest p-value, before it is cut off at the draws
    leading: str
    #: distance of the means over the leading principal directions, in standard deviations
    #: of the reference
    effect: Shift
    #: the distance that 19 of 20 ordinary weeks stay below; None without weeks
    ordinary_effect: float | None
    #: the smallest such distance that this window shows with at least 80 % power
    #: at level `alpha`
    smallest_effect: float
    #: the level that `smallest_effect` is meant for
    alpha: float
    #: that were compared
    scans: int
    #: that were compared
    patients: int
    #: the window was larger than calibration is shown for, and only a part was compared
    subsampled: bool
    #: of the profile
    seed: int

    def __post_init__(self) -> None:
        for p_value in (self.p_value, self.alarm_p_value):
            if not 0 < p_value <= 1:
                raise ValueError(f"a p-value lies in (0, 1], got {p_value}")
        if self.leading not in self.detectors:
            raise ValueError(
                f"the leading detector {self.leading!r} is not among the verdict's"
            )
        object.__setattr__(self, "detectors", MappingProxyType(dict(self.detectors)))

    @property
    def alarm_p_value(self) -> float:
        """What an alarm rests on: beyond ordinary weeks where they are known."""
        return self.p_value if self.week_p_value is None else self.week_p_value
