"""Acquisition at one scanner: cause and place together, as the product comes to them.

    python tests/benchmarks/episodes/cause_places.py [--cache FOLDER]

Test windows of 200 scans in which something happened to one of three scanners, or to all. Each
scanner's scans are tested in both encoders' spaces, the smallest one that carries the shift is
looked for, and pattern and place name the cause. Counts are kept in `results/cause_places.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

for _pool in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_pool}_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).parents[1] / "drift"))

import numpy as np  # noqa: E402  after the thread limits
from cause_embeddings import CACHE  # noqa: E402
from cause_evidence import REFERENCES, ROLES, Block, Measured, windows  # noqa: E402
from cause_windows import SCANNERS, Truth, Window  # noqa: E402

from monitor.episodes.causes import ShiftEvidence, diagnose  # noqa: E402
from monitor.evaluation import benjamini_hochberg  # noqa: E402
from monitor.localising import Place, SubgroupVerdict, locate  # noqa: E402
from monitor.profiles import LEAST_WINDOW_SCANS  # noqa: E402
from monitor.statistics.attribution.classifier import shipped_classifier  # noqa: E402
from monitor.subgroups import Attribute, Subgroup  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "cause_places.json"
SCANS, RUNS = 200, 4
_KINDS = (Truth.TECHNICAL, Truth.POPULATION, Truth.ROUTING)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def place(measured: Measured, window: Window) -> tuple[Place, tuple[SubgroupVerdict, ...]]:
    """Return where a shift is by the encoder that sees it more clearly, or else by the other."""
    found = []
    for name, bank in measured.banks.items():
        profile, embeddings = measured.views[name].profile, bank.embeddings[window.rows]
        patients = measured.patients[window.rows]
        parts = [(scanner, np.flatnonzero(window.scanners == scanner)) for scanner in SCANNERS]
        parts = [(one, rows) for one, rows in parts if len(rows) >= LEAST_WINDOW_SCANS]
        verdicts = [profile.check(embeddings[rows], patients[rows]) for _, rows in parts]
        adjusted = benjamini_hochberg([one.p_value for one in verdicts])
        tested = tuple(
            SubgroupVerdict(
                subgroup=Subgroup.of(Attribute.STATION, scanner),
                scans=frozenset(rows.tolist()),
                verdict=verdict,
                profile_digest="",
                compared_with=None,
                adjusted_p_value=p_value,
                persistence_p_value=p_value,
                adjusted_persistence_p_value=p_value,
                onset=_NOW,
            )
            for (scanner, rows), verdict, p_value in zip(parts, verdicts, adjusted, strict=True)
        )
        whole = profile.check(embeddings, patients).p_value
        found.append((min(whole, *adjusted), locate(tested, scans=len(patients)), tested))
    found.sort(key=lambda one: one[0])
    _, where, tested = next((one for one in found if one[1].carrier), found[0])
    return where, tested


def measure(cache: Path) -> dict[str, Any]:
    """Count what is said, by what happened and at how many scanners."""
    classifier = shipped_classifier()
    counts: dict[str, Counter[str]] = {}
    for reference in REFERENCES:
        measured = Measured("test", reference, cache)
        for run in range(RUNS):
            block = Block(part="test", reference=reference, scans=SCANS, run=run)
            for window in windows(block, measured):
                truth, scanner = window.plan.truth, window.plan.scanner
                if truth not in _KINDS:
                    continue
                shifts = measured.shifts(window)
                missed = min(measured.p_value(one) for one in shifts.values()) > 0.05 / 2
                where, tested = place(measured, window)
                for roles in ROLES:
                    pattern = classifier.answer(measured.pattern(window, shifts, roles))
                    said = diagnose(
                        ShiftEvidence(
                            place=where,
                            tested=tested,
                            reference_shares={},
                            place_shares={},
                            displaced_share=0.0,
                            pattern=pattern,
                        )
                    )
                    named = (
                        "nowhere in particular"
                        if where.subgroup is None
                        else (
                            "the scanner"
                            if str(where.subgroup) == f"station={scanner}"
                            else "another scanner"
                        )
                    )
                    answer = "missed" if missed else f"{said.cause.value}, {named}"
                    at = "one scanner" if scanner else "all scanners"
                    counts.setdefault(f"{truth.value} at {at}", Counter())[answer] += 1
        sys.stderr.write(f"reference {reference}\n")
    return {key: dict(one) for key, one in counts.items()}


def report(counts: dict[str, dict[str, int]]) -> str:
    """Return the table, in Markdown."""
    lines = [
        "### Cause and place",
        "",
        f"Windows of {SCANS} scans, three scanners. Goal for technical at one scanner: acquisition "
        "at that scanner in at least 90 %, wrong in at most 2 %.",
        "",
        "| what happened | windows | what was said, in % |",
        "|---|---|---|",
    ]
    for key, own in sorted(counts.items()):
        total = sum(own.values())
        said = sorted(own.items(), key=lambda one: -one[1])
        words = "; ".join(f"{name} {100 * count / total:.1f}" for name, count in said)
        lines.append(f"| {key} | {total} | {words} |")
    return "\n".join(lines)


def main() -> None:
    """Count what lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE)
    chosen = parser.parse_args()
    if not RESULTS.exists():
        found = measure(chosen.cache)
        RESULTS.write_text(json.dumps(found, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(report(json.loads(RESULTS.read_text(encoding="utf-8"))) + "\n")


if __name__ == "__main__":
    main()
