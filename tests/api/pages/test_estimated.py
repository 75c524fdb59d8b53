from __future__ import annotations

from typing import Any

from api.pages.estimated import estimate_in_words
from monitor.tables import EpisodeRow

SEEN: dict[str, Any] = {"called_positive": [0.31, 0.27, 0.35], "called_positive_before": 0.24}
FIGURES: dict[str, Any] = {
    "auc": [0.94, 0.92, 0.955],
    "sensitivity": [0.84, 0.79, 0.88],
    "specificity": [0.91, 0.88, 0.93],
    "ppv": [0.62, 0.55, 0.7],
    "npv": None,
    "prevalence": [0.31, 0.26, 0.37],
}


def words(**estimated: Any) -> str | None:
    return estimate_in_words(EpisodeRow(evidence={"estimated": {**SEEN, **estimated}}))


def test_figures_come_with_their_intervals_and_what_they_rest_on() -> None:
    found = words(
        figures=FIGURES,
        assumption="covariate shift",
        rests_on="a score means what it meant on the reference",
        fallen=["sensitivity"],
        patients=412,
    )
    assert found == (
        "sensitivity .84 (.79–.88), specificity .91 (.88–.93), AUC .94 (.92–.95) on 412 "
        "patients, if a score means what it meant on the reference; below the reference by "
        "more than the margin: sensitivity; 31 % (27 % to 35 %) are called positive, 24 % on "
        "the reference"
    )


def test_a_prevalence_comes_with_predictive_values_and_the_model_as_it_was() -> None:
    found = words(
        figures=FIGURES,
        assumption="label shift",
        rests_on="only the frequency of the finding changed",
        fallen=[],
        patients=412,
    )
    assert found is not None
    assert found.startswith(
        "prevalence .31 (.26–.37), PPV .62 (.55–.70); as on the reference sensitivity .84"
    )
    assert "if only the frequency of the finding changed; 31 %" in found


def test_without_figures_the_reason_and_what_is_seen_are_said() -> None:
    found = words(figures=None, reason="while the cause is unknown, nothing is known")
    assert found == (
        "no figure without labels: while the cause is unknown, nothing is known; 31 % (27 % to "
        "35 %) are called positive, 24 % on the reference"
    )


def test_an_unread_window_has_a_reason_alone() -> None:
    found = words(figures=None, reason="the champion has read none", called_positive=None)
    assert found == "no figure without labels: the champion has read none"


def test_an_episode_from_before_estimates_were_kept_has_none() -> None:
    assert estimate_in_words(EpisodeRow(evidence={})) is None


def test_who_called_them_positive_is_said() -> None:
    found = words(figures=None, reason="nothing is known", version="pneumonia@3")
    assert found is not None
    assert found.endswith("35 %) are called positive by pneumonia@3, 24 % on the reference")


def test_of_several_findings_the_one_called_otherwise_than_before_goes_first() -> None:
    found = words(
        figures=None,
        reason="task chest has several findings",
        called_positive=None,
        version="chest@1",
        by_finding={
            "fluid": {"called": [0.41, 0.35, 0.47], "before": 0.44},
            "mass": {"called": [0.88, 0.84, 0.91], "before": 0.46},
            "other": {"called": [0.1, 0.08, 0.13], "before": None},
        },
    )
    assert found == (
        "no figure without labels: task chest has several findings; 88 % (84 % to 91 %) are "
        "called mass by chest@1, 46 % on the reference; 41 % (35 % to 47 %) are called fluid by "
        "chest@1, 44 % on the reference; 10 % (8 % to 13 %) are called other by chest@1"
    )
