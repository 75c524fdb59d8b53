"""What labelled weeks are compared with in their charts."""

from __future__ import annotations

from typing import Any

from api.pages.labelled import MEASURES, _baseline
from monitor.tables import EpisodeRow


def measured(value: float) -> dict[str, Any]:
    return {"before": {name: [value, 0.0, 1.0] for name in MEASURES}}


def baseline(drawn: set[str], **impact: Any) -> object:
    return _baseline([EpisodeRow(evidence={}), EpisodeRow(evidence={"impact": impact})], drawn)


def test_weeks_are_compared_with_the_reference_of_their_own_finding() -> None:
    findings = {"fluid": measured(0.9), "mass": measured(0.8)}
    assert baseline({""}, **measured(0.7)) == dict.fromkeys(MEASURES, 0.7)
    assert baseline({"mass"}, **measured(0.9), findings=findings) == dict.fromkeys(
        MEASURES, 0.8
    )


def test_weeks_of_findings_that_differ_have_no_common_reference() -> None:
    findings = {"fluid": measured(0.9), "mass": measured(0.8)}
    assert baseline({"fluid", "mass"}, **measured(0.9), findings=findings) is None
    assert baseline({"other"}, **measured(0.9), findings=findings) is None
