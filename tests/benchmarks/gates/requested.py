"""Requested labels: does it pay to draw some patients for the gates more often than others?

    python tests/benchmarks/gates/requested.py

A frame of 3,000 patients stands still, and each simulation draws from it as a request does. The
candidate is as good as the champion; what was counted is kept in `results/requested.jsonl`.
"""

from __future__ import annotations

import sys

import numpy as np
from simulated import SIMULATIONS, kept, share, table

from monitor.statistics.performance.paired_proportions import paired_difference
from monitor.statistics.performance.proportions import proportion
from monitor.statistics.sampling.drawing import allocate, draw

FRAME = 3_000
MARGIN, ALPHA = 0.10, 0.05
#: (prevalence, patients)
SAMPLES = {"30 %, 150": (0.3, 150), "30 %, 400": (0.3, 400), "10 %, 800": (0.1, 800)}
#: which patients are favoured, and by how much
DESIGNS = {
    "equal": ("near", 1.0),
    "near the threshold, 2": ("near", 2.0),
    "near the threshold, 3": ("near", 3.0),
    "called positive, 3": ("positive", 3.0),
}


def keys() -> list[str]:
    """Return every cell."""
    return [f"{sample}/{design}" for sample in SAMPLES for design in DESIGNS]


def measured(key: str) -> dict[str, float]:
    """Draw from one frame by one design."""
    sample, design = key.split("/")
    prevalence, wanted = SAMPLES[sample]
    favoured, ratio = DESIGNS[design]
    rng = np.random.default_rng(7)
    truth = rng.random(FRAME) < prevalence
    centre = np.where(truth, 1.0, -1.3)
    errors = rng.normal(size=(2, FRAME))
    champion, candidate = centre + errors[0], centre + 0.8 * errors[0] + 0.6 * errors[1]
    near = np.abs(champion) <= np.quantile(np.abs(champion), 1 / 3)
    called = champion >= 0
    strata = np.where(near, 1, np.where(called, 2, 0)) if favoured == "near" else called * 1
    sizes = np.bincount(strata).tolist()
    favour = [ratio if number == 1 else 1.0 for number in range(len(sizes))]
    counts = allocate(sizes, wanted=wanted, favour=favour)
    first, second = called == truth, (candidate >= 0) == truth
    change = float(second[truth].mean() - first[truth].mean())
    sums = dict.fromkeys(("sensitivity", "difference", "passed", "effective", "missed"), 0.0)
    for seed in range(SIMULATIONS):
        drawn = draw(strata.tolist(), counts, reserve=[0] * len(sizes), equal=0, seed=seed)
        chosen = np.array([p for one in drawn.strata for p in one.ordered[: one.drawn]])
        weights = np.concatenate([np.full(o.drawn, 1 / o.chance) for o in drawn.strata])
        ill = truth[chosen]
        rows, weighing = chosen[ill], weights[ill]
        rate = proportion(first[rows], weights=weighing, level=0.95)
        pairs = paired_difference(first[rows], second[rows], weights=weighing, level=0.95)
        sums["sensitivity"] += first[truth].mean() in rate.interval
        sums["difference"] += change in pairs.interval
        sums["passed"] += pairs.p_greater(-MARGIN) <= ALPHA
        sums["effective"] += len(rows) / rate.design_effect
        sums["missed"] += np.count_nonzero(~first[rows])
    return {name: float(total) / SIMULATIONS for name, total in sums.items()}


def tables() -> str:
    """Return the table in Markdown."""
    rows = [
        (
            *row["key"].split("/"),
            share(row["sensitivity"]),
            share(row["difference"]),
            share(row["passed"]),
            f"{row['effective']:.0f}",
            f"{row['missed']:.0f}",
        )
        for row in kept("requested").rows()
    ]
    head = (
        "prevalence, patients drawn",
        "favoured, by",
        "sensitivity covered",
        "difference covered",
        "not inferior by 10 points",
        "effective positives",
        "missed by the champion",
    )
    lines = [
        f"{SIMULATIONS:,} draws from one frame of {FRAME:,} patients each; a candidate as good as "
        "the champion. How often 95 % intervals hold what is true of the frame, and how often the "
        "gate's test passes (one-sided α = .05):",
        "",
        *table(head, rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    kept("requested").measure(keys(), measured)
    sys.stdout.write(tables())
