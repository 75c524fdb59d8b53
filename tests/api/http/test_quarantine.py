from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from databases import Databases
from dicom_instances import as_file, radiograph
from fastapi.testclient import TestClient
from local_client import everybody

from api.assembly import Driftward
from api.http.app import create_app
from api.initialising import initialise
from api.settings import Settings
from monitor.intake.reasons import Reason
from monitor.intake.ways_out import WAYS_OUT
from registry.clock import ReplayClock
from registry.jobs import JobQueue
from registry.worker import Worker
from retrain.scheduling import tick


class Served:
    """A home with five items in quarantine, served without a socket."""

    def __init__(self, home: Settings, now: datetime) -> None:
        initialise(home)
        self.driftward = Driftward.open(home, clock=ReplayClock(now))
        self.client = TestClient(
            create_app(self.driftward, recognise=everybody),
            base_url="http://127.0.0.1:8321",
            raise_server_exceptions=False,
        )
        self.ids = [
            self.driftward.quarantine.put(
                as_file(radiograph(PatientID=f"4711-{number}", SOPInstanceUID=f"1.2.{number}")),
                reason=Reason.BURNED_IN if number % 2 else Reason.NOT_AN_IMAGE,
                detail="a sentence",
                site="south" if number == 4 else "north",
                at=now - timedelta(days=10 * number),
            ).id
            for number in range(5)
        ]

    def listed(self, **parameters: object) -> list[str]:
        answer = self.client.get("/api/v1/quarantine", params=parameters)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()]


@pytest.fixture
def served(databases: Databases, tmp_path: Path, now: datetime) -> Iterator[Served]:
    home = databases.home_at(tmp_path / "home")
    found = Served(home, now)
    yield found
    found.client.close()
    found.driftward.database.dispose()
    databases.throw_away_database(home)


def test_items_are_listed_newest_first_and_page_by_page(served: Served) -> None:
    assert served.listed() == served.ids
    assert served.listed(limit=2) == served.ids[:2]
    assert served.listed(limit=2, before=served.ids[1]) == served.ids[2:4]
    assert served.listed(reason="burned_in") == [served.ids[1], served.ids[3]]
    assert served.listed(site="south") == [served.ids[4]]
    gone = served.client.get("/api/v1/quarantine", params={"before": "0" * 32})
    assert gone.status_code == 404
    wrong = served.client.get("/api/v1/quarantine", params={"reason": "ugly"})
    assert wrong.status_code == 422


def test_an_item_is_shown_with_its_way_out_and_without_its_content(served: Served) -> None:
    answer = served.client.get(f"/api/v1/quarantine/{served.ids[1]}")
    assert answer.json()["reason"] == "burned_in"
    assert "release" in answer.json()["action"]
    assert "Yamada" not in answer.text
    assert served.client.get("/api/v1/quarantine/nothing").status_code == 404


def test_what_came_again_says_how_often_and_when(served: Served) -> None:
    put = served.driftward.quarantine.put
    now = served.driftward.clock.now()
    for days in (3, 1):
        at = now - timedelta(days=days)
        item = put(b"a letter", reason=Reason.NOT_DICOM, detail="a letter", site="north", at=at)
    shown = served.client.get(f"/api/v1/quarantine/{item.id}").json()
    assert shown["times"] == 2
    assert datetime.fromisoformat(shown["last_at"]) == now - timedelta(days=1)
    assert "came 2 times" in served.client.get("/quarantine").text


def test_counts_tell_all_there_is(served: Served) -> None:
    found = served.client.get("/api/v1/quarantine/counts").json()
    assert (found["items"], found["foreign_files"]) == (5, 0)
    assert [(count["reason"], count["site"], count["items"]) for count in found["counts"]] == [
        ("burned_in", "north", 2),
        ("not_an_image", "north", 2),
        ("not_an_image", "south", 1),
    ]


def test_figures_tell_reason_size_and_age(served: Served) -> None:
    lines = served.client.get("/metrics").text.splitlines()
    assert 'driftward_quarantine_items{reason="burned_in"} 2.0' in lines
    assert 'driftward_quarantine_items{reason="archive"} 0.0' in lines
    assert f"driftward_quarantine_oldest_seconds {timedelta(days=40).total_seconds()}" in [
        line.replace("3.456e+06", "3456000.0") for line in lines
    ]
    assert "driftward_quarantine_usable 1.0" in lines


def test_the_page_says_what_each_reason_means_and_what_to_do(served: Served) -> None:
    page = served.client.get("/quarantine").text
    assert WAYS_OUT[Reason.NOT_AN_IMAGE].meaning in page
    assert "<code>driftward scan quarantine release</code>" in page
    assert "5 files came in and were not taken as scans." in page
    assert all(item in page for item in served.ids)
    narrowed = served.client.get("/quarantine", params={"reason": "burned_in"}).text
    assert served.ids[1] in narrowed
    assert served.ids[0] not in narrowed
    assert 'href="/quarantine"' in served.client.get("/").text


def test_a_lost_quarantine_is_said_to_be_lost_and_takes_no_other_page_with_it(
    served: Served,
) -> None:
    folder = served.driftward.home.quarantine
    folder.rename(folder.with_name("elsewhere"))
    page = served.client.get("/quarantine")
    assert page.status_code == 200
    assert "is gone, and what was in it" in page.text
    assert "cannot be read" in served.client.get("/").text
    assert served.client.get("/scans").status_code == 200
    lines = served.client.get("/metrics").text.splitlines()
    assert "driftward_quarantine_usable 0.0" in lines
    assert not any(line.startswith("driftward_quarantine_items") for line in lines)
    assert served.client.get("/api/v1/quarantine").status_code == 503


def test_the_tick_has_a_worker_remove_what_expired_once_a_day(
    served: Served, now: datetime
) -> None:
    driftward = served.driftward
    worker = Worker(JobQueue(driftward.database), driftward.handlers)
    tick(driftward.database, driftward.clock)
    tick(driftward.database, driftward.clock)
    worker.drain()
    assert served.listed() == served.ids[:4]
    tomorrow = ReplayClock(now + timedelta(days=1))
    driftward.clock = tomorrow
    tick(driftward.database, tomorrow)
    assert JobQueue(driftward.database).waiting(["purge quarantine"]) == 1
