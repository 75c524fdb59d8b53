"""Which frames of an instance are read as one scan."""

from __future__ import annotations

from pydicom.dataset import Dataset

from monitor.intake.reasons import Reason, unreadable
from registry.bundles.preprocessing import Frames, MeanOfFrames, MiddleFrame


def frame_count(ds: Dataset) -> int:
    """Return how many frames an instance has."""
    return int(ds.get("NumberOfFrames") or 1)


def middle_frame(count: int) -> int:
    """Return the number of the middle frame, from 0; the earlier of two.

    >>> [middle_frame(count) for count in (1, 2, 3, 30)]
    [0, 0, 1, 14]
    """
    return (count - 1) // 2


def chosen_frames(count: int, frames: Frames | None) -> tuple[int, ...]:
    """Return the numbers of the frames that are read, from 0, in their order.

    >>> chosen_frames(10, MeanOfFrames(most=3))
    (1, 5, 8)
    >>> chosen_frames(2, MeanOfFrames(most=3))
    (0, 1)

    Raises
    ------
    UnreadableScanError
        If there are several, and it is not said which of them are read.
    """
    if count == 1:
        return (0,)
    match frames:
        case None:
            raise unreadable(
                Reason.MULTI_FRAME,
                "the image has several frames, and the version's preprocessing does not say "
                "which of them are read",
            )
        case MiddleFrame():
            return (middle_frame(count),)
        case MeanOfFrames(most=most):
            if count <= most:
                return tuple(range(count))
            # The middle of each of as many equal parts.
            return tuple((2 * part + 1) * count // (2 * most) for part in range(most))
