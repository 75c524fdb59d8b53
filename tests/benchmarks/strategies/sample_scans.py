"""The sample's real radiographs of children, dealt out to before and after a change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from api.demo.acquisition import EXPOSURE_RATIO, NEW_SOFTWARE, OLD_SOFTWARE, Processing
from api.demo.foundation import MEAN, SIDE, STD
from api.demo.sample import load_sample
from retrain.workspace import Role

#: Scans of each kind, as docs/sample-data.md has them; every scan stands for a patient.
COUNTS = {
    "first training": 1134,
    "first selection": 216,
    "locked reference": 486,
    "shift training": 240,
    "shift selection": 60,
    "shift locked": 600,
    "shift unlabelled": 300,
    # Of before the change, besides the locked ones: what the champion's figures rest on.
    "more reference": 1200,
}
#: Splits that the tables show.
SPLITS = 3
#: Scans of the first training that are mixed in for each of the shift; as many of its selection.
REPLAY_RATIO = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Toned(Processing):
    """A processing whose gray values then pass a power curve, and nothing else is done to them."""

    gamma: float

    def render(self, image: npt.NDArray[np.float32], *, seed: int) -> npt.NDArray[np.float32]:
        # Named, for a dataclass with slots is made twice, which `super()` does not know.
        rendered: npt.NDArray[np.float32] = Processing.render(self, image, seed=seed)
        return rendered**self.gamma


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprocessed(Processing):
    """The detector's own signal, which DICOM calls *for processing* (PS3.3 C.8.11.1.1).

    It is linear in exposure, so that dense tissue is dark, and noise is as it came.
    """

    def render(self, image: npt.NDArray[np.float32], *, seed: int) -> npt.NDArray[np.float32]:
        attenuation = Processing.render(self, image, seed=seed)
        weakest = np.float32(1 / EXPOSURE_RATIO)
        signal: npt.NDArray[np.float32] = weakest**attenuation
        return (signal - weakest) / (1 - weakest)


CHANGES = {
    "update": NEW_SOFTWARE,
    "unprocessed": Unprocessed(version="raw", noise=0.05),
    "steeper tone curve": Processing(version="steeper", contrast=6),
    "flatter tone curve": Processing(version="flatter", black=0.15, white=0.85),
    "flattest tone curve": Processing(version="flattest", black=0.2, white=0.8),
    "tone curve": Toned(version="toned", gamma=0.6),
}
#: Changes of the tone curve and of nothing else.
TONES = (
    "steeper tone curve",
    "flatter tone curve",
    "flattest tone curve",
    "tone curve",
)
_BITS = 4095


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Prepared scans with their labels and what they are for."""

    pixels: npt.NDArray[np.float32]  #: [n, 3, side, side]
    targets: npt.NDArray[np.int64]  #: [n]
    roles: npt.NDArray[np.int8]  #: [n]
    shifted: npt.NDArray[np.bool_]  #: [n]

    @classmethod
    def joined(cls, *parts: Part) -> Part:
        return cls(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in ("pixels", "targets", "roles", "shifted")
            }
        )


class Deal:
    """One random split of the sample, and a change in the middle of it.

    Parameters
    ----------
    seed : of the split
    tuning : deal out those children alone who are in no locked set of the tables' splits, so
        that settings can be chosen on them
    """

    def __init__(self, seed: int, *, tuning: bool = False) -> None:
        self._children = load_sample().children
        self._seed = seed
        order = np.random.default_rng([seed, 7]).permutation(len(self._children))
        if tuning:
            order = order[~np.isin(order, _locked_of_the_tables())]
        self._places: dict[str, npt.NDArray[np.int64]] = {}
        start = 0
        for name, count in COUNTS.items():
            self._places[name] = order[start : start + count]
            start += count
        # Whose labels come while a run is not asked for yet.
        self._places["shift later"] = order[start:]

    def places(self, name: str) -> npt.NDArray[np.int64]:
        """Return which children of the sample are of a kind."""
        return self._places[name]

    def part(self, name: str, software: Processing, role: Role = Role.TRAINING) -> Part:
        """Return scans of a kind as the software sends them."""
        return self._prepared(self._places[name], software, role, shifted=name[:5] == "shift")

    def first_version(self) -> Part:
        """Return what the model's first version learns from and is chosen by."""
        learned = Part.joined(
            self.part("first training", OLD_SOFTWARE),
            self.part("first selection", OLD_SOFTWARE, Role.SELECTION),
        )
        return replace(learned, shifted=np.ones_like(learned.shifted))

    def repair(self, software: Processing) -> Part:
        """Return what a run has that repairs a change: labels of it, and the reference mixed in."""
        replayed = round(REPLAY_RATIO * COUNTS["shift training"])
        chosen = COUNTS["shift selection"]
        rng = np.random.default_rng([self._seed, 8])
        old = rng.permutation(self._places["first training"])[:replayed]
        judging = rng.permutation(self._places["first selection"])[:chosen]
        return Part.joined(
            self.part("shift training", software),
            self._prepared(old, OLD_SOFTWARE, Role.TRAINING, shifted=False),
            self.part("shift selection", software, Role.SELECTION),
            self._prepared(judging, OLD_SOFTWARE, Role.SELECTION, shifted=False),
        )

    def unlabelled(self, software: Processing) -> Part:
        """Return what a run has while labels lack: scans of the change, and the reference."""
        repair = self.repair(software)
        hidden = np.where(repair.shifted, -1, repair.targets)
        kept = ~(repair.shifted & (repair.roles == Role.SELECTION))
        more = self.part("shift unlabelled", software)
        labels = Part(
            pixels=repair.pixels[kept],
            targets=hidden[kept],
            roles=repair.roles[kept],
            shifted=repair.shifted[kept],
        )
        return Part.joined(labels, replace(more, targets=np.full_like(more.targets, -1)))

    def _prepared(
        self,
        places: npt.NDArray[np.int64],
        software: Processing,
        role: Role,
        *,
        shifted: bool,
    ) -> Part:
        children = [self._children[place] for place in places]
        return Part(
            pixels=np.stack(
                [_prepared(software.render(_scaled(c.pixels), seed=c.index)) for c in children]
            ),
            targets=np.array([child.pneumonia for child in children], dtype=np.int64),
            roles=np.full(len(places), role, dtype=np.int8),
            shifted=np.full(len(places), shifted),
        )


def _locked_of_the_tables() -> npt.NDArray[np.int64]:
    locked = [name for name in COUNTS if "locked" in name]
    deals = [Deal(seed) for seed in range(SPLITS)]
    return np.concatenate([deal.places(name) for deal in deals for name in locked])


def _scaled(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    image = Image.fromarray(pixels.astype(np.float32))
    scaled = np.asarray(image.resize((112, 112), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.clip(scaled / 255, 0, 1)


def _prepared(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    stored = np.round(image * _BITS).astype(np.float32) / _BITS
    sized = np.asarray(
        Image.fromarray(stored).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32
    )
    mean, std = (np.array(value, dtype=np.float32)[:, None, None] for value in (MEAN, STD))
    return ((np.clip(sized, 0, 1)[None] - mean) / std).astype(np.float32)
