"""Values of interest: the window or table that an image carries, onto [0, 1] (PS3.3 C.11.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]

#: Values and windows beyond it are none: in single precision, what they show is no number.
FARTHEST = 1e30
_NARROWEST = 1e-30
# A slope that single precision does not hold is that of a step.
_STEEPEST = 1 / float(np.finfo(np.float32).max)


class VoiFunction(StrEnum):
    """How a window maps values (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""

    LINEAR = "LINEAR"
    LINEAR_EXACT = "LINEAR_EXACT"
    SIGMOID = "SIGMOID"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiWindow:
    """A window by center and width, in modality units.

    Raises
    ------
    ValueError
        If the width is one that the standard excludes, or either is not finite or beyond what
        single precision can carry out.
    """

    center: float
    width: float
    function: VoiFunction = VoiFunction.LINEAR

    def __post_init__(self) -> None:
        if not (math.isfinite(self.center) and math.isfinite(self.width)):
            raise ValueError("window center and width must be finite")
        narrowest_ok = (
            self.width >= 1 if self.function is VoiFunction.LINEAR else self.width > 0
        )
        if not narrowest_ok:
            raise ValueError(f"window width {self.width:g} is too small for {self.function}")
        if self.width < _NARROWEST or max(self.width, abs(self.center)) > FARTHEST:
            raise ValueError(
                f"a window of center {self.center:g} and width {self.width:g} shows nothing"
            )

    def apply(self, values: Floats) -> Floats:
        """Return values in [0, 1], of the same shape."""
        match self.function:
            case VoiFunction.SIGMOID:
                with np.errstate(over="ignore"):  # infinitely far is far enough
                    exponent = -4 * (values - np.float32(self.center)) / np.float32(self.width)
                # exp(88) is the last that float32 holds; beyond it the result is 0 anyway.
                sigmoid: Floats = 1 / (1 + np.exp(np.minimum(exponent, np.float32(88))))
                return sigmoid
            case VoiFunction.LINEAR:
                low = self.center - 0.5 - (self.width - 1) / 2
                return ramp(values, low, low + self.width - 1)
            case VoiFunction.LINEAR_EXACT:
                low = self.center - self.width / 2
                return ramp(values, low, low + self.width)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VoiTable:
    """A look-up table: values before and after it take its first and last entry.

    Raises
    ------
    ValueError
        If the table is empty, or its entries need more than 16 bits.
    """

    first: int  #: the value that the first entry is for
    bits: int  #: bits of an entry
    entries: npt.NDArray[np.uint16]  #: [n]

    def __post_init__(self) -> None:
        if self.entries.size == 0 or not 8 <= self.bits <= 16:
            raise ValueError(
                f"a look-up table of {self.entries.size} entries with {self.bits} bits is none"
            )

    def look_up(self, values: Floats) -> Floats:
        """Return the entries for values, float32 of the same shape."""
        index = np.clip(np.rint(values) - self.first, 0, self.entries.size - 1)
        looked_up: Floats = self.entries.astype(np.float32)[index.astype(np.intp)]
        return looked_up

    def apply(self, values: Floats) -> Floats:
        """Return values in [0, 1], of the same shape."""
        shown: Floats = self.look_up(values) / np.float32(2**self.bits - 1)
        return np.minimum(shown, 1, out=shown)


Voi: TypeAlias = VoiWindow | VoiTable


def ramp(values: Floats, low: float, high: float) -> Floats:
    """Return 0 up to `low`, 1 from `high` on and a line between; a step where they are equal."""
    if high - low <= _STEEPEST:
        return (values > np.float32(low)).astype(np.float32)
    # Subtracting first keeps the precision of values far from zero. What lies farther beyond a
    # narrow window than a number can say is black or white.
    with np.errstate(over="ignore"):
        scaled = (values - np.float32(low)) * np.float32(1 / (high - low))
    return np.clip(scaled, 0, 1, out=scaled)
