"""What the pixels of a scan look like, in a few numbers that know no anatomy.

A change in how images are made or passed on moves noise, sharpness, gray values or borders;
another mix of patients moves them far less. Few changes move everything: what covers the
borders leaves the middle of the image as it was, and no tone curve changes which part of it
is brighter than another. The numbers are compared with a reference's, never read by
themselves: most depend on the size of the image.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from registry.errors import BadInputError

Floats: TypeAlias = npt.NDArray[np.float64]

# Scans looked at together: so many small ones stay in a core's cache.
_CHUNK = 16
_LEAST_SIDE = 16
_BLACK, _WHITE = 0.01, 0.99
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# JPEG codes blocks of this many pixels.
_BLOCK = 8
# Gray values are told apart as 12-bit detectors do.
_LEVELS = 4096
_FRAME = 0.05
# Parts along an edge that are held against each other, and in which noise is looked for.
_PARTS, _FINER_PARTS = 4, 8
# Of the finer parts, the share in which noise is least.
_QUIET = 0.1
# The narrowest range that gray values are placed in.
_LEAST_RANGE = 1e-3
_LEAST = 1e-9


class Aspect(StrEnum):
    """What a measure is a measure of."""

    TEXTURE = "texture"
    GRAY_VALUES = "gray values"
    LAYOUT = "layout"
    TEXTURE_OF_THE_MIDDLE = "texture of the middle"
    GRAY_VALUES_OF_THE_MIDDLE = "gray values of the middle"


#: mean rank of the gray values of each part of the image, by row and column
_PARTS_NAMED = tuple(
    f"part {row}.{column}" for row in range(1, _PARTS + 1) for column in range(1, _PARTS + 1)
)
_TEXTURE_OF_A_PART = ("noise", "sharpness", "fine detail", "middle detail")
_GRAY_VALUES_OF_A_PART = (
    "5 % gray value",
    "25 % gray value",
    "median gray value",
    "75 % gray value",
    "95 % gray value",
    "contrast",
)
#: each measure with its aspect, in the order in which `pixel_measures` returns them
MEASURES: dict[str, Aspect] = {
    "noise": Aspect.TEXTURE,
    "sharpness": Aspect.TEXTURE,
    "fine detail": Aspect.TEXTURE,
    "middle detail": Aspect.TEXTURE,
    "blockiness": Aspect.TEXTURE,
    "stripes": Aspect.TEXTURE,
    "gray levels": Aspect.TEXTURE,
    "least noise": Aspect.TEXTURE,
    "noise of bright parts": Aspect.TEXTURE,
    "direction": Aspect.TEXTURE,
    "black share": Aspect.GRAY_VALUES,
    "white share": Aspect.GRAY_VALUES,
    "5 % gray value": Aspect.GRAY_VALUES,
    "25 % gray value": Aspect.GRAY_VALUES,
    "median gray value": Aspect.GRAY_VALUES,
    "75 % gray value": Aspect.GRAY_VALUES,
    "95 % gray value": Aspect.GRAY_VALUES,
    "contrast": Aspect.GRAY_VALUES,
    "place of the median": Aspect.GRAY_VALUES,
    "range of the middle half": Aspect.GRAY_VALUES,
    "border": Aspect.LAYOUT,
    "left against right": Aspect.LAYOUT,
    "top against bottom": Aspect.LAYOUT,
    **dict.fromkeys(_PARTS_NAMED, Aspect.LAYOUT),
    **{f"{name}, middle": Aspect.TEXTURE_OF_THE_MIDDLE for name in _TEXTURE_OF_A_PART},
    **{f"{name}, middle": Aspect.GRAY_VALUES_OF_THE_MIDDLE for name in _GRAY_VALUES_OF_A_PART},
}


def pixel_measures(images: npt.NDArray[np.floating]) -> Floats:
    """Return the measures of `MEASURES` for each image, [n, 49].

    Noise is Immerkær's (1996, *Computer Vision and Image Understanding* 64:300-302):
    the mean of what a difference of two Laplacians leaves, which an image that is smooth
    or has straight edges does not pass. Sharpness is the energy of differences between
    neighbors over the variance; fine and middle detail are the shares of the variance at
    more than half, and at an eighth to a half, of the highest frequency; blockiness
    compares differences across the borders of 8 x 8 blocks with those inside; direction
    compares differences down with those across. These and contrast are logarithms. Parts are
    the sixteenths of the image; theirs is the mean rank of their pixels among the image's,
    0 to 1. The middle is what lies at least a quarter of either side away from the border.

    Parameters
    ----------
    images : floating, shape [n, h, w], as they are shown: 0 black, 1 white

    Raises
    ------
    BadInputError
        If the array has another shape, is smaller than 16 x 16, or holds values that are
        not finite or lie outside [0, 1].
    """
    array = np.asarray(images)
    if array.ndim != 3 or not np.issubdtype(array.dtype, np.floating):
        raise BadInputError(
            "images must be floating numbers of shape [scans, height, width], "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    if min(array.shape[1:]) < _LEAST_SIDE:
        raise BadInputError(
            f"images of {array.shape[1]} x {array.shape[2]} pixels are too small to measure: "
            f"pass them with at least {_LEAST_SIDE} x {_LEAST_SIDE}, as they arrived"
        )
    if array.size and not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise BadInputError(
            "images must lie in [0, 1], black to white: apply the window that they are shown with"
        )
    if not len(array):
        return np.empty((0, len(MEASURES)))
    return np.concatenate(
        [
            _measured(array[i : i + _CHUNK].astype(np.float64))
            for i in range(0, len(array), _CHUNK)
        ]
    )


def _measured(images: Floats) -> Floats:
    _, height, width = images.shape
    down, across = np.diff(images, axis=1), np.diff(images, axis=2)
    ordered = np.sort(images.reshape(len(images), -1), axis=1)
    middle = images[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
    second = _second_differences(images)
    noise_by_part = np.log(_by_part(np.abs(second), _FINER_PARTS) + _LEAST)
    whole = _of_texture(images, second) | _of_gray_values(ordered)
    low, first, median, third, high = (
        whole[name] for name in _GRAY_VALUES_OF_A_PART if name != "contrast"
    )
    gray_range = high - low + _LEAST_RANGE
    columns = {
        **whole,
        "blockiness": _blockiness(np.abs(down), axis=1) + _blockiness(np.abs(across), axis=2),
        "stripes": _stripes(images),
        "gray levels": _gray_levels(ordered),
        "least noise": np.quantile(noise_by_part, _QUIET, axis=1),
        "noise of bright parts": _bright_less_dark(noise_by_part, images),
        "direction": _log_ratio(
            np.square(down).mean(axis=(1, 2)), np.square(across).mean(axis=(1, 2))
        ),
        "black share": (images <= _BLACK).mean(axis=(1, 2)),
        "white share": (images >= _WHITE).mean(axis=(1, 2)),
        "place of the median": (median - low) / gray_range,
        "range of the middle half": (third - first) / gray_range,
        "border": _border(images),
        "left against right": _halves(images, axis=2),
        "top against bottom": _halves(images, axis=1),
        **dict(zip(_PARTS_NAMED, _by_part(_ranks(images), _PARTS).T, strict=True)),
    }
    inner = _of_texture(middle, _second_differences(middle)) | _of_gray_values(
        np.sort(middle.reshape(len(middle), -1), axis=1)
    )
    columns |= {f"{name}, middle": own for name, own in inner.items()}
    return np.stack([columns[name] for name in MEASURES], axis=1)


def _of_texture(images: Floats, second: Floats) -> dict[str, Floats]:
    """Return the measures of `_TEXTURE_OF_A_PART`, [n] each, by their second differences, too."""
    variance = images.var(axis=(1, 2)) + _LEAST
    energy = sum(np.square(np.diff(images, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    fine, middle = _detail(images)
    return {
        "noise": np.log(_noise(second) + _LEAST),
        "sharpness": np.log(energy / variance + _LEAST),
        "fine detail": np.log(fine / variance + _LEAST),
        "middle detail": np.log(middle / variance + _LEAST),
    }


def _of_gray_values(ordered: Floats) -> dict[str, Floats]:
    """Return the measures of `_GRAY_VALUES_OF_A_PART` of rising pixels [n, p], [n] each."""
    variance = ordered.var(axis=1) + _LEAST
    return dict(
        zip(
            _GRAY_VALUES_OF_A_PART,
            [*_quantiles(ordered), 0.5 * np.log(variance)],
            strict=True,
        )
    )


def _second_differences(images: Floats) -> Floats:
    """Return [n, h - 2, w - 2] what the mask [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] gives.

    It is a second difference along each axis.
    """
    return np.asarray(np.diff(np.diff(images, n=2, axis=1), n=2, axis=2))


def _noise(second: Floats) -> Floats:
    """Return the deviation of noise of which the second differences are known, [n]."""
    noise: Floats = np.sqrt(np.pi / 2) / 6.0 * np.abs(second).mean(axis=(1, 2))
    return noise


def _detail(images: Floats) -> tuple[Floats, Floats]:
    """Return the variance of fine and of middle detail, [n]."""
    _, height, width = images.shape
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    # A taper, so that opposite edges that differ are not taken for detail.
    taper = np.outer(np.hanning(height), np.hanning(width))
    taper /= np.sqrt(np.square(taper).mean())
    power = np.square(np.abs(np.fft.rfft2(centred * taper))) / (height * width) ** 2
    down, across = np.abs(np.fft.fftfreq(height)) * 2, np.fft.rfftfreq(width) * 2
    # Half of the waves stand for both directions; those without one, and the fastest, do not.
    twice = np.full(len(across), 2.0)
    twice[across % 1 == 0] = 1.0
    radius = np.hypot(down[:, None], across)
    fine, middle = (
        power.reshape(len(power), -1) @ (inside * twice).ravel()
        for inside in (radius > 0.5, (radius > 0.125) & (radius <= 0.5))
    )
    return fine, middle


def _stripes(images: Floats) -> Floats:
    """Return how far a stripe along either axis stands out, [n]."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    return np.maximum(_peak(centred.mean(axis=2)), _peak(centred.mean(axis=1)))


def _peak(profile: Floats) -> Floats:
    """Return the log of the largest over the median amplitude of fast waves, [n]."""
    size = profile.shape[1]
    amplitudes = np.abs(np.fft.rfft(profile * np.hanning(size), axis=1))
    fast = amplitudes[:, np.fft.rfftfreq(size) * 2 > 0.25]
    peak: Floats = np.log((fast.max(axis=1) + _LEAST) / (np.median(fast, axis=1) + _LEAST))
    return peak


def _blockiness(differences: Floats, *, axis: int) -> Floats:
    """Return the log ratio of differences across and inside blocks, along an axis, [n]."""
    lines = differences.mean(axis=3 - axis)
    borders = np.arange(lines.shape[1]) % _BLOCK == _BLOCK - 1
    return _log_ratio(lines[:, borders].mean(axis=1), lines[:, ~borders].mean(axis=1))


def _log_ratio(one: Floats, other: Floats) -> Floats:
    ratio: Floats = np.log((one + _LEAST) / (other + _LEAST))
    return ratio


def _by_part(images: Floats, parts: int) -> Floats:
    """Return the means of parts x parts rectangles of each image, row by row, [n, parts^2]."""
    down, across = (
        np.linspace(0, side, parts + 1).round().astype(np.int64) for side in images.shape[1:]
    )
    sums = np.add.reduceat(np.add.reduceat(images, down[:-1], axis=1), across[:-1], axis=2)
    means: Floats = sums / np.outer(np.diff(down), np.diff(across))
    return means.reshape(len(images), -1)


def _bright_less_dark(by_part: Floats, images: Floats) -> Floats:
    """Return the mean over the brightest third of the finer parts less the darkest's, [n]."""
    order = np.argsort(_by_part(images, _FINER_PARTS), axis=1, kind="stable")
    rising = np.take_along_axis(by_part, order, axis=1)
    third = rising.shape[1] // 3
    difference: Floats = rising[:, -third:].mean(axis=1) - rising[:, :third].mean(axis=1)
    return difference


def _ranks(images: Floats) -> Floats:
    """Return each pixel's place among its image's, 0 to 1; equal gray values share theirs."""
    values = np.rint(images * (_LEVELS - 1)).astype(np.int64).reshape(len(images), -1)
    values += np.arange(len(images))[:, None] * _LEVELS
    counts = np.bincount(values.ravel(), minlength=len(images) * _LEVELS)
    counts = counts.reshape(len(images), _LEVELS)
    places = (np.cumsum(counts, axis=1) - 0.5 * counts) / values.shape[1]
    return places.ravel()[values].reshape(images.shape)


def _quantiles(ordered: Floats) -> list[Floats]:
    """Return the gray values of `_QUANTILES` of rising pixels [n, p], [n] each."""
    places = np.array(_QUANTILES) * (ordered.shape[1] - 1)
    lower = places.astype(np.int64)
    upper = np.minimum(lower + 1, ordered.shape[1] - 1)
    values = ordered[:, lower] + (places - lower) * (ordered[:, upper] - ordered[:, lower])
    return list(values.T)


def _gray_levels(ordered: Floats) -> Floats:
    """Return the log of the number of different gray values of rising pixels [n, p], [n]."""
    levels = np.rint(ordered * (_LEVELS - 1))
    count: Floats = np.log(1.0 + np.count_nonzero(np.diff(levels, axis=1), axis=1))
    return count


def _border(images: Floats) -> Floats:
    """Return the mean of the outermost frame less that of the image, [n]."""
    _, height, width = images.shape
    down, across = (max(1, round(_FRAME * side)) for side in (height, width))
    inner = images[:, down : height - down, across : width - across]
    total, inside = images.sum(axis=(1, 2)), inner.sum(axis=(1, 2))
    frame = (total - inside) / (height * width - inner.shape[1] * inner.shape[2])
    border: Floats = frame - images.mean(axis=(1, 2))
    return border


def _halves(images: Floats, *, axis: int) -> Floats:
    """Return the mean of the first half along an axis less that of the second, [n]."""
    lines = images.mean(axis=3 - axis)
    half = lines.shape[1] // 2
    difference: Floats = lines[:, :half].mean(axis=1) - lines[:, -half:].mean(axis=1)
    return difference
