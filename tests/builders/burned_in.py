"""Real radiographs with text rendered into their pixels."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from api.demo.sample import Sample, load_sample

#: What a workstation writes into a corner: nobody's.
CAPTION = "DOE^JANE 1961-04-07"
WHITE = 4095


@cache
def sample() -> Sample:
    return load_sample()


def adult(index: int, side: int) -> npt.NDArray[np.uint16]:
    """Return an adult's radiograph of the sample at 12 bits, uint16 [side, side]."""
    small = Image.fromarray(sample().adults[index].pixels)
    pixels = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
    return (pixels.astype(np.uint16) * WHITE) // 255


def captioned(
    pixels: npt.NDArray[np.uint16],
    text: str,
    *,
    height: int,
    at: tuple[float, float] = (0.05, 0.05),
    shade: int = WHITE,
) -> npt.NDArray[np.uint16]:
    """Return pixels with a text in Pillow's own font, its top left at shares of width and height."""
    mask = Image.new("L", pixels.shape[::-1])
    place = (at[0] * pixels.shape[1], at[1] * pixels.shape[0])
    ImageDraw.Draw(mask).text(place, text, font=ImageFont.load_default(height), fill=255)
    covered = np.asarray(mask).astype(np.float64) / 255
    mixed = pixels * (1 - covered) + shade * covered
    return np.rint(mixed).astype(np.uint16)
