"""The cause of an episode: a tree, answered only as deep as the evidence allows.

Causes follow Castro et al. (2020), "Causality matters in medical imaging",
Nature Communications 11:3673. Pixels alone cannot tell an acquisition change
from a fault in the pipeline; metadata can. So an acquisition change is named
only where a new value of an equipment tag carries the shift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from monitor.subgroups import ACQUISITION, Attribute, Subgroup
from registry.canonical import Json

#: A new tag value explains a shift if at least this share of the window has it.
EXPLAINING_SHARE = 0.5
#: A value is new if at most this share of the reference has it.
NEW_SHARE = 0.005
#: At this share of scans beyond the reference's 95th percentile of outlier
#: scores, most scans are displaced, as a change of the image chain does.
DISPLACED_SHARE = 0.5


class Cause(StrEnum):
    """The tree's nodes; acquisition and pipeline stand below technical."""

    TECHNICAL = "technical"
    ACQUISITION = "acquisition"
    PIPELINE = "pipeline"
    PREVALENCE = "prevalence"
    CASE_MIX = "case mix"
    POPULATION = "population"
    PRACTICE = "practice"
    ROUTING = "routing"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftEvidence:
    """What is known of a shift when its cause is asked for."""

    #: attribute -> value -> share of scans, in the reference and in the shifted windows
    reference_shares: Mapping[Attribute, Mapping[str, float]]
    window_shares: Mapping[Attribute, Mapping[str, float]]
    #: p-values of the subgroups that were tested in the shifted windows
    subgroup_p_values: Mapping[Subgroup, float]
    #: share of scans beyond the reference's 95th percentile of outlier scores
    displaced_share: float
    #: level below which a subgroup counts as shifted
    alpha: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A cause, where it sits, and the evidence that decided."""

    cause: Cause
    subgroup: Subgroup | None
    #: one sentence for each piece of evidence, in the order of their weight
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Json]:
        return {
            "cause": self.cause.value,
            "subgroup": str(self.subgroup) if self.subgroup else None,
            "reasons": list(self.reasons),
        }


def diagnose(evidence: ShiftEvidence) -> Diagnosis:
    """Name the cause that the evidence allows, and the subgroup that carries the shift."""
    displaced = (
        f"{evidence.displaced_share:.0%} of scans lie beyond the reference's 95th percentile "
        "(5 % would be expected)"
    )
    carrier = _new_equipment(evidence)
    if carrier is not None:
        share = evidence.window_shares[carrier.attribute][carrier.value]
        reasons = (
            f"{_words(carrier)} is new: {share:.0%} of these scans have it, and none or almost "
            "none of the reference",
            _others(evidence, carrier),
            displaced,
        )
        return Diagnosis(cause=Cause.ACQUISITION, subgroup=carrier, reasons=reasons)
    where = _lone_subgroup(evidence)
    located = (
        (f"only {_words(where)} moved among the values of its attribute",) if where else ()
    )
    if evidence.displaced_share >= DISPLACED_SHARE:
        alike = "no equipment tag has a new value that would tell acquisition apart"
        return Diagnosis(
            cause=Cause.TECHNICAL, subgroup=where, reasons=(displaced, alike, *located)
        )
    unexplained = "no equipment tag has a new value"
    return Diagnosis(
        cause=Cause.UNKNOWN, subgroup=where, reasons=(displaced, unexplained, *located)
    )


def _new_equipment(evidence: ShiftEvidence) -> Subgroup | None:
    """Return the new equipment value that carries the shift: the most specific attribute first."""
    for attribute in ACQUISITION:
        known = evidence.reference_shares.get(attribute, {})
        for value, share in sorted(
            evidence.window_shares.get(attribute, {}).items(), key=lambda item: -item[1]
        ):
            subgroup = Subgroup(attribute=attribute, value=value)
            p_value = evidence.subgroup_p_values.get(subgroup)
            if (
                known.get(value, 0.0) <= NEW_SHARE
                and share >= EXPLAINING_SHARE
                and p_value is not None
                and p_value <= evidence.alpha
                and not _old_values_moved(evidence, subgroup)
            ):
                return subgroup
    return None


def _old_values_moved(evidence: ShiftEvidence, carrier: Subgroup) -> bool:
    return any(
        other.attribute is carrier.attribute and other != carrier and p_value <= evidence.alpha
        for other, p_value in evidence.subgroup_p_values.items()
    )


def _others(evidence: ShiftEvidence, carrier: Subgroup) -> str:
    others = [
        f"{other.value} (p = {p_value:.2g})"
        for other, p_value in evidence.subgroup_p_values.items()
        if other.attribute is carrier.attribute and other != carrier
    ]
    if not others:
        return "no scans of an older value arrived to compare with"
    return f"scans with an older value did not move: {', '.join(others)}"


def _lone_subgroup(evidence: ShiftEvidence) -> Subgroup | None:
    """Return the one subgroup that moved where its sisters did not, if there is exactly one."""
    by_attribute: dict[Attribute, list[tuple[Subgroup, bool]]] = {}
    for subgroup, p_value in evidence.subgroup_p_values.items():
        by_attribute.setdefault(subgroup.attribute, []).append(
            (subgroup, p_value <= evidence.alpha)
        )
    for tested in by_attribute.values():
        moved = [subgroup for subgroup, shifted in tested if shifted]
        if len(moved) == 1 and len(tested) > 1:
            return moved[0]
    return None


def shares(values: Sequence[str | None]) -> dict[str, float]:
    """Return each value's share; absent values count in the denominator only."""
    counts: dict[str, int] = {}
    for value in values:
        if value is not None:
            counts[value] = counts.get(value, 0) + 1
    return {value: count / len(values) for value, count in counts.items()}


def _words(subgroup: Subgroup) -> str:
    return f"{subgroup.attribute.value.replace('_', ' ')} {subgroup.value}"
