"""Tone curves, compared where the tables do not look: which moves the operating point alone?

    python tests/benchmarks/strategies/tones.py

First versions of both encoders on those children alone who are in no locked set of the tables
(`Deal(seed, tuning=True)`), and scans that differ in their tone curve alone. The tables have, of the
transformer, the curve that moves the operating point furthest of all that leave its AUC within
`KEEPS_AUC` (grays from .2 to .8), one that takes as much of its sensitivity (the update's own
sigmoid, of slope 6), a weaker and a stronger one. What was measured is kept line by line in
`results/tones.jsonl`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent / "drift"), str(HERE)]

from repairs import ENCODERS, first_version, judged  # noqa: E402
from results import Results  # noqa: E402
from sample_scans import Deal, Toned  # noqa: E402

from api.demo.acquisition import OLD_SOFTWARE, Processing  # noqa: E402
from monitor.performance.falls import MARGINS  # noqa: E402

SEED = 0
#: A change within this is none, in AUC, as the product has it; a point that moved has moved by
#: this, as a fraction.
KEEPS_AUC, MOVES = MARGINS["AUC"], 0.1
#: Gray values to a power or under a sigmoid, and black and white shown as other grays.
CURVES: Mapping[str, Processing] = {
    **{
        f"power {gamma:g}": Toned(version="toned", gamma=gamma)
        for gamma in (0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4, 1.6)
    },
    **{
        f"slope {contrast:g} in the middle": Processing(version="toned", contrast=contrast)
        for contrast in (2, 3, 4, 6, 7, 8)
    },
    **{
        f"grays from {black:g} to {white:g}": Processing(
            version="toned", black=black, white=white
        )
        for black, white in (
            *((0.1, 1), (0.2, 1), (0, 0.9), (0, 0.8)),
            *((0.1, 0.9), (0.15, 0.85), (0.2, 0.9), (0.2, 0.8)),
        )
    },
}


def measured(key: str) -> dict[str, Any]:
    """Judge one encoder's first version before and after one change of the tone curve."""
    encoder, curve = key.split("/")
    base, deal = first_version(encoder, SEED, tuning=True), Deal(SEED, tuning=True)
    return {
        "before": judged(base, deal.part("shift locked", OLD_SOFTWARE)),
        "after": judged(base, deal.part("shift locked", CURVES[curve])),
    }


def moved(row: Mapping[str, Any]) -> float:
    """Return by how much a change moved the operating point, in sensitivity or specificity."""
    return max(
        abs(row["after"][name] - row["before"][name]) for name in ("sensitivity", "specificity")
    )


if __name__ == "__main__":
    results = Results("tones", folder=HERE / "results")
    wanted = sys.argv[1:]
    keys = [f"{encoder}/{curve}" for encoder in ENCODERS for curve in CURVES]
    results.measure((key for key in keys if all(word in key for word in wanted)), measured)
    for row in sorted(results.rows(), key=moved, reverse=True):
        before, after = row["before"], row["after"]
        alone = abs(after["auc"] - before["auc"]) <= KEEPS_AUC and round(moved(row), 2) >= MOVES
        points = (
            f"{one['sensitivity']:.2f} / {one['specificity']:.2f}" for one in (before, after)
        )
        sys.stdout.write(
            f"{row['key']}: AUC {before['auc']:.3f} → {after['auc']:.3f}"
            f"{', the point alone' if alone else ''}; "
            f"sensitivity / specificity {' → '.join(points)}\n"
        )
