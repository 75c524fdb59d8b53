"""A shadow's comparison, as the page, the API and the command line tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from monitored_history import History, found
from retraining_rows import Retraining

from api.cli.runs import _shadow_lines
from api.http.runs import Shadow
from api.pages.rendering import Pages
from api.pages.shadowed import shadow_panel
from monitor.references import ProfileStore
from monitor.tables import ResultRow
from registry import ledger
from registry.database import Database
from retrain import runs
from retrain.shadow.ending import shadow_record


@pytest.fixture
def shadowed(database: Database, tmp_path: Path) -> tuple[Retraining, int]:
    """A run in shadow; of four scans that both read, one is newly positive."""
    found(database)
    made = Retraining(History(database, ProfileStore(tmp_path / "profiles")))
    made.apply_plan()
    run = made.run_in_shadow()
    scans = made.history.add(4, at=made.now, probabilities=[0.2, 0.2, 0.8, 0.8])
    with database.transaction() as session:
        candidate = runs.require_run(session, run).candidate
        number = ledger.next_batch(session, ResultRow)
        session.add_all(
            ResultRow(
                batch=number,
                scan=scan,
                version=candidate,
                task="pneumonia",
                probabilities=[1 - value, value],
                threshold=0.5,
                delivery="background",
                created_at=made.now,
            )
            for scan, value in zip(scans, [0.2, 0.6, 0.8, 0.8], strict=True)
        )
    made.clock.at += timedelta(hours=1)
    return made, run


def test_page_api_and_command_line_tell_the_same(shadowed: tuple[Retraining, int]) -> None:
    made, number = shadowed
    with made.database.reading() as session:
        record = shadow_record(session, runs.require_run(session, number), at=made.now)
        panel = shadow_panel(session, runs.require_run(session, number), now=made.now)
    assert record is not None
    told = Shadow.model_validate(record)
    assert (told.by_both, told.by_champion) == (4, 4)
    assert told.disagreement is not None
    assert told.disagreement.newly_positive.count == 1
    lines = list(_shadow_lines(record))
    assert lines[0].endswith("both read 4 of the champion's 4 scans")
    assert "25.0%" in lines[1]
    assert panel is not None
    assert panel.going_on
    assert panel.lines[0].estimate == "25.0%"
    html = Pages()._environment.get_template("partials/shadow.html").render(shadow=panel)
    assert "Called otherwise by the candidate" in html
    assert "1 of 4" in html
    assert datetime.fromisoformat(record["until"]).tzinfo == UTC
