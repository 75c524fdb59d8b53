from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from believable_home import PSEUDONYM, Stage
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from monitor.episodes.episodes import Impact
from registry import ledger

if TYPE_CHECKING:
    from tests.api.conftest import Open, Serve

#: Everything that a label may tell.
LABELS = {
    *("site", "model", "monitor", "state", "kind", "encoder", "deployment", "reason"),
    *("source", "outcome", "impact"),
}


def figures(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(
    found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str
) -> float:
    return found[f"driftward_{name}", frozenset(labels.items())]


def test_an_empty_home_has_figures_too(serve: Serve) -> None:
    found = figures(serve(Stage.EMPTY))
    assert of(found, "outbox_waiting") == 0
    assert of(found, "ledger_entries_total") == 2
    assert not any(name == "driftward_scans_total" for name, _ in found)


def test_an_open_episode_shows_in_the_figures(serve: Serve) -> None:
    found = figures(serve(Stage.OPEN))
    watched = {"monitor": "pneumonia-cxr"}
    open_by_impact = {
        impact: of(found, "open_episodes", **watched, impact=impact.value) for impact in Impact
    }
    assert sorted(open_by_impact.values()) == [0, 0, 1]
    assert of(found, "oldest_pending_scan_age_seconds", **watched) == 0
    assert of(found, "alarm", **watched) == 1
    assert of(found, "alarm_p_value", **watched) <= of(found, "alarm_alpha", **watched)
    trend = {**watched, "encoder": "trend"}
    assert (
        of(found, "drift_effect_low", **trend)
        <= of(found, "drift_effect", **trend)
        <= of(found, "drift_effect_high", **trend)
    )
    assert of(found, "drift_effect", **trend) > of(found, "drift_smallest_effect", **trend)
    assert of(found, "restrictions", model="pneumonia-cxr", kind="restrict") == 1
    assert of(found, "runs", model="pneumonia-cxr", state="awaiting labels") == 1
    assert of(found, "refusals_total", model="pneumonia-cxr") == 9
    assert of(found, "scans_total", site="lakeside") == 9
    assert of(found, "pending_scans", **watched) == 0
    assert of(found, "seconds_since_last_verdict", **watched) == 12 * 60


def test_a_promotion_moves_the_figures_on(serve: Serve) -> None:
    found = figures(serve(Stage.HEALED))
    champion = {"model": "pneumonia-cxr", "deployment": "everywhere"}
    assert of(found, "champion_version", **champion) == 2
    assert not any(
        value for (name, _), value in found.items() if name == "driftward_open_episodes"
    )
    assert of(found, "alarm", monitor="pneumonia-cxr") == 0
    assert of(found, "runs", model="pneumonia-cxr", state="promoted") == 2


def test_the_ledger_s_figure_is_that_of_the_newest_verification(serve_afresh: Serve) -> None:
    client = serve_afresh(Stage.CALM)
    assert not any(name == "driftward_ledger_valid" for name, _ in figures(client))
    client.get("/api/v1/ledger/verification")
    found = figures(client)
    assert of(found, "ledger_valid") == 1
    assert of(found, "ledger_verified_timestamp_seconds") > 0


def test_figures_are_read_when_they_are_scraped(serve: Serve, open_home: Open) -> None:
    client = serve(Stage.CALM)
    before = of(figures(client), "ledger_entries_total")
    with open_home(Stage.CALM).database.reading() as session:
        assert before == len(ledger.entries(session))


@pytest.mark.parametrize("stage", list(Stage))
def test_labels_tell_of_no_patient(serve: Serve, stage: Stage) -> None:
    client = serve(stage)
    for _, labels in figures(client):
        assert {name for name, _ in labels} <= LABELS
    assert PSEUDONYM not in client.get("/metrics").text


def test_two_applications_in_one_process_do_not_share_figures(serve: Serve) -> None:
    calm, empty = serve(Stage.CALM), serve(Stage.EMPTY)
    assert figures(calm) != figures(empty)
