"""A decoded image: its values, and what is needed to show them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from monitor.imaging.gray_levels import GrayLevels, Mask
from monitor.imaging.voi import Floats, Voi

#: left, top, right, bottom
Box: TypeAlias = tuple[float, float, float, float]


class Image:
    """One decoded image.

    Parameters
    ----------
    values : gray: float32 [h, w] after the modality LUT, in its units (HU for
        CT), or the levels that they follow from; color: float32 [h, w, 3],
        RGB in [0, 1]
    inverted : MONOCHROME1: the lowest value is white
    voi : the first window or table that the instance carries
    padding : [h, w], true where there is no image
    skipped_levels : wavelet levels that were left out
    full_shape : (rows, columns) with them

    Raises
    ------
    ValueError
        If the parts contradict each other.
    """

    __slots__ = (
        "_levels",
        "_values",
        "full_shape",
        "inverted",
        "padding",
        "shape",
        "skipped_levels",
        "voi",
    )

    def __init__(
        self,
        *,
        values: Floats | GrayLevels,
        inverted: bool = False,
        voi: Voi | None = None,
        padding: Mask | None = None,
        skipped_levels: int = 0,
        full_shape: tuple[int, int] | None = None,
    ) -> None:
        self._levels: GrayLevels | None = None
        self._values: Floats | None = None
        shape: tuple[int, ...]
        if isinstance(values, GrayLevels):
            self._levels = values
            shape = values.samples.shape
        else:
            self._values = values
            shape = values.shape
            if values.dtype != np.float32 or not (
                values.ndim == 2 or (values.ndim == 3 and shape[2] == 3)
            ):
                raise ValueError(
                    f"an image is float32 [h, w] or [h, w, 3], not {list(values.shape)}"
                )
        if padding is not None and padding.shape != shape[:2]:
            raise ValueError("padding must have the image's height and width")
        if (skipped_levels > 0) != (full_shape is not None):
            raise ValueError("a reduced image must say what it was reduced from")
        #: (height, width) of the values
        self.shape: tuple[int, int] = (shape[0], shape[1])
        self.inverted = inverted
        self.voi = voi
        self.padding = padding
        self.skipped_levels = skipped_levels
        self.full_shape = full_shape

    @property
    def values(self) -> Floats:
        """Float32 [h, w], or [h, w, 3] in color."""
        if self._values is None:
            assert self._levels is not None  # noqa: S101 - the one or the other is there
            self._values = self._levels.values()
        return self._values

    @property
    def is_color(self) -> bool:
        return self._values is not None and self._values.ndim == 3

    @property
    def box(self) -> Box:
        """The whole image's edges, in the pixels of `values`.

        A wavelet level keeps every second pixel where it is: the first of a
        reduced image lies at the first of the full one, not amid the many
        that it stands for.
        """
        rows, columns = self.full_shape or self.shape
        step = 2**self.skipped_levels
        first = 0.5 - 0.5 / step
        return first, first, first + columns / step, first + rows / step

    def rows(self, rows: slice) -> Floats:
        """Return the values of some rows; of a large image they take little memory."""
        if self._values is not None or self._levels is None:
            return self.values[rows]
        return self._levels.values(rows)

    def extremes(self) -> tuple[float, float]:
        """Return the lowest and the highest value outside of padding."""
        if self._levels is not None:
            return self._levels.extremes(self.padding)
        seen = self._seen()
        return float(seen.min()), float(seen.max())

    def percentiles(self, low: float, high: float) -> tuple[float, float]:
        """Return two percentiles of the values outside of padding, of all channels together."""
        if self._levels is not None:
            return self._levels.percentiles(low, high, self.padding)
        lowest, highest = np.percentile(self._seen(), (low, high))
        return float(lowest), float(highest)

    def _seen(self) -> Floats:
        return self.values if self.padding is None else self.values[~self.padding]
