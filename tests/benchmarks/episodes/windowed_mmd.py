"""The exact squared MMD of the last W scans against the reference, after every scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_CHUNK = 256


class WindowedMMD:
    """What `mmd_test` calls its statistic, for windows that move by one scan at a time."""

    def __init__(self, reference: Singles, *, bandwidth: float) -> None:
        self.reference, self.gain = reference, np.float32(-0.5 / bandwidth**2)
        scans = len(reference)
        total = sum(
            float(self._kernel(reference[i : i + _CHUNK], reference).sum(dtype=np.float64))
            for i in range(0, scans, _CHUNK)
        )
        #: mean kernel of two scans of the reference
        self.within = (total - scans) / (scans * (scans - 1))

    def path(self, stream: Singles, windows: Sequence[int]) -> dict[int, Floats]:
        """Return the statistic after each scan of a stream [T, d], by window; -inf at first."""
        widest = max(windows)
        across = np.empty(len(stream))
        # [T, widest - 1] kernel of each scan with those before it, the nearest first.
        before = np.zeros((len(stream), widest - 1), dtype=np.float32)
        for start in range(0, len(stream), _CHUNK):
            chunk = stream[start : start + _CHUNK]
            across[start : start + len(chunk)] = self._kernel(chunk, self.reference).mean(
                axis=1, dtype=np.float64
            )
            oldest = max(start - widest + 1, 0)
            near = self._kernel(chunk, stream[oldest : start + len(chunk)])
            own = start + np.arange(len(chunk))[:, None]
            other = own - np.arange(1, widest)
            inside = other >= 0
            rows = np.broadcast_to(own - start, other.shape)
            before[start : start + len(chunk)][inside] = near[
                rows[inside], other[inside] - oldest
            ]
        return {window: self._moved(across, before, window) for window in windows}

    def _moved(self, across: Floats, before: Singles, window: int) -> Floats:
        band = before[:, : window - 1].astype(np.float64)
        scans = len(across)
        entering = band.sum(axis=1)
        # Of the scan that leaves: its kernel with the window's others, which came after it.
        leaving = np.zeros(scans)
        for back in range(1, window):
            leaving[: scans - back] += band[back:, back - 1]
        pairs = np.cumsum(entering)
        pairs[window:] -= np.cumsum(leaving)[: scans - window]
        summed = np.cumsum(across)
        summed[window:] = summed[window:] - summed[:-window]
        statistic = 2.0 * pairs / (window * (window - 1)) + self.within - 2.0 * summed / window
        statistic[: window - 1] = -np.inf
        return np.asarray(statistic)

    def _kernel(self, scans: Singles, others: Singles) -> Singles:
        squared = (
            np.square(scans).sum(axis=1)[:, None]
            + np.square(others).sum(axis=1)
            - np.float32(2.0) * (scans @ others.T)
        )
        squared *= self.gain
        kernel: Singles = np.exp(squared, out=squared)
        return kernel


def records(path: Floats) -> list[tuple[int, float]]:
    """Return where a path is higher than ever before, and how high: all that alarms ask of it."""
    highest = np.maximum.accumulate(path)
    rising = np.flatnonzero(highest > np.concatenate([[-np.inf], highest[:-1]]))
    return [(int(t) + 1, float(path[t])) for t in rising if np.isfinite(path[t])]
