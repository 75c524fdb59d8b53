"""Gates' outcomes as they are read: on a page, in an evidence pack, on a terminal.

Everything here starts from the record of an outcome (`retrain.gates.outcome.GateOutcome.as_record`),
which is what the database keeps.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrain.gates.outcome import Gate, Outcome

WIDTH = 100
#: room for an outcome's word on a terminal
_OUTCOME = 15

_NAMES = {
    Gate.SUPERIORITY.value: "superior where it drifted",
    Gate.NON_INFERIORITY.value: "not inferior on the reference",
    Gate.CUMULATIVE.value: "not inferior to what was last reviewed",
    Gate.SUBGROUPS.value: "no subgroup harmed",
    Gate.CLASSES.value: "no class read worse",
    Gate.ROBUSTNESS.value: "robust to small changes of the acquisition",
    Gate.DEPLOYMENT.value: "fast and small enough",
    Gate.PARITY.value: "ONNX and torch agree",
    "first_version_auc": "AUC of a first version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a comparison found between two models, in points or in units of the AUC."""

    #: of candidate less champion: a rate's in points, an AUC's as it is
    estimate: float
    low: float
    high: float
    #: what `low` is held against
    margin: float
    #: decimals that it is written with
    digits: int
    unit: str

    @property
    def size(self) -> str:
        """The difference with its sign and unit."""
        return self._signed(self.estimate) + self.unit

    @property
    def interval(self) -> str:
        return f"{self._signed(self.low)} to {self._signed(self.high)}"

    @property
    def limit(self) -> str:
        return self._signed(self.margin)

    @property
    def in_points(self) -> Difference:
        """The difference on the scale that drawings share: hundredths of a rate or of the AUC."""
        if self.unit:
            return self
        return Difference(
            estimate=100 * self.estimate,
            low=100 * self.low,
            high=100 * self.high,
            margin=100 * self.margin,
            digits=1,
            unit=" hundredths",
        )

    def _signed(self, value: float) -> str:
        value = round(value, self.digits)
        if not value:
            return "0"
        return f"{value:+.{self.digits}f}".replace("-", "−")


def gate_name(name: str) -> str:
    """Return a gate's name in words; of a part, what it adds to its gate's.

    >>> gate_name("no_patient_on_both_sides"), gate_name("calibration/slope")
    ('no patient on both sides', 'slope')
    """
    if name in _NAMES:
        return _NAMES[name]
    gate, _, part = name.partition("/")
    words = (part or gate).replace("_", " ").replace("/", ", ")
    return words.replace("auc", "AUC")


def difference(detail: Mapping[str, Any]) -> Difference | None:
    """Return the difference between two models that an outcome rests on, or None.

    >>> found = difference(
    ...     {
    ...         "name": "subgroups/sex=F/reference/specificity",
    ...         "estimate": -0.058,
    ...         "interval": {"low": -0.136, "high": -0.005, "level": 0.9},
    ...         "margin": -0.1,
    ...     }
    ... )
    >>> found.size, found.interval, found.limit
    ('−5.8 points', '−13.6 to −0.5', '−10.0')
    """
    measure = detail["name"].rpartition("/")[2].lower()
    interval, estimate, margin = detail["interval"], detail["estimate"], detail["margin"]
    compares = "/" in detail["name"] and measure in {"sensitivity", "specificity", "auc"}
    if not compares or interval is None or estimate is None:
        return None
    factor, digits, unit = (1, 3, "") if measure == "auc" else (100, 1, " points")
    return Difference(
        estimate=factor * estimate,
        low=factor * interval["low"],
        high=factor * interval["high"],
        margin=factor * (margin or 0.0),
        digits=digits,
        unit=unit,
    )


def differences(detail: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Difference]]:
    """Yield what of a gate compares two models, its parts or itself, with the difference."""
    for one in detail["parts"] or [detail]:
        found = difference(one)
        if found is not None:
            yield one, found


def uses(detail: Mapping[str, Any]) -> str | None:
    """Return how often a gate's locked set has judged, where it says so."""
    found = detail["figures"].get("uses")
    if found is None:
        return None
    return f"candidate {found['before'] + 1} of at most {found['declared']} on this locked set"


def gate_lines(details: Sequence[Mapping[str, Any]], *, width: int = WIDTH) -> list[str]:
    """Return gates for a terminal: each comparison a line, and in words what did not pass.

    Parameters
    ----------
    details
        records of outcomes
    width
        characters of a line
    """
    return [line for detail in details for line in _gate(detail, width)]


def _gate(detail: Mapping[str, Any], width: int) -> Iterator[str]:
    head = detail["outcome"].replace("_", " ").ljust(_OUTCOME)
    name, used = gate_name(detail["name"]), uses(detail)
    if not detail["parts"]:
        yield from _words(f"{name}: {detail['sentence']}", _OUTCOME, width, head=head)
        return
    yield head + name + (f" ({used})" if used else "")
    names = [gate_name(part["name"]) for part in detail["parts"]]
    room = max(len(name) for name in names)
    for name, part in zip(names, detail["parts"], strict=True):
        found = difference(part)
        passed = part["outcome"] == Outcome.PASSED
        mark = " " if passed else "!"
        line = f"{mark:>{_OUTCOME}} {name.ljust(room)}"
        if found is not None:
            line += f"  {found.size:>13} ({found.interval}), margin {found.limit}"
        yield line.rstrip()
        if found is None or not passed:
            yield from _words(part["sentence"], _OUTCOME + 3, width)


def _words(sentence: str, indent: int, width: int, *, head: str | None = None) -> list[str]:
    blank = " " * indent
    return textwrap.wrap(
        sentence,
        width,
        initial_indent=blank if head is None else head,
        subsequent_indent=blank,
        break_long_words=False,
        break_on_hyphens=False,
    )
