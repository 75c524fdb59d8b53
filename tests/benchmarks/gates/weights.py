"""Weights: do intervals cover what is true of all scans when labels were drawn unequally?

    python tests/benchmarks/gates/weights.py

Each simulation draws a population of scans of two models, then labels by a design: whole
patients, each by its own chance. What was counted is kept in `results/weights.jsonl`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm
from simulated import SIMULATIONS, generator, kept, share, table

from monitor.statistics.performance.calibration import calibration_line
from monitor.statistics.performance.discrimination import compare_aucs, estimate_auc
from monitor.statistics.performance.paired_proportions import paired_difference
from monitor.statistics.performance.proportions import proportion

Floats = npt.NDArray[np.float64]
LEVEL = 0.95
LABELS = {"150 labels": 150, "600 labels": 600}
#: of a patient's first score by the champion: the chance to be labelled, up to a factor
DESIGNS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "equal": lambda score, _: np.ones_like(score),
    "unequal by chance": lambda score, rng: rng.choice([1.0, 5.0], size=len(score)),
    "more near the threshold": lambda score, _: np.where(np.abs(score) < 0.7, 5.0, 1.0),
    "more of the positive calls": lambda score, _: np.where(score > 0.0, 5.0, 1.0),
}
SCANS_OF_A_PATIENT = (1, 3)
MEASURES = ("sensitivity", "difference", "AUC", "AUC difference", "slope")


def keys() -> list[str]:
    """Return every cell."""
    return [
        f"{design}/{labels}/{scans}"
        for scans in SCANS_OF_A_PATIENT
        for labels in LABELS
        for design in DESIGNS
    ]


def _population(rng: np.random.Generator, patients: int, scans: int):
    codes = np.repeat(np.arange(patients), scans)
    truth = rng.random(len(codes)) < 0.3
    own, shared = rng.normal(size=(2, len(codes))), rng.normal(size=(2, patients))[:, codes]
    errors = own if scans == 1 else (own + shared) / np.sqrt(2)
    champion = np.where(truth, 1.3, -1.0) + errors[0]
    candidate = np.where(truth, 1.3, -1.0) + 0.8 * errors[0] + 0.6 * errors[1]
    return codes, truth, champion, candidate


@cache
def _true_values() -> dict[str, float]:
    # One scan or several, the margins are the same.
    rng = np.random.default_rng(0)
    _, truth, champion, _ = _population(rng, 2_000_000, 1)
    line = calibration_line(expit(champion), truth, level=LEVEL)
    return {
        "sensitivity": float(norm.cdf(1.3)),
        "difference": 0.0,
        "AUC": float(norm.cdf(2.3 / np.sqrt(2))),
        "AUC difference": 0.0,
        "slope": line.slope.estimate,
    }


def measured(key: str) -> dict[str, float]:
    """Simulate one cell."""
    design, labels, scans = key.split("/")
    rng = generator(key)
    names = [
        f"{measure} {what}" for measure in MEASURES for what in ("covered", "bias", "plain")
    ]
    sums = dict.fromkeys(names, 0.0)
    for _ in range(SIMULATIONS):
        patients = 5 * LABELS[labels] // int(scans)
        codes, truth, champion, candidate = _population(rng, patients, int(scans))
        first = champion[:: int(scans)]
        chance = DESIGNS[design](first, rng)
        chance *= LABELS[labels] / int(scans) / chance.sum()
        labelled = rng.random(patients) < np.minimum(chance, 1.0)
        rows = labelled[codes]
        weights = 1.0 / np.minimum(chance, 1.0)[codes[rows]]
        found = _found(codes[rows], truth[rows], champion[rows], candidate[rows], weights)
        plain = _found(codes[rows], truth[rows], champion[rows], candidate[rows], None)
        for measure in MEASURES:
            true = _true_values()[measure]
            estimate, interval = found[measure]
            sums[f"{measure} covered"] += true in interval
            sums[f"{measure} bias"] += estimate - true
            sums[f"{measure} plain"] += plain[measure][0] - true
    return {name: total / SIMULATIONS for name, total in sums.items()}


def _found(codes, truth, champion, candidate, weights):
    positive = None if weights is None else weights[truth]
    sensitivity = proportion(champion[truth] > 0, codes[truth], weights=positive, level=LEVEL)
    difference = paired_difference(
        champion[truth] > 0, candidate[truth] > 0, codes[truth], weights=positive, level=LEVEL
    )
    area = estimate_auc(champion, truth, codes, weights=weights, level=LEVEL)
    areas = compare_aucs(champion, candidate, truth, codes, weights=weights, level=LEVEL)
    line = calibration_line(expit(champion), truth, codes, weights=weights, level=LEVEL)
    return {
        "sensitivity": (sensitivity.estimate, sensitivity.interval),
        "difference": (difference.estimate, difference.interval),
        "AUC": (area.estimate, area.interval),
        "AUC difference": (areas.estimate, areas.interval),
        "slope": (line.slope.estimate, line.slope.interval),
    }


def tables() -> str:
    """Return the tables in Markdown."""
    rows = kept("weights").rows()
    head = ("labels drawn", "labels", "scans a patient", *MEASURES)

    def cells(what: str, form: Callable[[float], str]) -> list[tuple[str, ...]]:
        return [
            (
                design,
                labels.partition(" ")[0],
                scans,
                *(form(row[f"{measure} {what}"]) for measure in MEASURES),
            )
            for row in rows
            for design, labels, scans in [row["key"].split("/")]
        ]

    lines = [
        f"{SIMULATIONS:,} simulations of each line; 30 % of scans have the finding, a fifth of all "
        "is labelled, and chances differ by a factor of 5. How often the 95 % interval holds "
        "what is true of all scans:",
        "",
        *table(head, cells("covered", share)),
        "",
        "Mean error of the weighted estimate, and in the table after it of one that ignores how "
        "labels were drawn:",
        "",
        *table(head, cells("bias", "{:+.4f}".format)),
        "",
        *table(head, cells("plain", "{:+.4f}".format)),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    kept("weights").measure(keys(), measured)
    sys.stdout.write(tables())
