from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from monitored_history import ANCHOR, History
from readings import read_reference, readings
from scipy.special import expit, logit

from monitor.episodes import episodes
from monitor.episodes.causes import Cause
from monitor.episodes.episode_evidence import gather
from monitor.episodes.episodes import Impact
from monitor.episodes.estimating import ASSUMPTIONS, MOST_NOVEL, ImpactEstimate, estimate_impact
from monitor.evaluation import evaluate, store_verdicts
from monitor.performance.performance import reference_results
from monitor.statistics.performance.estimated_performance import (
    EstimatedPerformance,
    NoEstimate,
)
from monitor.subgroups import Subgroup
from monitor.tables import EpisodeRow
from monitor.windows import Window
from registry import ledger
from registry.errors import InsufficientDataError

SHIFT = Window(start=ANCHOR, end=ANCHOR + timedelta(days=7))


def shifted(seed: int, scans: int, *, centre: float) -> list[float]:
    """Probabilities of other scans, which mean what those of `meaning` mean."""
    rng = np.random.default_rng(seed)
    return np.clip(expit(centre + 2.0 * rng.normal(size=scans)), 0.004, 0.996).tolist()


def meaning(seed: int, scans: int) -> tuple[list[float], list[int]]:
    rng = np.random.default_rng(seed)
    probabilities = expit(2.5 * rng.normal(size=scans))
    truth = rng.random(scans) < expit(0.9 * logit(probabilities))
    return probabilities.tolist(), truth.astype(int).tolist()


def estimated(
    history: History,
    cause: Cause,
    *,
    subgroup: Subgroup | None = None,
    novel_share: float = 0.05,
) -> ImpactEstimate:
    with history.database.reading() as session:
        return estimate_impact(
            session,
            history.monitor,
            cause=cause,
            window=SHIFT,
            subgroup=subgroup,
            novel_share=novel_share,
        )


def reason(found: ImpactEstimate) -> str:
    assert isinstance(found.performance, NoEstimate), found.performance
    assert found.to_dict()["figures"] is None
    return found.performance.reason


def figures(found: ImpactEstimate) -> EstimatedPerformance:
    assert isinstance(found.performance, EstimatedPerformance), found.performance
    return found.performance


def test_a_prevalence_is_told_with_what_it_does_to_predictive_values(history: History) -> None:
    read_reference(history, *readings(0, 400, prevalence=0.5))
    probabilities, truth = readings(1, 300, prevalence=0.15)
    history.add(300, at=ANCHOR, probabilities=probabilities)
    found = estimated(history, Cause.PREVALENCE)
    told = figures(found)
    assert 0.15 in told.prevalence.interval
    called = np.array(probabilities) >= 0.5
    assert told.ppv is not None
    assert told.ppv.interval.low < np.array(truth)[called].mean() < told.ppv.interval.high
    assert found.called_positive is not None
    assert found.called_positive.estimate == pytest.approx(called.mean())
    assert found.called_positive_before is not None
    assert found.called_positive_before > 0.45
    assert found.fallen == ()
    document = json.loads(json.dumps(found.to_dict()))
    assert document["rests_on"] == "only the frequency of the finding changed"
    assert document["figures"]["ppv"][0] == told.ppv.estimate


def test_another_population_in_which_findings_are_subtler_is_suspected(
    history: History,
) -> None:
    read_reference(history, *meaning(2, 400))
    history.add(300, at=ANCHOR, probabilities=shifted(3, 300, centre=-2.5))
    found = estimated(history, Cause.POPULATION)
    told = figures(found)
    assert told.sensitivity.interval.high < 0.75
    assert "sensitivity" in found.fallen
    opinions = found.second_opinions
    assert set(opinions) == {"difference of confidences", "thresholded confidence"}
    for opinion in opinions.values():
        assert opinion.sensitivity == pytest.approx(told.sensitivity.estimate, abs=0.12)


@pytest.mark.parametrize("cause", sorted(set(Cause) - set(ASSUMPTIONS)))
def test_a_cause_that_breaks_what_an_estimate_rests_on_gets_a_sentence(
    history: History, cause: Cause
) -> None:
    read_reference(history, *meaning(4, 400))
    history.add(60, at=ANCHOR, probabilities=meaning(5, 60)[0])
    found = estimated(history, cause)
    assert len(reason(found)) > 30
    # What is seen needs no assumption.
    assert found.called_positive is not None
    assert found.called_positive_before is not None


def test_what_is_most_new_was_never_calibrated(history: History) -> None:
    read_reference(history, *meaning(6, 400))
    history.add(60, at=ANCHOR, probabilities=meaning(7, 60)[0])
    found = estimated(history, Cause.POPULATION, novel_share=MOST_NOVEL + 0.01)
    assert "26% of the scans lie beyond" in reason(found)


def test_few_patients_and_an_unread_window_are_said(history: History) -> None:
    read_reference(history, *meaning(8, 400))
    assert "read none of these scans" in reason(estimated(history, Cause.POPULATION))
    history.add(19, at=ANCHOR, probabilities=meaning(9, 19)[0])
    assert "19 patients are too few" in reason(estimated(history, Cause.POPULATION))


def test_a_reference_without_labels_is_said(history: History) -> None:
    history.add(60, at=ANCHOR, probabilities=meaning(10, 60)[0])
    found = estimated(history, Cause.PREVALENCE)
    assert "too few labels" in reason(found)
    assert found.called_positive is not None


def test_only_the_scans_of_the_place_are_estimated(history: History) -> None:
    read_reference(history, *meaning(11, 400))
    history.add(60, at=ANCHOR, probabilities=meaning(12, 60)[0])
    history.add(40, at=ANCHOR, probabilities=meaning(13, 40)[0], software_version="2.1")
    history.add(50, at=SHIFT.end, probabilities=meaning(14, 50)[0])
    place = Subgroup.parse("software_version=2.1")
    assert figures(estimated(history, Cause.POPULATION)).scans == 100
    assert figures(estimated(history, Cause.POPULATION, subgroup=place)).scans == 40


def test_a_subgroup_is_compared_with_its_own_past_where_that_has_labels(
    history: History,
) -> None:
    read_reference(history, *meaning(15, 400))
    with history.database.transaction() as session:
        labelled = reference_results(session, history.monitor, version=history.champion.id)
        for scan in labelled.scans[:150]:
            scan.view = "PA"
    with history.database.reading() as session:
        for text, scans in (("view=PA", 150), ("view=LL", 400)):
            found = reference_results(
                session,
                history.monitor,
                version=history.champion.id,
                subgroup=Subgroup.parse(text),
            )
            assert len(found.scans) == scans


def test_a_version_without_a_reference_has_no_past(history: History) -> None:
    with (
        history.database.reading() as session,
        pytest.raises(InsufficientDataError, match="references of the champion"),
    ):
        reference_results(session, history.monitor, version=history.encoder.id)


def alarmed(history: History) -> EpisodeRow:
    """Judge two shifted windows, and return the episode they open."""
    for number in (0, 1):
        window = history.window(number)
        history.add(
            80,
            at=window.start + timedelta(hours=1),
            shift=1.5,
            probabilities=meaning(20 + number, 80)[0],
        )
        with history.database.reading() as session:
            evaluation = evaluate(
                session, history.profiles, history.monitor, window, now=window.end
            )
        with history.database.transaction() as session:
            store_verdicts(session, evaluation, actor="test", at=window.end)
            if evaluation.alarm:
                found = gather(session, history.profiles, evaluation)
                episodes.record_alarm(session, evaluation, found, actor="test", at=window.end)
    with history.database.reading() as session:
        [row] = episodes.all_episodes(session)
    return row


def test_an_episode_carries_what_is_estimated_or_why_nothing_is(history: History) -> None:
    read_reference(history, *meaning(16, 400))
    row = alarmed(history)
    assert row.cause in {Cause.TECHNICAL, Cause.ACQUISITION, Cause.PIPELINE}
    assert row.evidence["estimated"]["figures"] is None
    assert "scores themselves" in row.evidence["estimated"]["reason"]
    assert row.evidence["estimated"]["version"] == "pneumonia@1"
    assert row.impact == Impact.SUSPECTED
    with history.database.reading() as session:
        assert ledger.verify(session).valid
