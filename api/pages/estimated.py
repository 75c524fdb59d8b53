"""What is said of a champion on the scans of a shift while labels lack, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.pages import wording
from monitor.statistics.performance.estimated_performance import Assumption
from monitor.tables import EpisodeRow

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
    called = estimated["called_positive"]
    if called is None:
        return ""
    share, low, high = (wording.percent(part) for part in called)
    before = estimated["called_positive_before"]
    compared = "" if before is None else f", {wording.percent(before)} on the reference"
    version = estimated.get("version")
    by = "" if version is None else f" by {version}"
    return f"; {share} ({low} to {high}) are called positive{by}{compared}"
