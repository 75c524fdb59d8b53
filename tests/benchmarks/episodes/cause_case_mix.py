"""What else than the label children differ by, so that a case mix can change and nothing else.

Attributes come from the source's 28 x 28 pixels, learnt on the children that trained the
champion's head, and from no encoder. Half of a class's children are then taken more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from cause_sources import adult_facts, adults, children, raw_children

Floats = npt.NDArray[np.float64]

#: attributes by who sees them: trained on, calibrated with, tested
ATTRIBUTES = {
    "training": ("severity", "first component", "second component", "kin of one"),
    "calibration": ("third component", "kin of another", "severity"),
    "test": ("opacity", "asymmetry", "fourth component", "kin of a third"),
}
#: attributes of adults: what is known of them, and what their images are like
ADULT_ATTRIBUTES = ("age", "sex", "view", "opacity", "severity")
_COMPONENTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learnt:
    mean: Floats
    components: Floats
    scales: Floats
    severity: Floats
    kin: Floats


@cache
def _learnt() -> _Learnt:
    raw = raw_children("head").astype(np.float64)
    ill = children("head").pneumonia
    mean = raw.mean(axis=0)
    _, values, rows = np.linalg.svd(raw - mean, full_matrices=False)
    components, scales = rows[:_COMPONENTS].T, values[:_COMPONENTS] / np.sqrt(len(raw))
    scores = (raw - mean) @ components / scales
    # Fisher's direction between the classes.
    means = [scores[ill == value].mean(axis=0) for value in (0, 1)]
    within = np.mean([np.cov(scores[ill == value].T) for value in (0, 1)], axis=0)
    kin = scores[np.flatnonzero(ill == 1)[[3, 40, 77]]]
    return _Learnt(
        mean=mean,
        components=components,
        scales=scales,
        severity=np.linalg.solve(within, means[1] - means[0]),
        kin=kin,
    )


@cache
def attribute(part: str, name: str) -> Floats:
    """Return an attribute of a part's children, [n]."""
    learnt = _learnt()
    raw = raw_children(part).astype(np.float64)
    scores = (raw - learnt.mean) @ learnt.components / learnt.scales
    images = raw.reshape(-1, 28, 28)
    places = ("first", "second", "third", "fourth")
    named = {f"{place} component": scores[:, at] for at, place in enumerate(places)}
    kin = [-np.square(scores - one).sum(axis=1) for one in learnt.kin]
    named |= {
        "severity": scores @ learnt.severity,
        "kin of one": kin[0],
        "kin of another": kin[1],
        "kin of a third": kin[2],
        "opacity": images[:, 6:22, 4:24].mean(axis=(1, 2)),
        "asymmetry": np.abs(images - images[:, :, ::-1]).mean(axis=(1, 2)),
    }
    return named[name]


@cache
def adult_attribute(part: str, name: str) -> Floats:
    """Return an attribute of a part's adults, [n]."""
    known = adult_facts(part)
    if name in known:
        return known[name]
    learnt = _learnt()
    side = adults(part).images.shape[-1] // 28
    small = adults(part).images.reshape(-1, 28, side, 28, side).mean(axis=(2, 4))
    if name == "opacity":
        return np.asarray(small[:, 6:22, 4:24].mean(axis=(1, 2)), dtype=np.float64)
    scores = (small.reshape(len(small), -1) - learnt.mean) @ learnt.components / learnt.scales
    return np.asarray(scores @ learnt.severity)
