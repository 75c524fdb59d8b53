"""Silence on the pages, over HTTP and in the figures: a home in which nothing arrives any more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
from believable_home import PSEUDONYM, Stage
from databases import Databases
from fastapi.testclient import TestClient
from local_client import everybody
from prometheus_client.parser import text_string_to_metric_families

from api.assembly import Driftward
from api.http.app import create_app
from monitor.monitors import apply_monitor, require_monitor
from monitor.silence.holidays import Holiday
from monitor.silence.settings import SilenceSettings
from monitor.silence.watch import SilenceWatcher
from registry.clock import ReplayClock
from registry.ledger import entries

if TYPE_CHECKING:
    from tests.api.conftest import CopyHome, Homes

MONITOR = "pneumonia-cxr"


@pytest.fixture(scope="module")
def silent(
    databases: Databases, homes: Homes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A calm home three days after its last scan, looked at once before and once after."""
    folder = tmp_path_factory.mktemp("silent") / "home"
    driftward = Driftward.open(databases.copied_home(homes[Stage.CALM], folder))
    with driftward.database.reading() as session:
        newest = max(entry.recorded_at for entry in entries(session))
    clock = ReplayClock(newest)
    driftward.clock = clock
    with driftward.database.transaction() as session:
        specification = require_monitor(session, MONITOR).specification
        days = [newest.date() + timedelta(days=day) for day in range(4)]
        listed = SilenceSettings(holidays=tuple(Holiday.model_validate(day) for day in days))
        apply_monitor(
            session,
            specification.model_copy(update={"silence": listed}),
            actor="test",
            at=newest,
        )
    watcher = SilenceWatcher(driftward.database, clock)
    watcher.look(MONITOR)
    clock.at = newest + timedelta(days=3)
    watcher.look(MONITOR)
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        yield client
    driftward.database.dispose()


def figures(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
    }


def test_the_page_says_what_is_silent_since_when_and_what_to_check(silent: TestClient) -> None:
    text = silent.get(f"/monitors/{MONITOR}").text
    assert "All sources: nothing since" in text
    assert "Check that this installation still receives" in text
    assert re.search(r"p &lt; \.0001|p \.\d+, alarm at \.\d+", text)
    assert PSEUDONYM not in text


def test_behind_the_chart_stands_a_table_of_the_same_days(silent: TestClient) -> None:
    text = silent.get(f"/monitors/{MONITOR}").text
    assert 'data-chart="arrivals"' in text
    found = re.search(r'id="arrivals-data-0">(.*?)</script>', text)
    assert found is not None
    chart = json.loads(found.group(1))
    assert len(chart["received"]) == len(chart["expected"]) == 168
    assert chart["alarms"][0]["kind"] == "missing"
    table = text.split("<summary>Table: All sources by day</summary>")[1].split("</table>")[0]
    received = [int(n) for n in re.findall(r'</th><td class="right">(\d+)</td>', table)]
    assert sum(received) == sum(chart["received"])


def test_the_fleet_marks_it_and_says_whom_it_needs(silent: TestClient) -> None:
    text = silent.get("/").text
    assert f'href="/monitors/{MONITOR}#arrivals">Silent: all sources</a>' in text
    assert f"One needs you now: {MONITOR}." in text
    assert "silence alarm 1 opened, missing scans of all sources" in text


def test_the_resource_has_the_alarm_and_every_source(silent: TestClient) -> None:
    found = silent.get(f"/api/v1/monitors/{MONITOR}/silence").json()
    assert found["watching"] == "watching"
    (alarm,) = found["open"]
    assert (alarm["subgroup"], alarm["kind"], alarm["received"]) == ("", "missing", 0)
    assert alarm["check_first"]
    assert found["sources"][0]["silent"]
    assert found["alarms_last_quarter"] == 1
    assert silent.get("/api/v1/monitors/none/silence").status_code == 404


def test_a_listed_holiday_is_said_on_the_page_in_the_alarm_and_in_the_resource(
    silent: TestClient,
) -> None:
    text = silent.get(f"/monitors/{MONITOR}").text
    assert "Today is listed as a holiday." in text
    assert re.search(
        r"studies were expected by [^;<]*; \d days from [^;<]* are listed as holidays", text
    )
    found = silent.get(f"/api/v1/monitors/{MONITOR}/silence").json()
    (listed,) = found["holidays"]
    assert listed["sites"] is None
    day = date.fromisoformat(listed["date"])
    assert str(day - timedelta(days=1)) in found["open"][0]["holidays"]


def test_the_figures_count_it(silent: TestClient) -> None:
    found = figures(silent)
    labels = frozenset({("monitor", MONITOR), ("kind", "missing")})
    assert found["driftward_open_silence_alarms", labels] == 1
    assert found["driftward_silence_alarms_total", labels] == 1
    of = frozenset({("monitor", MONITOR)})
    assert found["driftward_seconds_since_arrivals_seen", of] == 0
    assert found["driftward_scans_last_day", of] == 0
    assert found["driftward_scans_expected_last_day", of] > 5


def test_before_the_first_look_the_page_says_so(copied_home: CopyHome) -> None:
    driftward = Driftward.open(copied_home(Stage.CALM))
    with TestClient(
        create_app(driftward, recognise=everybody), base_url="http://localhost"
    ) as client:
        text = client.get(f"/monitors/{MONITOR}").text
        found = client.get(f"/api/v1/monitors/{MONITOR}/silence").json()
    driftward.database.dispose()
    assert "Nobody looked yet" in text
    assert found["watching"] == "not looked yet"
    assert found["open"] == []
