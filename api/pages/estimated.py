"""What is said of a champion on the scans of a shift while labels lack, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from api.pages import wording
from monitor.statistics.performance.estimated_performance import Assumption
from monitor.tables import EpisodeRow

#: Of several findings those that are said.
_MOST_FINDINGS = 4
_OF_THE_MODEL = (("sensitivity", "sensitivity"), ("specificity", "specificity"), ("auc", "AUC"))


def estimate_in_words(row: EpisodeRow) -> str | None:
    """Return an episode's estimate with its intervals and what it rests on, or why it has none.

    None for an episode that was opened before estimates were kept.
    """
    estimated: Mapping[str, Any] | None = row.evidence.get("estimated")
    if estimated is None:
        return None
    workload = _workload(estimated)
    if estimated["figures"] is None:
        return f"no figure without labels: {estimated['reason']}{workload}"
    return f"{_figures(estimated)}, if {estimated['rests_on']}{_fallen(estimated)}{workload}"


def _figures(estimated: Mapping[str, Any]) -> str:
    figures = estimated["figures"]
    of_the_model = ", ".join(
        f"{name} {wording.with_interval(figures[key])}" for key, name in _OF_THE_MODEL
    )
    if estimated["assumption"] == Assumption.COVARIATE_SHIFT:
        return f"{of_the_model} on {wording.counted(estimated['patients'], 'patient')}"
    predictive = ", ".join(
        f"{name} {wording.with_interval(figures[key])}"
        for key, name in (("ppv", "PPV"), ("npv", "NPV"))
        if figures[key] is not None
    )
    prevalence = wording.with_interval(figures["prevalence"])
    return f"prevalence {prevalence}, {predictive}; as on the reference {of_the_model}"


def _fallen(estimated: Mapping[str, Any]) -> str:
    if not estimated["fallen"]:
        return ""
    return f"; below the reference by more than the margin: {', '.join(estimated['fallen'])}"


def _workload(estimated: Mapping[str, Any]) -> str:
    """Return the share that is called positive, which is seen and needs no assumption."""
    version = estimated.get("version")
    by = "" if version is None else f" by {version}"
    called = estimated["called_positive"]
    if called is not None:
        seen = _called(called, estimated["called_positive_before"], f" are called positive{by}")
        return f"; {seen}"
    shares: Mapping[str, Any] = estimated.get("by_finding") or {}
    # What changed most goes first.
    ordered = sorted(shares, key=lambda finding: -_change(shares[finding]))
    return "".join(
        "; "
        + _called(
            shares[finding]["called"], shares[finding]["before"], f" are called {finding}{by}"
        )
        for finding in ordered[:_MOST_FINDINGS]
    ) + ("" if len(ordered) <= _MOST_FINDINGS else f"; --json has all {len(ordered)} findings")


def _change(share: Mapping[str, Any]) -> float:
    before = share["before"]
    return 0.0 if before is None else abs(share["called"][0] - before)


def _called(figures: Sequence[float], before: float | None, what: str) -> str:
    share, low, high = (wording.percent(part) for part in figures)
    compared = "" if before is None else f", {wording.percent(before)} on the reference"
    return f"{share} ({low} to {high}){what}{compared}"
