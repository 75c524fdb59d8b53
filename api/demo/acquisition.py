"""The demo's scanner: what its software makes of an image, before and after its update.

An update of a radiography system's image processing, as vendors ship them:
less noise suppression, more edge enhancement, and a steeper tone curve
(Prokop et al. 2003, J Thorac Imaging 18:148-164, describes these steps). It
is a simulation, and works on images that were processed once already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Floats: TypeAlias = npt.NDArray[np.float32]

# Radiation behind the darkest parts (lung, air) over that behind the whitest
# (mediastinum): about ten times, so that noise is weaker there by its root.
EXPOSURE_RATIO = 10.0
# Scintillator and sampling spread each quantum over more than a pixel.
NOISE_SPREAD_PIXELS = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """One version of a scanner's image processing."""

    version: str  #: Software Versions (0018,1020)
    #: Standard deviation of what noise remains where the image is white; 1 is the full range.
    noise: float = 0.0
    edge_amount: float = 0.0  #: how often the detail is added once more
    edge_radius: float = 1.5  #: standard deviation in pixels below which something is detail
    #: Slope of the sigmoid tone curve, which is steepest at mid-gray; 0 is a straight line.
    contrast: float = 0.0
    #: Standard deviation in pixels by which its screen spreads the image; 0 keeps it sharp.
    spread: float = 0.0
    #: What black and white are shown as.
    black: float = 0.0
    white: float = 1.0

    def __post_init__(self) -> None:
        if not self.version:
            raise ValueError("a processing needs a version")
        numbers = (self.noise, self.edge_amount, self.contrast, self.spread, self.black)
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError("noise, edge_amount, contrast, spread and black must be 0 or more")
        if not self.black < self.white <= 1:
            raise ValueError(
                f"black must be darker than white, got {self.black:g} and {self.white:g}"
            )
        if not self.edge_radius > 0:
            raise ValueError(f"edge_radius must be above 0, got {self.edge_radius:g}")

    def render(self, image: Floats, *, seed: int) -> Floats:
        """Return the image as this version sends it.

        Parameters
        ----------
        image : float32 [h, w] in [0, 1], dense tissue white
        seed : the scan's own, of its noise

        Returns
        -------
        float32 [h, w] in [0, 1]
        """
        shown = image.astype(np.float64)
        if self.noise:
            shown += self.noise * _noise(shown, seed)
        if self.edge_amount:
            shown += self.edge_amount * (shown - gaussian_filter(shown, self.edge_radius))
        shown = np.clip(shown, 0, 1)
        if self.contrast:
            shown = _toned(shown, self.contrast)
        if self.spread:
            shown = gaussian_filter(shown, self.spread)
        shown = self.black + (self.white - self.black) * shown
        rendered: Floats = shown.astype(np.float32)
        return rendered


#: Before the update: what the source holds.
OLD_SOFTWARE = Processing(version="1.4.2")
#: After the update. Its strength was chosen by eye, and by what it does to a
#: model of which only the last layers were trained; docs/sample-data.md has the figures.
NEW_SOFTWARE = Processing(
    version="2.0.0", noise=0.03, edge_amount=1.0, edge_radius=1.5, contrast=6.0
)
#: At the other site, before and after: a storage-phosphor system, soft and low in contrast.
SECOND_SOFTWARE = Processing(version="CR 4.1", spread=1.5, black=0.35, white=0.65)


def _noise(shown: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Return quantum noise of deviation 1 where the image is white.

    On the logarithmic scale of a radiograph its deviation is one over the root
    of the number of quanta, and that falls exponentially from dark to white.
    """
    white = np.random.default_rng(seed).standard_normal(shown.shape)
    spread = gaussian_filter(white, NOISE_SPREAD_PIXELS)
    noise: npt.NDArray[np.float64] = spread / spread.std() * EXPOSURE_RATIO ** ((shown - 1) / 2)
    return noise


def _toned(shown: npt.NDArray[np.float64], contrast: float) -> npt.NDArray[np.float64]:
    """Return values under a sigmoid that keeps 0, 0.5 and 1."""
    bent = np.tanh(contrast * (shown - 0.5) / 2) / math.tanh(contrast / 4)
    toned: npt.NDArray[np.float64] = np.clip((1 + bent) / 2, 0, 1)
    return toned
