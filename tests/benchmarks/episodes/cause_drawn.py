"""Changes of the image chain that are drawn at random from broad families, to train on.

A fixed list of transforms teaches a classifier that list. Here a number draws a change: a tone
curve, a linear filter, a displacement, something added or laid over the image, a kind of noise,
a local operation, or two of these. What comes out is often nothing that any scanner does; it
spans more than what scanners do. One number is one change, the same for all scans.

What cannot be drawn, since it is what the test asks: stripes along an axis (waves run oblique),
a frame (what is covered is never the whole border by straight edges along the axes), bright
upright rectangles, left for right, curves that fall throughout, ranks of gray values,
medians, and images made coarse by repeating pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import (
    gaussian_filter,
    grey_closing,
    grey_opening,
    map_coordinates,
    maximum_filter,
    minimum_filter,
)

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
#: a drawn change: an image in [0, 1], float32 [h, w], and the scan's own seed
Change = Callable[[Singles, int], Singles]

#: pixels along an edge of the images that changes are drawn for
SIDE = 112
# Beyond this a wave runs along an axis: radians.
_OBLIQUE = np.deg2rad(18)


def drawn(kind: str, number: int) -> Change:
    """Return the change of a kind of `KINDS` that a number draws."""
    return _drawn(kind, number)


@cache
def _drawn(kind: str, number: int) -> Change:
    rng = np.random.default_rng([41, list(KINDS).index(kind), number])
    return KINDS[kind](rng)


def _tone(rng: np.random.Generator) -> Change:
    """A curve through gray values, rising or not."""
    at = np.linspace(0, 1, 6)
    while True:
        if rng.random() < 0.6:
            steps = rng.dirichlet(np.full(5, rng.choice((0.6, 1.5))))
            low, high = np.sort(rng.random(2)) * (0.35, 1.0) + (0.0, 0.0)
            values = low + max(high - low, 0.3) * np.concatenate([[0], np.cumsum(steps)])
        else:
            amount = rng.uniform(0.3, 1.0)
            values = (1 - amount) * at + amount * rng.random(6)
        if np.corrcoef(at, values)[0, 1] > -0.4:
            break
    curve = PchipInterpolator(at, np.clip(values, 0, 1))
    table = curve(np.linspace(0, 1, 1024)).astype(np.float32)
    return lambda image, _: table[np.rint(np.clip(image, 0, 1) * 1023).astype(np.int64)]


def _filtered(rng: np.random.Generator) -> Change:
    """A linear filter whose gain is drawn over frequencies, alike in all directions or not."""
    down, across = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    radius, angle = np.hypot(down, across), np.arctan2(down, across)
    octaves = np.linspace(np.log(0.01), np.log(0.7), 5)
    gains = np.cumsum(rng.normal(0, rng.uniform(0.3, 1.1), 5))
    curve = PchipInterpolator(octaves, gains - gains[0])
    logs = curve(np.clip(np.log(np.maximum(radius, 1e-6)), octaves[0], octaves[-1]))
    if rng.random() < 0.4:
        turn = rng.uniform(0, np.pi)
        logs = logs * (1 + rng.uniform(-0.8, 0.8) * np.cos(2 * (angle - turn)))
    gain = np.exp(np.clip(logs, -6, 1.6))
    gain[0, 0] = 1.0

    def change(image: Singles, _: int) -> Singles:
        padded = np.fft.rfft2(image)
        return np.fft.irfft2(padded * gain, s=image.shape).astype(np.float32)

    return change


def _warped(rng: np.random.Generator) -> Change:
    """An affine map that keeps left and right, a smooth displacement, or a turned image."""
    if rng.random() < 0.12:
        turns = int(rng.integers(1, 4))
        return lambda image, _: np.ascontiguousarray(np.rot90(image, turns))
    side = np.linspace(-1, 1, SIDE)
    down, across = np.meshgrid(side, side, indexing="ij")
    strength = rng.uniform(0.3, 1.0)
    matrix = np.eye(2) + strength * rng.normal(0, 0.09, (2, 2))
    turn = strength * rng.normal(0, 0.12)
    matrix = matrix @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    shift = strength * rng.normal(0, 0.08, 2)
    at = np.einsum("ij,jhw->ihw", matrix, np.stack([down, across])) + shift[:, None, None]
    if rng.random() < 0.5:
        width = rng.uniform(8, 30)
        smooth = np.stack([gaussian_filter(rng.normal(size=at.shape[1:]), width) for _ in at])
        at += strength * rng.uniform(0.02, 0.08) * smooth / smooth.std()
    pixels = (at + 1) * (SIDE - 1) / 2
    mode = str(rng.choice(("nearest", "constant", "reflect")))
    return lambda image, _: np.asarray(
        map_coordinates(image, pixels, order=1, mode=mode), dtype=np.float32
    )


def _field(rng: np.random.Generator) -> Floats:
    """A pattern over the image, of mean 0 and largest magnitude about 1."""
    side = np.arange(SIDE, dtype=np.float64)
    down, across = np.meshgrid(side, side, indexing="ij")
    how = rng.integers(4)
    if how == 0:
        pattern = np.zeros((SIDE, SIDE))
        for _ in range(int(rng.integers(1, 4))):
            turn = rng.uniform(_OBLIQUE, np.pi / 2 - _OBLIQUE) + rng.integers(2) * np.pi / 2
            period = np.exp(rng.uniform(np.log(3.0), np.log(40.0)))
            wave = 2 * np.pi * (np.cos(turn) * down + np.sin(turn) * across) / period
            pattern += np.sin(wave + rng.uniform(0, 2 * np.pi))
    elif how == 1:
        centre = rng.uniform(0, SIDE, 2)
        radius = np.hypot(down - centre[0], across - centre[1])
        pattern = np.sin(2 * np.pi * radius / np.exp(rng.uniform(np.log(4.0), np.log(50.0))))
    elif how == 2:
        pattern = gaussian_filter(
            rng.normal(size=(SIDE, SIDE)), np.exp(rng.uniform(0, np.log(25)))
        )
    else:
        spots = (rng.random((SIDE, SIDE)) < rng.uniform(0.001, 0.02)).astype(np.float64)
        pattern = gaussian_filter(spots, rng.uniform(0.5, 3.0)) * rng.choice((-1, 1))
    pattern -= pattern.mean()
    return np.asarray(pattern / max(np.quantile(np.abs(pattern), 0.98), 1e-9))


def _added(rng: np.random.Generator) -> Change:
    """A pattern that is added, or by which the image is multiplied."""
    pattern = _field(rng).astype(np.float32)
    amount = np.float32(np.exp(rng.uniform(np.log(0.02), np.log(0.2))))
    if rng.random() < 0.35:
        return lambda image, _: image * (1 + 2.5 * amount * pattern)
    return lambda image, _: image + amount * pattern


def _shape(rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """What is covered: an ellipse, a turned box, one side, or all but an ellipse or such a box."""
    side = np.linspace(-1, 1, SIDE)
    down, across = np.meshgrid(side, side, indexing="ij")
    turn = rng.uniform(_OBLIQUE, np.pi / 2 - _OBLIQUE)
    how = rng.integers(5)
    if how == 4:
        depth = rng.uniform(0.04, 0.25)
        near = (down, -down, across, -across)[int(rng.integers(4))]
        return np.asarray(near < -1 + depth)
    outside = how >= 2
    centre = rng.uniform(-0.12, 0.12, 2) if outside else rng.uniform(-0.9, 0.9, 2)
    size = rng.uniform(0.85, 1.15, 2) if outside else np.exp(rng.uniform(-2.6, -0.9, 2))
    along = np.cos(turn) * (down - centre[0]) + np.sin(turn) * (across - centre[1])
    beside = np.cos(turn) * (across - centre[1]) - np.sin(turn) * (down - centre[0])
    if how in {0, 2}:
        inside = np.hypot(along / size[0], beside / size[1]) < 1
    else:
        inside = np.maximum(np.abs(along) / size[0], np.abs(beside) / size[1]) < 1
    return np.asarray(~inside if outside else inside)


def _covered(rng: np.random.Generator) -> Change:
    """Parts of the image that show something else: a gray value, noise, or a blur."""
    while True:
        several = [_shape(rng) for _ in range(int(rng.integers(1, 4)))]
        covered = np.any(several, axis=0)
        if 0.004 < covered.mean() < 0.35:
            break
    how = rng.integers(4)
    value = float(rng.choice((0.0, 1.0, rng.random())))
    moves = rng.random() < 0.3
    texture = 0.5 + 0.3 * _field(rng)

    def change(image: Singles, seed: int) -> Singles:
        where = covered
        if moves:
            step = np.random.default_rng([42, seed]).integers(-4, 5, 2)
            where = np.roll(covered, tuple(step.tolist()), axis=(0, 1))
        if how == 3:
            filled = gaussian_filter(image, 6.0)
        elif how == 2:
            filled = texture.astype(np.float32)
        else:
            filled = np.full_like(image, value)
        return np.where(where, filled, image).astype(np.float32)

    return change


def _noisy(rng: np.random.Generator) -> Change:
    """Noise: of what size, how it goes with the gray value, and how far it hangs together."""
    amount = np.exp(rng.uniform(np.log(0.006), np.log(0.09)))
    width = (0.0, rng.uniform(0.4, 2.5))[int(rng.integers(2))]
    along = (width, width * rng.uniform(0.1, 3.0))
    power = rng.choice((0.0, 0.5, 1.0))
    heavy = rng.random() < 0.3

    def change(image: Singles, seed: int) -> Singles:
        own = np.random.default_rng([43, seed])
        noise = own.standard_t(2.5, image.shape) if heavy else own.normal(size=image.shape)
        if width:
            noise = gaussian_filter(noise, along)
        noise *= amount / max(float(noise.std()), 1e-9)
        size = np.maximum(image, 0.0) ** power if power else 1.0
        return (image + size * noise).astype(np.float32)

    return change


def _local(rng: np.random.Generator) -> Change:
    """What depends on neighbours: detail weighed, extremes, contrast made even, gray steps."""
    how = rng.integers(5)
    if how == 0:
        width, gain = np.exp(rng.uniform(np.log(1.0), np.log(20.0))), rng.uniform(-0.7, 1.8)
        return lambda image, _: image + gain * (image - gaussian_filter(image, width))
    if how == 1:
        size = int(rng.integers(2, 5))
        several = (maximum_filter, minimum_filter, grey_opening, grey_closing)
        operation = several[int(rng.integers(4))]
        return lambda image, _: np.asarray(operation(image, size), dtype=np.float32)
    if how == 2:
        width, amount = rng.uniform(6, 30), rng.uniform(0.3, 1.0)

        def evened(image: Singles, _: int) -> Singles:
            low = gaussian_filter(image, width)
            spread = np.sqrt(gaussian_filter(np.square(image - low), width) + 1e-4)
            return (1 - amount) * image + amount * (0.5 + 0.18 * (image - low) / spread)

        return evened
    if how == 3:
        mean, spread = rng.uniform(0.3, 0.65), rng.uniform(0.12, 0.32)

        def normalised(image: Singles, _: int) -> Singles:
            return mean + spread * (image - image.mean()) / max(float(image.std()), 1e-3)

        return normalised
    levels, width = int(rng.integers(4, 24)), rng.uniform(0.0, 1.2)

    def stepped(image: Singles, seed: int) -> Singles:
        dither = width * (np.random.default_rng([44, seed]).random(image.shape) - 0.5)
        return (np.floor(image * levels + dither + 0.5) / levels).astype(np.float32)

    return stepped


def _composed(rng: np.random.Generator) -> Change:
    """Two changes, one after the other."""
    single = [kind for kind in KINDS if kind != "two"]
    first, second = (
        KINDS[name](rng) for name in rng.choice(single, size=2, replace=False).tolist()
    )
    return lambda image, seed: second(
        np.clip(first(image, seed), 0, 1).astype(np.float32), seed
    )


#: kinds of changes that can be drawn
KINDS: dict[str, Callable[[np.random.Generator], Change]] = {
    "tone": _tone,
    "filter": _filtered,
    "warp": _warped,
    "added": _added,
    "covered": _covered,
    "noise": _noisy,
    "local": _local,
    "two": _composed,
}
