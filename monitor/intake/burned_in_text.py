"""Text in an image's pixels, found by optical recognition (the extra `ocr`).

What is read is counted and forgotten: it may be a patient's name. Only the process that decodes
(`monitor.intake.decoding_worker`) loads the engine, under its limits of memory and time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from math import ceil
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from pydicom.dataset import Dataset

from monitor.imaging.frames import frame_count
from monitor.imaging.images import Image
from monitor.imaging.pixels import decode
from registry.errors import SetupError

Pixels = npt.NDArray[np.uint8]

#: Text is looked for in squares of so many pixels, so that no image takes more than another.
TILE = 736
#: Two squares a side at most, which overlap by so much: text on a cut is whole in one.
_OVERLAP = 64
_TILES_A_SIDE = 2
_LONGEST_SIDE = _TILES_A_SIDE * TILE - (_TILES_A_SIDE - 1) * _OVERLAP
#: A longer side up to this is fitted into one square; a shorter one is enlarged, up to so much.
_FITS_ONE_TILE = 920
_ENLARGED = 4.0
#: Of many frames the first, the last and some between: what is burned in stays.
MOST_FRAMES = 4
#: Where the middle of the gray values takes less than this share of their range, text of their
#: own shade is seen only once it is stretched: then both are looked at.
_NARROW = 0.5
_MIDDLE = (1.0, 99.0)
#: Text of which the engine is less sure is none.
LEAST_SCORE = 0.6
#: So many letters and digits beyond markers make a text: initials pass, a date does not.
LEAST_CHARACTERS = 4
#: What technologists put beside the patient: sides, views, how the patient was placed.
# fmt: off
MARKERS = frozenset((
    "L", "R", "LT", "RT", "LEFT", "RIGHT", "AP", "PA", "LAT", "LATERAL", "OBL", "DECUB", "ERECT",
    "UPRIGHT", "SITTING", "STANDING", "SUPINE", "PRONE", "SEMI", "PORTABLE", "PORT", "MOBILE",
    "INSP", "EXP", "INSPIRATION", "EXPIRATION", "CHEST", "THORAX", "TOP", "BOTTOM",
))
# fmt: on
_WORD = re.compile(r"\w+")


class Reader(Protocol):
    """Reads what stands in one square."""

    def __call__(self, tile: Pixels) -> Iterable[tuple[str, float]]:
        """Return texts in uint8 [TILE, TILE], each with how sure it is, 0 to 1."""
        ...


def require_engine() -> None:
    """Refuse a setting that cannot be met.

    Raises
    ------
    SetupError
        If the extra is not installed.
    """
    if find_spec("rapidocr") is None:
        raise SetupError(
            "DRIFTWARD_TEXT_RECOGNITION is set, and what recognises text is not installed: "
            "install the extra, `pip install 'driftward[ocr]'`, or unset it"
        )


def load_reader() -> Reader:
    """Return a reader on one thread, with the weights that its distribution brings.

    Raises
    ------
    Exception
        Whatever the engine raises where it cannot be loaded.
    """
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.text_score": LEAST_SCORE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )

    def read(tile: Pixels) -> Iterable[tuple[str, float]]:
        found = engine(np.repeat(tile[..., None], 3, axis=2))
        return zip(found.txts or (), found.scores or (), strict=True)

    return read


def holds_text(ds: Dataset, read: Reader) -> bool:
    """Return whether an instance has text burned in, beyond markers.

    Raises
    ------
    UnreadableScanError
        If it cannot be decoded.
    Exception
        Whatever the reader raises.
    """
    return any(
        counted(text for tile in tiles_of(shown) for text in _sure(read(tile)))
        >= LEAST_CHARACTERS
        for frame in looked_at(frame_count(ds))
        for shown in shades_of(decode(ds, frame=frame))
    )


def looks(rows: int, columns: int, frames: int) -> int:
    """Return how many squares are looked at, at most."""
    side = 1 if max(rows, columns) <= _FITS_ONE_TILE else _TILES_A_SIDE
    return 2 * side**2 * min(frames, MOST_FRAMES)


def looked_at(frames: int) -> tuple[int, ...]:
    """Return which of some frames are looked at, the first and the last among them.

    >>> looked_at(1), looked_at(100)
    ((0,), (0, 33, 66, 99))
    """
    return tuple(
        sorted({int(at) for at in np.linspace(0, frames - 1, min(frames, MOST_FRAMES))})
    )


def counted(texts: Iterable[str]) -> int:
    """Return how many letters and digits texts have beyond markers.

    >>> counted(["R", "AP SUPINE"]), counted(["L", "04/07"])
    (0, 4)
    """
    words = (word for text in texts for word in _WORD.findall(text.upper()))
    return sum(len(word) for word in words if word not in MARKERS)


def shades_of(image: Image) -> Iterator[Pixels]:
    """Yield an image as gray levels, by its full range and, where that hides some, its middle's."""
    lowest, highest = image.extremes()
    low, high = image.percentiles(*_MIDDLE)
    yield _shaded(image, lowest, highest)
    if high > low and high - low < _NARROW * (highest - lowest):
        yield _shaded(image, low, high)


def tiles_of(shown: Pixels) -> Iterator[Pixels]:
    """Yield squares of TILE x TILE that cover an image, scaled to fit and filled up with black."""
    longest = max(shown.shape)
    scale = min(TILE / longest, _ENLARGED)
    if longest > _FITS_ONE_TILE:
        scale = min(1.0, _LONGEST_SIDE / longest)
    rows, columns = (max(1, round(side * scale)) for side in shown.shape)
    if (rows, columns) != shown.shape:
        small = PillowImage.fromarray(shown)
        shown = np.asarray(small.resize((columns, rows), PillowImage.Resampling.BICUBIC))
    for top in _starts(rows):
        for left in _starts(columns):
            part = shown[top : top + TILE, left : left + TILE]
            if part.min() == part.max():
                continue
            tile = np.zeros((TILE, TILE), dtype=np.uint8)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def _starts(side: int) -> list[int]:
    """Return where squares begin along a side.

    >>> _starts(500), _starts(900), _starts(1408)
    ([0], [0, 164], [0, 672])
    """
    count = max(1, ceil((side - _OVERLAP) / (TILE - _OVERLAP)))
    return [int(at) for at in np.linspace(0, max(0, side - TILE), count)]


def _sure(found: Iterable[tuple[str, float]]) -> list[str]:
    return [text for text, score in found if score >= LEAST_SCORE]


def _shaded(image: Image, low: float, high: float) -> Pixels:
    values = image.values if not image.is_color else image.values.mean(axis=2)
    width = max(high - low, 1e-12)
    shown: Pixels = np.clip((values - low) * (255 / width), 0, 255).astype(np.uint8)
    return shown
