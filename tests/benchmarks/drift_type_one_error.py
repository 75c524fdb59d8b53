"""How often a profile alarms when nothing shifted, over references, windows and weeks.

    python tests/benchmarks/drift_type_one_error.py --references 50 --weeks 30
    python tests/benchmarks/drift_type_one_error.py --embeddings FILE.npy --reference 1200

Each line is one JSON document: rates with standard errors over references. With a file
of embeddings ([M, d]), reference and windows are disjoint random parts of it; without,
they come from synthetic populations.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from monitor.profiles import ReferenceProfile
from monitor.statistics.persistence import persistence_draws, persistence_statistic

_LEVELS = (0.05, 0.005)
#: scans and their patients
Sample: TypeAlias = tuple[np.ndarray, np.ndarray | None]
#: from patients in a reference, and in windows, to one of the first and some of the others
Source: TypeAlias = Callable[[int, list[int], np.random.Generator], list[Sample]]


def synthetic(*, dimension: int, scans_each: int) -> Source:
    """Return clusters with a falling spectrum and heavy tails, patients' scans alike."""

    def sample(reference: int, windows: list[int], rng: np.random.Generator) -> list[Sample]:
        scales = 1.0 / np.arange(1, dimension + 1)
        centres = 1.5 * rng.normal(size=(6, dimension)) * np.sqrt(scales)
        mixing, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))

        def draw(patients: int) -> Sample:
            own = rng.normal(size=(patients, dimension)) * scales
            own *= np.exp(0.3 * rng.normal(size=(patients, 1)))
            own += centres[rng.integers(0, len(centres), size=patients)]
            scans = np.repeat(own, scans_each, axis=0)
            if scans_each > 1:
                scans += 0.5 * scales * rng.normal(size=scans.shape)
            names = np.repeat(np.arange(patients), scans_each) if scans_each > 1 else None
            return (scans @ mixing).astype(np.float32), names

        return [draw(reference), *(draw(size) for size in windows)]

    return sample


def drawn_from(embeddings: np.ndarray) -> Source:
    """Return disjoint random parts of real embeddings; windows of a week are disjoint."""

    def sample(reference: int, windows: list[int], rng: np.random.Generator) -> list[Sample]:
        order = rng.permutation(len(embeddings))
        parts: list[Sample] = [(embeddings[order[:reference]], None)]
        for week in range(0, len(windows), 3):
            rest = rng.permutation(order[reference:])
            cuts = np.cumsum(windows[week : week + 3])
            parts += [
                (embeddings[rows], None) for rows in np.split(rest[: cuts[-1]], cuts[:-1])
            ]
        return parts

    return sample


def measure(
    source: Source, *, reference: int, window: int, references: int, weeks: int, seed: int
) -> dict[str, Any]:
    """Return the rates of the portfolio, of each detector, and of the persistence rule."""
    portfolio, rule = [], []
    detectors: dict[str, list[np.ndarray]] = {}
    for number in range(references):
        rng = np.random.default_rng([seed, number])
        (scans, names), *windows = source(reference, [window] * (3 * weeks), rng)
        profile = ReferenceProfile.fit(scans, names, seed=number)
        draws = persistence_draws(
            [window] * 3,
            reference_size=profile.patients,
            forms=profile.portfolio.forms,
            weights=np.array([member.weight for member in profile.portfolio.members]),
        )
        verdicts = [profile.check(part, patients) for part, patients in windows]
        p_values = np.array([verdict.p_value for verdict in verdicts]).reshape(weeks, 3)
        portfolio.append(p_values)
        below = np.searchsorted(draws, persistence_statistic(p_values), side="right")
        rule.append((1 + below) / (1 + len(draws)))
        for name in verdicts[0].detectors:
            one = np.array([verdict.detectors[name].p_value for verdict in verdicts])
            detectors.setdefault(name, []).append(one)
    return {
        "reference": reference,
        "window": window,
        "checks": 3 * weeks * references,
        "portfolio": _rates(np.stack(portfolio), levels=_LEVELS),
        "rule": _rates(np.stack(rule), levels=(0.05, 0.01, 0.005)),
        "detectors": {
            name: _rates(np.stack(values), levels=(0.05,)) for name, values in detectors.items()
        },
    }


def _rates(p_values: np.ndarray, *, levels: tuple[float, ...]) -> dict[str, list[float]]:
    """Return rate and standard error over references ([references, ...]) at each level."""
    rates = {}
    for level in levels:
        by_reference = (p_values <= level).reshape(len(p_values), -1).mean(axis=1)
        error = by_reference.std(ddof=1) / np.sqrt(len(by_reference))
        rates[str(level)] = [round(float(by_reference.mean()), 5), round(float(error), 5)]
    return rates


def main() -> None:
    """Measure each window size and write a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--scans-each", type=int, default=1)
    parser.add_argument("--reference", type=int, default=500)
    parser.add_argument("--windows", type=int, nargs="+", default=[100])
    parser.add_argument("--references", type=int, default=50)
    parser.add_argument("--weeks", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    source = (
        drawn_from(np.load(chosen.embeddings, allow_pickle=False))
        if chosen.embeddings
        else synthetic(dimension=chosen.dimension, scans_each=chosen.scans_each)
    )
    for window in chosen.windows:
        line = measure(
            source,
            reference=chosen.reference,
            window=window,
            references=chosen.references,
            weeks=chosen.weeks,
            seed=chosen.seed,
        )
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
