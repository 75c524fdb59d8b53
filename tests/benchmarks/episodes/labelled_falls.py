"""Falls that labels show, asked anew with each: false alarms over all time, and what it costs.

    python tests/benchmarks/episodes/labelled_falls.py [--sequences N]

A unit is one setting: a reference and patients in sequence, of whom a share is read right. The
test by betting is asked after every patient; beside it stands a test of fixed size, asked once
after the patients that give it a power of 80 %, and asked after every patient as well. What was
measured is kept line by line in `results/labelled_falls.jsonl`, so that a run can stop and go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent / "drift")]

import numpy as np  # noqa: E402  after the thread limits
import numpy.typing as npt  # noqa: E402
from results import Results  # noqa: E402
from scipy.stats import norm  # noqa: E402

from monitor.performance.falls import IMPACT_ALPHA, MARGINS  # noqa: E402
from monitor.statistics.performance.discrimination import Area, estimate_auc  # noqa: E402
from monitor.statistics.performance.independent_differences import independent_difference  # noqa: E402
from monitor.statistics.performance.proportions import Proportion, proportion  # noqa: E402
from monitor.statistics.performance.recalibration import LEAST_PATIENTS  # noqa: E402
from monitor.statistics.performance.sequential_falls import (  # noqa: E402
    area_fall_in_sequence,
    fall_in_sequence,
)

MARGIN, ALPHA, POWER = MARGINS["sensitivity"], IMPACT_ALPHA / len(MARGINS), 0.8
AREA_MARGIN = MARGINS["AUC"]
LONGEST, LOOKS = 600, (0.05, ALPHA)
#: reference patients, share read right there, share read right after
NULLS = (
    (100, 0.9, 0.9),
    (100, 0.9, 0.85),
    (400, 0.9, 0.85),
    (400, 0.8, 0.75),
    (2000, 0.95, 0.9),
)
FALLS = (
    (100, 0.9, 0.65),
    (400, 0.9, 0.75),
    (400, 0.9, 0.65),
    (400, 0.8, 0.6),
    (2000, 0.95, 0.85),
    (2000, 0.95, 0.75),
)


#: the same of areas under a ROC curve, a third of patients with the finding
NULL_AREAS = ((150, 0.9, 0.9), (150, 0.9, 0.88), (600, 0.9, 0.88), (600, 0.96, 0.94))
AREA_FALLS = ((150, 0.9, 0.75), (600, 0.9, 0.8), (600, 0.96, 0.88), (600, 0.96, 0.84))
EVERY = 20


def key(setting: tuple[int, float, float]) -> str:
    """Return a setting's name."""
    return "/".join(str(part) for part in setting)


def fixed_size(of_reference: int, before: float, after: float) -> int:
    """Return the patients that give a test asked once its power, the reference's error known."""
    gap = before - MARGIN - after
    allowed = (gap / (norm.isf(ALPHA) + norm.isf(1 - POWER))) ** 2 - before * (
        1 - before
    ) / of_reference
    return (
        LONGEST if allowed <= 0 else min(LONGEST, int(np.ceil(after * (1 - after) / allowed)))
    )


def measure(setting: tuple[int, float, float], *, sequences: int) -> dict[str, Any]:
    """Measure one setting."""
    of_reference, before, after = setting
    rng = np.random.default_rng(zlib.crc32(key(setting).encode()))
    once = fixed_size(*setting) if before - MARGIN > after else LONGEST
    found: dict[str, list[Any]] = {"betting": [], "once": [], "repeated": []}
    for _ in range(sequences):
        reference = proportion(rng.random(of_reference) < before, level=0.95)
        values = rng.random(LONGEST) < after
        found["betting"].append(
            [first_found(values, reference, alpha=alpha) for alpha in LOOKS]
        )
        looks = [fixed(values[:seen], reference) for seen in range(25, LONGEST + 1, 25)]
        found["repeated"].append([bool(min(looks) <= alpha) for alpha in LOOKS])
        found["once"].append(bool(fixed(values[:once], reference) <= ALPHA))
    return {"setting": list(setting), "once_after": once, **found}


def measure_area(setting: tuple[int, float, float], *, sequences: int) -> dict[str, Any]:
    """Measure one setting of an area, looked at after every 20 patients."""
    of_reference, before, after = setting
    rng = np.random.default_rng(zlib.crc32(f"area {key(setting)}".encode()))
    found = []
    for _ in range(sequences):
        reference = _areas(rng, of_reference, before, every=of_reference)[-1]
        looks = _areas(rng, LONGEST, after, every=EVERY)
        p_values = [
            area_fall_in_sequence(looks[:seen], reference, margin=AREA_MARGIN).p_value
            for seen in range(1, len(looks) + 1)
        ]
        found.append(
            [
                next(
                    (
                        look.patients
                        for look, p_value in zip(looks, p_values, strict=True)
                        if p_value <= alpha
                    ),
                    None,
                )
                for alpha in LOOKS
            ]
        )
    return {"setting": list(setting), "betting": found}


def _areas(rng: np.random.Generator, patients: int, area: float, *, every: int) -> list[Area]:
    truth = np.arange(patients) % 3 == 0
    scores = np.where(truth, np.sqrt(2) * norm.ppf(area), 0.0) + rng.normal(size=patients)
    looks = range(max(every, 3 * LEAST_PATIENTS), patients + 1, every)
    return [estimate_auc(scores[:seen], truth[:seen], level=0.95) for seen in looks]


def first_found(
    values: npt.NDArray[np.bool_], reference: Proportion, *, alpha: float
) -> int | None:
    """Return after how many patients a fall is found, by halving: evidence never goes."""
    if fall_in_sequence(values, reference, margin=MARGIN).p_value > alpha:
        return None
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        seen = fall_in_sequence(values[:middle], reference, margin=MARGIN)
        low, high = (low, middle) if seen.p_value <= alpha else (middle, high)
    return high


def fixed(values: npt.NDArray[np.bool_], reference: Proportion) -> float:
    """Return the p-value of a test of fixed size, as Newcombe's interval has it."""
    now = proportion(values, level=0.95)
    return independent_difference(now, reference, level=0.95).p_greater(MARGIN)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the tables, in Markdown."""
    by_key = {row["key"]: row for row in rows}
    lines = [
        f"Found at any time up to {LONGEST} patients, at 5 % and at {100 * ALPHA:.2f} %, margin "
        f"{MARGIN:g}",
        "",
        "| reference, before, after | sequences | betting 5 % | betting | repeated 5 % | repeated |",
        "|---|---|---|---|---|---|",
    ]
    for setting in NULLS:
        row = by_key[key(setting)]
        betting = [np.mean([one[i] is not None for one in row["betting"]]) for i in (0, 1)]
        repeated = [np.mean([one[i] for one in row["repeated"]]) for i in (0, 1)]
        cells = " | ".join(f"{share:.3f}" for share in (*betting, *repeated))
        lines.append(f"| {_words(setting)} | {len(row['once'])} | {cells} |")
    lines += [
        "",
        "| reference, before, after | once, after | power then | betting: power then | "
        "twice as many | found after (quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    for setting in FALLS:
        row = by_key[key(setting)]
        after = np.array([LONGEST + 1 if one[1] is None else one[1] for one in row["betting"]])
        once = row["once_after"]
        lines.append(
            f"| {_words(setting)} | {once} | {np.mean(row['once']):.2f} | "
            f"{np.mean(after <= once):.2f} | {np.mean(after <= 2 * once):.2f} | "
            f"{_quartiles([one[1] for one in row['betting']])} |"
        )
    lines += [
        "",
        f"Areas, margin {AREA_MARGIN:g}, looked at after every {EVERY} patients",
        "",
        "| reference, before, after | sequences | found at 5 % | found | after (quartiles) |",
        "|---|---|---|---|---|",
    ]
    for setting in (*NULL_AREAS, *AREA_FALLS):
        found = by_key[f"area {key(setting)}"]["betting"]
        shares = [np.mean([one[i] is not None for one in found]) for i in (0, 1)]
        lines.append(
            f"| {_words(setting)} | {len(found)} | {shares[0]:.3f} | {shares[1]:.3f} | "
            f"{_quartiles([one[1] for one in found])} |"
        )
    return "\n".join(lines)


def _quartiles(found: Sequence[int | None]) -> str:
    after = [LONGEST + 1 if one is None else one for one in found]
    return ", ".join(
        f"{value:.0f}" if value <= LONGEST else f"> {LONGEST}"
        for value in np.quantile(after, (0.25, 0.5, 0.75), method="nearest")
    )


def _words(setting: tuple[int, float, float]) -> str:
    return f"{setting[0]}, {setting[1]:g}, {setting[2]:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=200)
    sequences = parser.parse_args().sequences
    results = Results("labelled_falls", folder=HERE / "results")
    settings = {key(setting): setting for setting in (*NULLS, *FALLS)}
    results.measure(settings, lambda name: measure(settings[name], sequences=sequences))
    areas = {f"area {key(setting)}": setting for setting in (*NULL_AREAS, *AREA_FALLS)}
    results.measure(areas, lambda name: measure_area(areas[name], sequences=sequences))
    sys.stdout.write(report(results.rows()) + "\n")


if __name__ == "__main__":
    main()
