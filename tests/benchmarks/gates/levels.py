"""Levels and power: how often gates pass what they should not, and refuse what they should.

    python tests/benchmarks/gates/levels.py

What was counted is kept in `results/levels.jsonl`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np
from simulated import LIMITS, SIMULATIONS, generator, kept, share, shares, table
from simulated_results import Simulation

from retrain.gates.impact import Change, MeasuredImpact
from retrain.gates.outcome import GateOutcome, Outcome
from retrain.gates.performance import non_inferiority_on_reference, superiority_where_it_drifted
from retrain.gates.results import PairedResults
from retrain.gates.spending import Uses

LOST = {
    "specificity": MeasuredImpact(
        sensitivity=Change.KEPT, specificity=Change.LOST, auc=Change.LOST
    ),
    "sensitivity": MeasuredImpact(
        sensitivity=Change.LOST, specificity=Change.KEPT, auc=Change.LOST
    ),
    "both": MeasuredImpact(sensitivity=Change.LOST, specificity=Change.LOST, auc=Change.LOST),
    "AUC alone": MeasuredImpact(
        sensitivity=Change.KEPT, specificity=Change.KEPT, auc=Change.LOST
    ),
}
SCANS_OF_A_PATIENT = (1, 4)
#: the drifted set: with, and without the finding
DRIFTED = {"small": (219, 81), "large": (880, 320)}
#: name -> rates of candidate where champion has (.92, .60)
REPAIRS = {
    "no better": (0.92, 0.60),
    "+8 points": (0.92, 0.68),
    "+15 points": (0.92, 0.75),
    "+26 points": (0.92, 0.86),
}
REFERENCE = {
    "equal": (0.92, 0.86),
    "2 points worse in both": (0.90, 0.84),
    "worse by the margin in sensitivity (5)": (0.87, 0.86),
    "worse by the margin in specificity (10)": (0.92, 0.76),
    "10 points worse in sensitivity": (0.82, 0.86),
    "10 points worse in both": (0.82, 0.76),
}
CANDIDATES_OF_A_SET = 5


def keys() -> list[str]:
    """Return every cell."""
    return [
        *(
            f"null/{lost}/{size}/{scans}"
            for lost in LOST
            for size in DRIFTED
            for scans in SCANS_OF_A_PATIENT
            # A quarter of the small set's patients are fewer than a plan asks for.
            if (size, scans) != ("small", 4)
        ),
        *(f"repair/{one}/{scans}" for one in REPAIRS for scans in SCANS_OF_A_PATIENT),
        *(f"reference/{one}/{scans}" for one in REFERENCE for scans in SCANS_OF_A_PATIENT),
        "several",
    ]


def measured(key: str) -> dict[str, float]:
    """Simulate one cell."""
    kind, *place = key.split("/")
    return _CELLS[kind](generator(key), *place)


def _clustered(scans: str, **changes) -> Simulation:
    return Simulation(scans_of_a_patient=int(scans), **changes)


def _reference(rng, scans: str) -> PairedResults:
    return _clustered(scans, positives=480, negatives=240, correlation=0.9).draw(rng)


def _null(rng, lost: str, size: str, scans: str) -> dict[str, float]:
    reference = _reference(rng, scans)
    positives, negatives = DRIFTED[size]
    # A champion that lost, and a candidate that repairs nothing.
    rates = (0.80, 0.70)
    drifted = _clustered(
        scans, positives=positives, negatives=negatives, champion=rates, candidate=rates
    )

    def draw() -> dict[str, bool]:
        gate = superiority_where_it_drifted(
            drifted.draw(rng), reference=reference, impact=LOST[lost], limits=LIMITS
        )
        return {
            "claimed": all(
                part.outcome is Outcome.PASSED for part in gate.parts if part.margin == 0.0
            ),
            "passed": gate.outcome is Outcome.PASSED,
        }

    return shares(draw, simulations=SIMULATIONS)


def _repair(rng, name: str, scans: str) -> dict[str, float]:
    reference = _reference(rng, scans)
    drifted = _clustered(
        scans, positives=220, negatives=220, champion=(0.92, 0.60), candidate=REPAIRS[name]
    )

    def draw() -> dict[str, bool]:
        results = drifted.draw(rng)

        def passed(uses: Uses) -> bool:
            gate = superiority_where_it_drifted(
                results,
                reference=reference,
                impact=LOST["specificity"],
                limits=LIMITS,
                uses=uses,
            )
            return gate.outcome is Outcome.PASSED

        return {
            "only": passed(Uses(before=0, declared=1)),
            "first of 5": passed(Uses(before=0, declared=5)),
            "fifth of 5": passed(Uses(before=4, declared=5)),
        }

    return shares(draw, simulations=SIMULATIONS)


def _on_reference(rng, name: str, scans: str) -> dict[str, float]:
    simulation = _clustered(
        scans, positives=364, negatives=136, candidate=REFERENCE[name], correlation=0.9
    )

    def draw() -> dict[str, bool]:
        gate = non_inferiority_on_reference(simulation.draw(rng), limits=LIMITS)
        return {
            "passed": gate.outcome is Outcome.PASSED,
            **{part.name.split("/")[1]: _passed(part) for part in gate.parts},
        }

    return shares(draw, simulations=SIMULATIONS)


def _several(rng) -> dict[str, float]:
    """Let one set judge five candidates that are no better, each unlike the next."""
    reference = _reference(rng, "1")
    drifted = Simulation(
        positives=220, negatives=220, champion=(0.9, 0.6), candidate=(0.9, 0.6)
    )

    def draw() -> dict[str, bool]:
        first = drifted.draw(rng)
        champion = first.champion
        noise = rng.normal(size=(CANDIDATES_OF_A_SET, first.scans))
        logits = np.log(champion / (1 - champion))
        centre = np.where(first.truth, logits[first.truth].mean(), logits[~first.truth].mean())
        any_, spent = False, False
        for number in range(CANDIDATES_OF_A_SET):
            # As the champion's distribution, correlated with it at .8.
            score = centre + 0.8 * (logits - centre) + 0.6 * noise[number]
            results = replace(first, candidate=1 / (1 + np.exp(-score)))
            claim = partial(
                superiority_where_it_drifted,
                results,
                reference=reference,
                impact=LOST["specificity"],
                limits=LIMITS,
            )
            any_ |= _claims(claim())
            spent |= _claims(claim(uses=Uses(before=number, declared=CANDIDATES_OF_A_SET)))
        return {"each at alpha": any_, "alpha spent": spent}

    return shares(draw, simulations=SIMULATIONS)


def _claims(gate: GateOutcome) -> bool:
    return _passed(gate.parts[0])


def _passed(outcome: GateOutcome) -> bool:
    return outcome.outcome is Outcome.PASSED


_CELLS = {"null": _null, "repair": _repair, "reference": _on_reference, "several": _several}


def tables() -> str:
    """Return the tables in Markdown."""
    rows = {row["key"]: row for row in kept("levels").rows()}
    lines = [
        f"{SIMULATIONS:,} simulations of each line. A candidate exactly as good as the champion "
        "claims superiority (one-sided α = .025, which is at most .05 two-sided); *gate passed* "
        "asks for what was kept, too. Where patients have four scans, these share half of their "
        "variance.",
        "",
        *table(
            (
                "lost",
                "scans with, without",
                "scans a patient",
                "superiority claimed",
                "gate passed",
            ),
            [
                (
                    lost,
                    f"{DRIFTED[size][0]}, {DRIFTED[size][1]}",
                    scans,
                    share(row["claimed"]),
                    share(row["passed"]),
                )
                for key, row in rows.items()
                if key.startswith("null/")
                for _, lost, size, scans in [key.split("/")]
            ],
        ),
        "",
        "A repair of the specificity (champion 92 % and 60 %, 220 scans with and 220 without the "
        "finding): how often the gate passes, by which use of the locked set it is.",
        "",
        *table(
            ("candidate", "scans a patient", "the only use", "first of 5", "fifth of 5"),
            [
                (
                    name,
                    scans,
                    share(row["only"]),
                    share(row["first of 5"]),
                    share(row["fifth of 5"]),
                )
                for key, row in rows.items()
                if key.startswith("repair/")
                for _, name, scans in [key.split("/")]
            ],
        ),
        "",
        "On the reference (champion 92 % and 86 %, 364 scans with and 136 without the finding, "
        "margins of 5 points, 10 points and .03, one-sided α = .05): how often each measure, and "
        "all three, pass.",
        "",
        *table(
            ("candidate", "scans a patient", "sensitivity", "specificity", "AUC", "all three"),
            [
                (
                    name,
                    scans,
                    *(
                        share(row[one])
                        for one in ("sensitivity", "specificity", "AUC", "passed")
                    ),
                )
                for key, row in rows.items()
                if key.startswith("reference/")
                for _, name, scans in [key.split("/")]
            ],
        ),
    ]
    several = rows.get("several")
    if several is not None:
        lines += [
            "",
            f"One locked set judges {CANDIDATES_OF_A_SET} candidates in turn, none of them better: "
            f"at least one claims superiority in {share(several['each at alpha'])} where each is "
            f"tested at α = .025, and in {share(several['alpha spent'])} where α is spent over "
            "them.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    kept("levels").measure(keys(), measured)
    sys.stdout.write(tables())
