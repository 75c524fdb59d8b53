"""What a gate says, and what all of them say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from monitor.statistics.performance.proportions import Interval
from registry.canonical import Json, to_json
from registry.errors import BadInputError
from retrain.gates.limits import GateLimits


class Gate(StrEnum):
    """The gates there are, by the names that plans use."""

    SUPERIORITY = "superiority_where_it_drifted"
    NON_INFERIORITY = "non_inferiority_on_reference"
    CUMULATIVE = "cumulative"
    SUBGROUPS = "subgroups"
    CLASSES = "every_class"
    CALIBRATION = "calibration"
    ROBUSTNESS = "robustness"
    DEPLOYMENT = "latency_and_size"
    PARITY = "parity"
    PATIENTS = "no_patient_on_both_sides"
    PROVENANCE = "label_provenance"


class Outcome(StrEnum):
    """What became of a gate; only `PASSED` lets a candidate through."""

    PASSED = "passed"
    FAILED = "failed"
    #: the evidence cannot decide: a restriction or a person must
    NOT_EVALUABLE = "not_evaluable"


#: Gravest first: the outcome of several is the gravest of theirs.
_GRAVITY = (Outcome.FAILED, Outcome.NOT_EVALUABLE, Outcome.PASSED)


def gravest(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the gravest of at least one outcome."""
    return min(outcomes, key=_GRAVITY.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """One comparison, or a gate that is made of several."""

    name: str
    outcome: Outcome
    #: which statistic decided
    statistic: str
    estimate: float | None
    interval: Interval | None
    #: what estimate or interval is held against
    margin: float | None
    p_value: float | None
    #: scans (labels, patients) that the figures rest on
    n: int
    #: for a person who reads nothing else
    sentence: str
    parts: tuple[GateOutcome, ...] = ()
    #: what else was computed, by name: a pooled estimate, the points of a curve
    figures: Mapping[str, Json] = field(default_factory=dict)

    def as_record(self) -> dict[str, Json]:
        """Return the outcome as JSON, for the ledger and the pages."""
        interval: Json = None
        if self.interval is not None:
            interval = {
                "low": self.interval.low,
                "high": self.interval.high,
                "level": self.interval.level,
            }
        return {
            "name": self.name,
            "outcome": to_json(self.outcome),
            "statistic": self.statistic,
            "estimate": self.estimate,
            "interval": interval,
            "margin": self.margin,
            "p_value": self.p_value,
            "n": self.n,
            "sentence": self.sentence,
            "figures": dict(self.figures),
            "parts": [part.as_record() for part in self.parts],
        }


def named(outcome: GateOutcome, gate: Gate, finding: str) -> GateOutcome:
    """Return a gate's outcome for one of several findings, which its names and sentences say.

    The only finding of a task has no name, and its outcome stays as it is.
    """
    if not finding:
        return outcome
    return replace(
        outcome,
        name=f"{gate}/{finding}{outcome.name.removeprefix(gate)}",
        sentence=f"{finding}: {outcome.sentence}",
        parts=tuple(named(part, gate, finding) for part in outcome.parts),
    )


def not_evaluable(name: str, *, statistic: str, n: int, sentence: str) -> GateOutcome:
    """Return the outcome of a comparison for which the evidence does not suffice."""
    return GateOutcome(
        name=name,
        outcome=Outcome.NOT_EVALUABLE,
        statistic=statistic,
        estimate=None,
        interval=None,
        margin=None,
        p_value=None,
        n=n,
        sentence=sentence,
    )


def all_of(name: str, parts: Sequence[GateOutcome]) -> GateOutcome:
    """Return a gate that passes if all its parts do, with the figures of the one that decided.

    That is the first part with the gravest outcome. Each part is tested at the full alpha:
    a claim that needs all of them (an intersection-union test, Berger 1982, Technometrics
    24:295-300) is no more often wrong than the part most often wrong.
    """
    if not parts:
        raise BadInputError(f"gate {name} has nothing to compare: give it at least one part")
    outcome = gravest([part.outcome for part in parts])
    grave = [part for part in parts if part.outcome is outcome]
    decisive = grave[0]
    return GateOutcome(
        name=name,
        outcome=outcome,
        statistic=decisive.statistic,
        estimate=decisive.estimate,
        interval=decisive.interval,
        margin=decisive.margin,
        p_value=decisive.p_value,
        n=decisive.n,
        sentence=" ".join(part.sentence for part in grave),
        parts=tuple(parts),
    )


#: Stands in every report, so that a reader years later need not ask.
MULTIPLICITY = (
    "Every gate, and every co-primary measure within one, must pass at its full alpha "
    "(intersection-union), which needs no correction. Refusals for harm in a subgroup are "
    "Holm-corrected over all subgroups and measures. The alpha of superiority is shared out "
    "over the candidates that a locked set may judge, the first of K at 1 / (1 + ... + 1/K) of "
    "it, the second at half of that, and so on: it is the chance that any of them is wrongly "
    "found superior."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """The verdict of all gates that a plan asks for."""

    verdict: Outcome
    outcomes: tuple[GateOutcome, ...]
    limits: GateLimits
    sentence: str

    def of(self, gate: Gate) -> GateOutcome:
        """Return the outcome of one gate.

        Raises
        ------
        BadInputError
            If the gate was not evaluated.
        """
        for outcome in self.outcomes:
            if outcome.name == gate:
                return outcome
        raise BadInputError(f"gate {gate} is not in this report: the plan did not ask for it")

    def as_record(self) -> dict[str, Json]:
        """Return the report as JSON, for the ledger and the pages."""
        return {
            "verdict": to_json(self.verdict),
            "sentence": self.sentence,
            "gates": [outcome.as_record() for outcome in self.outcomes],
            "limits": self.limits.as_record(),
            "multiplicity": MULTIPLICITY,
        }
