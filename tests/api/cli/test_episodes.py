"""What `driftward episode` and `driftward check` say of an episode, line by line."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.cli.episodes import _now_line, _size_line, _subgroup_lines
from api.cli.references import _episode_line, _episode_lines, _headline
from api.pages.explanation import impact_in_words
from monitor.episodes.episodes import Impact
from monitor.episodes.recovery import Recovery
from monitor.evaluation import Evaluation
from monitor.tables import EpisodeRow

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def episode(**evidence: Any) -> EpisodeRow:
    return EpisodeRow(
        id=3,
        monitor="chest",
        state="open",
        cause="acquisition",
        subgroup="site=north",
        impact=Impact.SUSPECTED.value,
        onset=NOON,
        opened_at=NOON,
        evidence=evidence,
        heaviest=[],
    )


def moved(name: str, *, moved: bool) -> dict[str, Any]:
    return {
        "subgroup": name,
        "scans": 80,
        "adjusted_p_value": 0.001,
        "effect": 1.0,
        "compared_with": None,
        "moved": moved,
    }


def test_a_check_names_the_open_episode_and_what_to_do_first() -> None:
    said = _episode_line(episode())
    assert said.startswith(
        "episode 3, open: acquisition change, site=north, impact suspected; first ask radiography"
    )
    assert said.endswith("; `driftward episode show 3` has all of it")


def evaluated(p_value: float, own: float, *, alarm: bool, before: bool = False) -> Evaluation:
    """Return what a check concluded: of two windows, and of this one by itself."""
    verdict = SimpleNamespace(alarm_p_value=own)
    return cast(
        "Evaluation",
        SimpleNamespace(
            p_value=p_value,
            alpha=0.005,
            alarm=alarm,
            scheduled=True,
            judged_before=before,
            deciding=[SimpleNamespace(verdict=verdict)],
        ),
    )


@pytest.mark.parametrize(
    ("evaluation", "said"),
    [
        (evaluated(0.8, 0.4, alarm=False), "no alarm (p = 0.8; it takes 0.005, over two"),
        (evaluated(1.0, 0.0002, alarm=False), "no alarm yet: this window shows a shift, and"),
        (evaluated(0.001, 0.4, alarm=False), "no alarm: the windows before it showed a shift"),
        (evaluated(0.001, 0.0002, alarm=True), "ALARM: a shift that persisted (p = 0.001"),
    ],
)
def test_a_check_says_in_a_sentence_what_it_concluded(
    evaluation: Evaluation, said: str
) -> None:
    assert _headline(evaluation).startswith(said)
    assert "judged before" not in _headline(evaluation)


def test_a_check_of_a_window_that_was_judged_before_says_that_nothing_follows() -> None:
    said = _headline(evaluated(0.001, 0.0002, alarm=True, before=True))
    assert said.startswith("ALARM")
    assert said.endswith("; it was judged before, and nothing follows from it anew")


def test_of_many_open_episodes_a_check_names_the_first_and_counts_the_rest() -> None:
    *named, rest = _episode_lines([episode()] * 50)
    assert len(named) == 5
    assert rest == "and 45 more open: `driftward episode list`"
    assert len(_episode_lines([episode()] * 5)) == 5


def test_a_check_says_why_an_episode_stays_open() -> None:
    stays = Recovery(recovered=False, reason="site=north: too few in a window to tell")
    gone = Recovery(recovered=True, reason="recovered")
    first, why, second = _episode_lines([episode(), episode()], [stays, gone])
    assert first == second == _episode_line(episode())
    assert why == "  it stays open: site=north: too few in a window to tell"


def test_where_the_newest_window_sees_a_shift_is_said_beside_its_place() -> None:
    assert _now_line({"place_now": None}) == _now_line({}) == []
    [said] = _now_line({"place_now": "only sex=M moved (adjusted p = 0.01)"})
    assert said.endswith("in its newest window only sex=M moved (adjusted p = 0.01)")


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "no tested subgroup of 1 stood still"),
        ([moved("site=south", moved=False)], "1 of 2 tested subgroups did not move"),
    ],
)
def test_how_many_subgroups_stood_still_is_counted(
    others: list[dict[str, Any]], words: str
) -> None:
    assert _subgroup_lines([moved("site=north", moved=True), *others])[-1].strip() == words


def test_a_shift_without_a_mean_that_moved_says_so() -> None:
    size: dict[str, Any] = {"ordinary_effect": None, "smallest_effect": 0.48}
    [said] = _size_line(episode(effect=[0.0, 0.0, 0.23], **size))
    assert "0.00 (0.00–0.23) standard deviations, so what moved is not the mean; this" in said
    [said] = _size_line(episode(effect=[0.6, 0.4, 0.7], **size))
    assert "mean" not in said


def test_a_suspicion_says_what_it_rests_on() -> None:
    assert impact_in_words(episode()) == (
        "suspected: the champion's own space moved, too; no labels yet"
    )
    estimated = {"fallen": ["sensitivity", "AUC"]}
    assert impact_in_words(episode(estimated=estimated)) == (
        "suspected: below the reference by the estimate without labels: sensitivity, AUC; "
        "no labels yet"
    )


def test_a_measured_impact_says_whose_it_is() -> None:
    after = {"auc": [0.9, 0.8, 0.95], "sensitivity": [0.9, 0.8, 0.95]}
    measured = {"scans": 306, "falls": [], "after": after, "version": "pneumonia@3"}
    assert impact_in_words(episode(impact=measured)).startswith(
        "none shown on 306 labelled scans read by pneumonia@3: AUC .90"
    )


def test_an_impact_that_labels_do_not_show_is_told_for_each_of_several_findings() -> None:
    after = {"auc": [0.9, 0.88, 0.92]}
    said = impact_in_words(
        episode(
            impact={
                "before": after,
                "after": after,
                "scans": 40,
                "falls": [],
                "findings": {
                    "fluid": {"before": after, "after": after, "scans": 40},
                    "mass": {"before": after, "after": {"auc": [0.7, 0.6, 0.8]}, "scans": 40},
                },
            }
        )
    )
    assert said == (
        "none shown on 40 labelled scans: fluid AUC .90 (.88–.92); mass AUC .70 (.60–.80)"
    )
