"""A probability sample of patients, in strata, whose chances of inclusion are known exactly.

Within each stratum the patients are put into a random order. The first of them are drawn for
one part (the gates), the last for another (selection), which therefore never share a patient;
those that follow the first are its reserve, in their order, and called up where others cannot be
read. The chance of a patient is the number that was drawn of the stratum over its size (Cochran
1977, *Sampling Techniques*, chapter 5). How many of a stratum fall to the second part is rounded
by chance, systematically from a random start (chapter 8), so that the chance is the same
for every patient of the frame, to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from registry.errors import BadInputError, InsufficientDataError

Integers: TypeAlias = npt.NDArray[np.int64]

#: Largest ratio of two patients' chances: few labels with weights further apart hide errors.
LARGEST_RATIO = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumDraw:
    """What was drawn of one stratum, as positions in the frame."""

    #: the first in the stratum's random order, their reserve after them
    ordered: tuple[int, ...]
    #: how many of `ordered` are drawn; those after are the reserve
    drawn: int
    #: of the equal-chance part
    equal: tuple[int, ...]
    #: in no part
    left: tuple[int, ...]

    @property
    def size(self) -> int:
        return len(self.ordered) + len(self.equal) + len(self.left)

    @property
    def chance(self) -> float:
        """The chance of each of its patients to be drawn."""
        return self.drawn / self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One draw of the whole frame."""

    strata: tuple[StratumDraw, ...]
    #: chance of every patient to be in the equal-chance part
    equal_chance: float


def allocate(
    sizes: Sequence[int], *, wanted: int, favour: Sequence[float], equal: int = 0
) -> list[int]:
    """Return how many patients to draw of each stratum.

    Parameters
    ----------
    sizes : patients of each stratum, at least 1
    wanted : patients in all
    favour : chance of a stratum's patients relative to the others', from 1 to `LARGEST_RATIO`
    equal : patients of the equal-chance part, for which room is left

    Raises
    ------
    BadInputError
        If a ratio lies outside its bounds.
    InsufficientDataError
        If the frame does not hold as many patients.

    >>> allocate([600, 300], wanted=120, favour=[1.0, 2.0])
    [60, 60]
    """
    if not all(1.0 <= one <= LARGEST_RATIO for one in favour):
        raise BadInputError(
            f"chances may differ by a factor from 1 to {LARGEST_RATIO:g}, got {list(favour)}"
        )
    frame = sum(sizes)
    if wanted + equal > frame or wanted < 0 or equal < 0:
        raise InsufficientDataError(
            what="patients to draw from", needed=wanted + equal, got=frame
        )
    # Of the equal-chance part a stratum may get one more than its share, by rounding.
    room = [size - min(size, math.ceil(equal * size / frame)) for size in sizes]
    if wanted > sum(room):
        raise InsufficientDataError(
            what="patients to draw from, less those set aside", needed=wanted, got=sum(room)
        )
    exact = _filled(sizes, room, favour, wanted)
    counts = [math.floor(one + 1e-9) for one in exact]
    by_rest = sorted(range(len(sizes)), key=lambda h: (counts[h] - exact[h], h))
    for stratum in by_rest * 2:
        if sum(counts) == wanted:
            break
        if counts[stratum] < room[stratum]:
            counts[stratum] += 1
    return counts


def _filled(
    sizes: Sequence[int], room: Sequence[int], favour: Sequence[float], wanted: int
) -> list[float]:
    """Return shares by size and favour; what does not fit into a stratum goes to the others."""
    exact = [0.0] * len(sizes)
    open_, rest = set(range(len(sizes))), float(wanted)
    while open_ and rest > 1e-9:
        unit = rest / sum(favour[h] * sizes[h] for h in open_)
        full = {h for h in open_ if unit * favour[h] * sizes[h] >= room[h]}
        for stratum in full or open_:
            exact[stratum] = (
                float(room[stratum]) if full else unit * favour[stratum] * sizes[stratum]
            )
        rest = wanted - sum(exact)
        open_ -= full or set(open_)
    return exact


def draw(
    strata: Sequence[int],
    counts: Sequence[int],
    *,
    reserve: Sequence[int],
    equal: int,
    seed: int,
) -> Draw:
    """Draw two parts that share no patient.

    Parameters
    ----------
    strata : number of each patient's stratum, 0 .. len(counts) - 1, shape [N]
    counts : patients to draw of each stratum, as `allocate` returned them
    reserve : patients to keep ready in each, at most; what is not there is left out
    equal : patients of the equal-chance part
    seed : the same seed and frame give the same draw

    Raises
    ------
    BadInputError
        If a stratum is empty, or cannot give what is asked of it.
    """
    rng = np.random.default_rng(seed)
    of_patient = np.asarray(strata, dtype=np.int64)
    sizes = np.bincount(of_patient, minlength=len(counts))
    if len(sizes) != len(counts) or (sizes == 0).any():
        raise BadInputError(
            f"{len(counts)} strata are to be drawn from, and the frame has {sizes.tolist()} "
            "patients in its strata: each needs one"
        )
    shares = _systematic(sizes, equal, rng)
    drawn = []
    for stratum, size in enumerate(sizes):
        taken, set_aside = counts[stratum], int(shares[stratum])
        if taken + set_aside > size:
            raise BadInputError(
                f"{taken} and {set_aside} patients are to be drawn of a stratum of {size}"
            )
        order = rng.permutation(np.flatnonzero(of_patient == stratum)).tolist()
        kept = taken + min(int(reserve[stratum]), int(size) - taken - set_aside)
        last = int(size) - set_aside
        drawn.append(
            StratumDraw(
                ordered=tuple(order[:kept]),
                drawn=taken,
                equal=tuple(order[last:]),
                left=tuple(order[kept:last]),
            )
        )
    return Draw(strata=tuple(drawn), equal_chance=equal / len(of_patient))


def _systematic(sizes: Integers, wanted: int, rng: np.random.Generator) -> Integers:
    """Return how many of each stratum a systematic sample of the frame holds, [H].

    Its step is N / wanted and its start random, so that each patient's chance is wanted / N.
    """
    if wanted == 0:
        return np.zeros(len(sizes), dtype=np.int64)
    bounds = np.cumsum(sizes) * (wanted / sizes.sum())
    bounds[-1] = wanted  # not a digit less by rounding
    reached = np.ceil(bounds - rng.uniform())
    counts: Integers = np.diff(np.concatenate([[0.0], reached])).astype(np.int64)
    return counts
