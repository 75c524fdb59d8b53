"""How often tests find shifts, on the same references and windows.

A unit is one reference of 2,000 scans in one world, with ten windows of 200 for every shift
and ten without. Peers see the embeddings as they are, along the reference's first 32
principal components, and whitened along the first 64; what counts is their best. They are
size-adjusted: a peer rejects when its score exceeds the 95th percentile of its scores in
windows without shift. The portfolio gets no such help: it rejects at p <= .05.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from peers import started
from results import Results
from worlds import SHIFTS, World, worlds

from monitor.profiles import ReferenceProfile
from monitor.statistics.exact.classifier_two_sample import classifier_test
from monitor.statistics.exact.kernels import mmd_test
from monitor.statistics.exact.kolmogorov_smirnov import kolmogorov_smirnov_test

REFERENCE, WINDOW, WINDOWS = 2000, 200, 10
INPUTS = ("raw", "pca", "whitened")
Singles = npt.NDArray[np.float32]
#: tests that take long run on this many references in the first world, and no other
SLOW_REFERENCES = 3
#: the first world has all references, the others this share of them
OTHERS_SHARE = 0.5
SLOW = {
    "alibi-classifier": INPUTS,
    "evidently-model": ("raw", "whitened"),
    "evidently-ratio": ("raw", "whitened"),
    "evidently-mmd": ("raw", "whitened"),
    "evidently-distance": INPUTS,
}
QUICK = {"nannyml-pca": ("raw",)}
#: found some of *e* in few repeats, and runs on every reference of the first world
LSDD = {"alibi-lsdd": INPUTS}
# Size-adjusted tests need their statistic alone, which permutations do not change.
_FEW_PERMUTATIONS = 2


def units(*, references: int) -> list[str]:
    """Return the keys of all units: references of all worlds in turn, then slow tests."""
    first, *others = worlds()
    return [
        *(
            f"{world}/{index}"
            for index in range(references)
            for world in (first, *(others if index < OTHERS_SHARE * references else ()))
        ),
        *(f"{first}/{index}/lsdd" for index in range(references)),
        *(f"{first}/{index}/slow" for index in range(min(references, SLOW_REFERENCES))),
    ]


def inputs(reference: Singles) -> Mapping[str, Callable[[Singles], Singles]]:
    """Return what peers are given, as maps that were fitted on the reference."""
    mean = reference.mean(axis=0)
    _, lengths, directions = np.linalg.svd(reference - mean, full_matrices=False)
    deviations = lengths / np.sqrt(len(reference))

    def pca(scans: Singles) -> Singles:
        return np.ascontiguousarray((scans - mean) @ directions[:32].T, dtype=np.float32)

    def whitened(scans: Singles) -> Singles:
        components = (scans - mean) @ directions[:64].T
        return np.ascontiguousarray(components / deviations[:64], dtype=np.float32)

    return {"raw": lambda scans: scans, "pca": pca, "whitened": whitened}


def measure(key: str) -> dict[str, Any]:
    """Return every test's scores, by test, input and shift."""
    name, index, *apart = key.split("/")
    world = worlds()[name]
    # The same windows for quick and slow tests.
    rng = np.random.default_rng(zlib.crc32(f"{name}/{index}".encode()))
    reference, cluster = world.labelled(REFERENCE, rng)
    windows = {
        shift: [world.labelled(WINDOW, rng, shift) for _ in range(WINDOWS)]
        for shift in ("none", *SHIFTS)
    }
    embeddings = {shift: [one for one, _ in drawn] for shift, drawn in windows.items()}
    if apart == ["lsdd"]:
        few = _peers(LSDD, reference, embeddings, permutations=_FEW_PERMUTATIONS)
        return {"scores": few}
    if apart:
        return {"scores": _peers(SLOW, reference, embeddings)}
    profile = ReferenceProfile.fit(reference, seed=int(index))
    verdicts = {
        shift: [profile.check(one) for one in drawn] for shift, drawn in embeddings.items()
    }
    ours = {shift: [one.p_value for one in many] for shift, many in verdicts.items()}
    members = {
        member: {
            shift: [one.detectors[member].p_value for one in many]
            for shift, many in verdicts.items()
        }
        for member in verdicts["none"][0].detectors
    }
    scores = _peers(QUICK, reference, embeddings)
    for label, seen in inputs(reference).items():
        before = seen(reference)
        after = {shift: [seen(one) for one in drawn] for shift, drawn in embeddings.items()}
        for test, score in _SCORES.items():
            scores[f"{test}/{label}"] = {
                shift: [score(before, one) for one in drawn] for shift, drawn in after.items()
            }
    scores["clusters"] = {
        shift: [_chi_squared(world, cluster, own) for _, own in drawn]
        for shift, drawn in windows.items()
    }
    return {"portfolio": ours, "members": members, "scores": scores}


def run(*, references: int, processes: int) -> None:
    """Measure every unit that lacks, several at once."""
    Results("power").measure(units(references=references), measure, processes=processes)


def _mmd(reference: Singles, window: Singles) -> float:
    # Size-adjusted: the statistic alone decides, and no permutation is needed.
    return mmd_test(reference, window, permutations=1).statistic


def _ks(reference: Singles, window: Singles) -> float:
    return -kolmogorov_smirnov_test(reference, window).p_value


def _linear(reference: Singles, window: Singles) -> float:
    return classifier_test(reference, window, permutations=1).statistic


_SCORES = {"exact-mmd": _mmd, "exact-ks": _ks, "exact-linear-classifier": _linear}


def _chi_squared(
    world: World, reference: npt.NDArray[np.int64], window: npt.NDArray[np.int64]
) -> float:
    """Return Pearson's statistic of a test that is told every scan's cluster."""
    # The subpopulation that is new has no share to divide by: it counts as the last cluster.
    last = world.clusters - 1
    before = np.bincount(np.minimum(reference, last), minlength=world.clusters)
    after = np.bincount(np.minimum(window, last), minlength=world.clusters)
    pooled = (before + after) / (before.sum() + after.sum())
    difference = after / after.sum() - before / before.sum()
    seen = pooled > 0
    return float((difference[seen] ** 2 / pooled[seen]).sum())


def _peers(
    tests: Mapping[str, tuple[str, ...]],
    reference: Singles,
    windows: Mapping[str, list[Singles]],
    *,
    permutations: int = 100,
) -> dict[str, dict[str, list[float]]]:
    scores: dict[str, dict[str, list[float]]] = {}
    seen = inputs(reference)
    with tempfile.TemporaryDirectory() as folder:
        for test, labels in tests.items():
            with started(test, Path(folder), permutations=permutations) as peer:
                for label in labels:
                    peer.fit(seen[label](reference))
                    scores[f"{test}/{label}"] = {
                        shift: [peer.check(seen[label](one))["score"] for one in drawn]
                        for shift, drawn in windows.items()
                    }
    return scores
