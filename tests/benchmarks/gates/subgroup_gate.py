"""Subgroups: how often an equal candidate is refused, and a harmful one let through.

    python tests/benchmarks/gates/subgroup_gate.py

Eight sites with as many positives and negatives each; the champion reads at 92 % and 86 %, and
both models' errors correlate at .9. What was counted is kept in `results/subgroup_gate.jsonl`.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from simulated import KEPT, LIMITS, SIMULATIONS, SITES, generator, kept, share, shares, table
from simulated_results import Simulation

from retrain.gates.outcome import GateOutcome, Outcome
from retrain.gates.subgroups import subgroups

SIZES = (30, 60, 120)
CANDIDATES = {
    "equal": {},
    "10 points worse in sensitivity at one site": {
        "candidate_within": {("site", "site C"): (0.82, 0.86)}
    },
    "20 points worse in sensitivity at one site": {
        "candidate_within": {("site", "site C"): (0.72, 0.86)}
    },
    "6 points worse in sensitivity everywhere": {"candidate": (0.86, 0.86)},
}
_AT_C = "subgroups/site=site C/drifted/sensitivity"


def measured(key: str) -> dict[str, float]:
    """Simulate one cell."""
    size, candidate = key.split("/")
    rng = generator(key)
    equal = Simulation(
        positives=8 * int(size),
        negatives=8 * int(size),
        attributes={"site": SITES},
        correlation=0.9,
    )
    drifted = replace(equal, **CANDIDATES[candidate])

    def draw() -> dict[str, bool]:
        gate = subgroups(
            drifted.draw(rng), reference=equal.draw(rng), impact=KEPT, limits=LIMITS
        )
        [at_c] = [part for part in gate.parts if part.name == _AT_C]
        return {
            **{f"gate {outcome}": gate.outcome is outcome for outcome in Outcome},
            **{f"C {outcome}": at_c.outcome is outcome for outcome in Outcome},
            "gate pooled alone": all(_pooled_low(part) > -0.1 for part in gate.parts),
            "C pooled alone": _pooled_low(at_c) > -0.1,
            "heterogeneous": at_c.figures["pooled"]["heterogeneity_p"] <= 0.1,
        }

    return {**shares(draw, simulations=SIMULATIONS), **_widths(equal, rng)}


def _pooled_low(part: GateOutcome) -> float:
    return float(part.figures["pooled"]["low"])


def _widths(equal: Simulation, rng) -> dict[str, float]:
    gate = subgroups(equal.draw(rng), reference=equal.draw(rng), impact=KEPT, limits=LIMITS)
    own = sum(part.interval.high - part.interval.low for part in gate.parts)
    pooled = sum(
        part.figures["pooled"]["high"] - part.figures["pooled"]["low"] for part in gate.parts
    )
    return {"width": pooled / own}


def tables() -> str:
    """Return the table in Markdown."""
    rows = {row["key"]: row for row in kept("subgroup_gate").rows()}
    body = []
    for size in SIZES:
        for candidate in CANDIDATES:
            row = rows.get(f"{size}/{candidate}")
            if row is not None:
                body.append(
                    (
                        str(size),
                        candidate,
                        *(share(row[f"gate {outcome}"]) for outcome in Outcome),
                        share(row["C passed"]),
                        share(row["C failed"]),
                        share(row["gate pooled alone"]),
                        share(row["C pooled alone"]),
                        share(row["heterogeneous"]),
                        f"{row['width']:.2f}",
                    )
                )
    head = (
        "positives a site",
        "candidate",
        "gate passed",
        "gate failed",
        "not evaluable",
        "site C passed",
        "site C failed",
        "gate, pooled alone",
        "site C, pooled alone",
        "sites found to differ",
        "width, pooled to own",
    )
    lines = [
        f"{SIMULATIONS:,} simulations of each line; eight sites, sensitivity and specificity, both "
        "locked sets, margins of 10 points, one-sided α = .05, harm at .05 by Holm. *Pooled "
        "alone* is what a gate would let through that believed partial pooling and no "
        "subgroup's own scans; *found to differ* is Cochran's Q for sensitivity in the drifted set, "
        "p ≤ .10.",
        "",
        *table(head, body),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    kept("subgroup_gate").measure(
        (f"{size}/{one}" for size in SIZES for one in CANDIDATES), measured
    )
    sys.stdout.write(tables())
