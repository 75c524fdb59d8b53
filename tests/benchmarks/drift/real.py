"""Real embeddings: what is rejected when nothing shifted, and what is found when something did.

Two encoders see the sample's scans. The children's references are random halves of 1,200
scans, their windows come from the other scans; the source names no patients, so scans are
patients. The adults' and the MR scans are too few for a profile (it asks for 200 patients):
there the exact MMD speaks, by whole patients, beside what permuting images would say.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from peers import ENVIRONMENTS
from power import inputs
from real_embeddings import ENCODERS, TOUCHED, RealEmbeddings, real_embeddings
from results import Results

from monitor.profiles import ReferenceProfile
from monitor.statistics.exact.kernels import mmd_test

REFERENCE, WINDOW = 1200, 200
ORDINARY, SHIFTED = 80, 20
SPLITS = 200
LEVEL = 0.05
SHIFTS = ("touched-software", "prevalence", "adults-mixed-in")


def units(*, references: int, encoders: Sequence[str]) -> list[str]:
    """Return the keys of all units."""
    return [
        *(f"children/{encoder}/{index}" for index in range(references) for encoder in encoders),
        *(f"{what}/{encoder}" for encoder in encoders for what in ("adults", "magnetic")),
    ]


def measure(key: str) -> dict[str, Any]:
    """Measure one reference of children, or all adults, or all MR scans."""
    what, encoder, *_ = key.split("/")
    real = real_embeddings(encoder, ENVIRONMENTS / "embeddings")
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if what == "adults":
        return _adults(real, rng)
    if what == "magnetic":
        return _magnetic(real)
    return _children(real, rng)


def run(*, references: int, encoders: Sequence[str] = ENCODERS) -> None:
    """Measure every unit that lacks."""
    Results("real").measure(units(references=references, encoders=encoders), measure)


def _children(real: RealEmbeddings, rng: np.random.Generator) -> dict[str, Any]:
    # Scans that the touched software also sends are kept for windows.
    order = TOUCHED + rng.permutation(len(real.children) - TOUCHED)
    reference = real.children[order[:REFERENCE]]
    others = np.concatenate([order[REFERENCE:], np.arange(TOUCHED)])
    sick = others[real.pneumonia[others]]
    well = others[~real.pneumonia[others]]

    def drawn(rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
        return real.children[rng.choice(rows, count, replace=False)]

    draws: dict[str, Callable[[], npt.NDArray[np.float32]]] = {
        "none": lambda: drawn(others, WINDOW),
        "touched-software": lambda: real.touched[rng.choice(TOUCHED, WINDOW, replace=False)],
        # From 73 % to 63 %.
        "prevalence": lambda: np.concatenate([drawn(sick, 126), drawn(well, 74)]),
        "adults-mixed-in": lambda: np.concatenate(
            [drawn(others, 192), real.adults[rng.choice(len(real.adults), 8, replace=False)]]
        ),
    }
    profile = ReferenceProfile.fit(reference)
    seen = {label: (fit, fit(reference)) for label, fit in inputs(reference).items()}
    p_values: dict[str, list[float]] = {}
    scores: dict[str, dict[str, list[float]]] = {label: {} for label in seen}
    for shift, draw in draws.items():
        windows = [draw() for _ in range(ORDINARY if shift == "none" else SHIFTED)]
        p_values[shift] = [profile.check(window).p_value for window in windows]
        for label, (fit, before) in seen.items():
            scores[label][shift] = [
                mmd_test(before, fit(window), permutations=1).statistic
                for window in windows[: ORDINARY // 2]
            ]
    return {"portfolio": p_values, "mmd": scores}


def _adults(real: RealEmbeddings, rng: np.random.Generator) -> dict[str, Any]:
    """PA against PA, patients split, by patients and by images; and PA against AP."""
    front = np.flatnonzero(real.views == "PA")
    patients = np.unique(real.adult_patients[front])
    by_patient, by_image = [], []
    for number in range(SPLITS):
        chosen = rng.permutation(patients)[: len(patients) // 2]
        inside = np.isin(real.adult_patients[front], chosen)
        one, other = front[inside], front[~inside]
        by_patient.append(_p_value(real, one, other, patients=True, seed=number))
        by_image.append(_p_value(real, one, other, patients=False, seed=number))
    behind = np.flatnonzero(real.views == "AP")
    # A patient with both views stands on one side only.
    both = np.isin(real.adult_patients[front], real.adult_patients[behind])
    return {
        "by_patient": float(np.mean(np.array(by_patient) <= LEVEL)),
        "by_image": float(np.mean(np.array(by_image) <= LEVEL)),
        "splits": SPLITS,
        "pa_ap": _p_value(real, front[~both], behind, patients=True, seed=0),
    }


def _p_value(
    real: RealEmbeddings,
    one: npt.NDArray[np.int64],
    other: npt.NDArray[np.int64],
    *,
    patients: bool,
    seed: int,
) -> float:
    return mmd_test(
        real.adults[one],
        real.adults[other],
        reference_patients=real.adult_patients[one] if patients else None,
        window_patients=real.adult_patients[other] if patients else None,
        permutations=499,
        seed=seed,
    ).p_value


def _magnetic(real: RealEmbeddings) -> dict[str, Any]:
    """GE against Siemens, slices as units: confounded with protocol."""
    ge = real.manufacturers == "GE"
    test = mmd_test(real.magnetic[ge], real.magnetic[~ge], permutations=999)
    return {"ge_siemens": test.p_value, "scans": [int(ge.sum()), int((~ge).sum())]}
