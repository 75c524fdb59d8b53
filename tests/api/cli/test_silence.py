"""`driftward monitor silence` on a home with three scanners, one of which dies."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from scanner_history import NORTH_B, ScannerHistory

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

B2 = "site=north & scanner_model=DRX & station=b2"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a scanner is silent."""
    home = tmp_path_factory.mktemp("watched") / "home"
    initialise(Settings(home=home), name="Mei Tanaka")
    database = Driftward.open(Settings(home=home)).database
    history = ScannerHistory(database)
    history.live(3 * 168 + 25)
    while not history.alarms():
        history.live(2, without=[NORTH_B], looks=2)
    connection = database.engine.raw_connection()
    connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    database.dispose()
    return home


@pytest.fixture
def home(watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied = Path(shutil.copytree(watched, tmp_path / "home"))
    monkeypatch.setenv("DRIFTWARD_HOME", str(copied))
    return copied


def test_the_alarm_says_which_scanner_since_when_and_what_to_check(
    home: Path, driftward: Run
) -> None:
    shown = driftward("monitor", "silence", "chest")
    assert shown.code == 0
    assert "ALARM 1  site north, scanner model DRX, station b2: nothing since" in shown.stdout
    assert "studies were expected by" in shown.stdout
    assert "what is beside it sent" in shown.stdout
    assert "- check that the scanner is in use today" in shown.stdout
    row = next(
        line for line in shown.stdout.splitlines() if "station b2" in line and "silent" in line
    )
    assert row.startswith("    site north")


def test_a_machine_reads_the_same(home: Path, driftward: Run) -> None:
    document = driftward("monitor", "silence", "chest", "--json").document
    (alarm,) = document["open"]
    assert alarm["subgroup"] == B2
    assert alarm["p_value"] <= alarm["alpha"]
    assert datetime.fromisoformat(alarm["since"]) < datetime.fromisoformat(alarm["opened_at"])
    assert [item["subgroup"] for item in document["sources"] if item["silent"]] == [B2]
    hours = {item["subgroup"]: item for item in document["hours"]}
    assert set(hours) == {"", B2}
    assert len(hours[B2]["received"]) == len(hours[B2]["expected"]) == 168
    assert document["false_alarms_per_quarter"] == 1.0
    assert document["alarms_last_quarter"] in {0, 1}  # the history lies in its own quarter


def test_show_has_the_specification_and_the_alarm(home: Path, driftward: Run) -> None:
    shown = driftward("monitor", "show", "chest")
    assert "false_alarms_per_quarter: 1.0" in shown.stdout
    assert "ALARM 1" in shown.stdout
    document = driftward("monitor", "show", "chest", "--json").document
    assert document["silence"]["look_every_minutes"] == 15
    assert [alarm["alarm"] for alarm in document["silence_alarms"]] == [1]


def test_listed_holidays_are_shown_and_bad_ones_refused(
    home: Path, driftward: Run, tmp_path: Path
) -> None:
    document = driftward("monitor", "show", "chest", "--json").document
    del document["silence_alarms"]
    today = datetime.now(UTC).date()
    document["silence"]["holidays"] = [
        today.isoformat(),
        {"date": (today + timedelta(days=3)).isoformat(), "sites": ["north"]},
    ]
    file = tmp_path / "monitor.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert driftward("monitor", "apply", str(file)).code == 0
    shown = driftward("monitor", "show", "chest").stdout
    assert f"- '{today}'" in shown
    assert "today is listed as a holiday; next " in shown
    assert shown.rstrip().endswith("at north")
    silence = driftward("monitor", "silence", "chest", "--json").document
    assert silence["holidays"][0] == {"date": today.isoformat(), "sites": None}
    assert silence["holidays"][1]["sites"] == ["north"]
    file.write_text(
        yaml.safe_dump(document).replace("- north", "- nrth"),
        encoding="utf-8",
    )
    refused = driftward("monitor", "apply", str(file))
    assert refused.code == 1
    assert "holidays.1.sites: no scan ever came from nrth" in " ".join(refused.stderr.split())


def test_a_person_closes_an_alarm_with_a_reason(home: Path, driftward: Run) -> None:
    closed = driftward(
        "monitor", "silence", "chest", "--close", "1", "--reason", "sold", "--json"
    )
    assert closed.code == 0
    assert closed.document["open"] == []
    (alarm,) = closed.document["closed"]
    assert (alarm["accepted"], alarm["closed_reason"]) == (True, "sold")
    again = driftward("monitor", "silence", "chest", "--close", "1", "--reason", "sold")
    assert again.code == 1
    assert "is closed already: sold" in again.stderr
    assert driftward("audit", "verify").code == 0


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("chest", "--close", "1"), 2, "takes a --reason"),
        (("chest", "--reason", "why"), 2, "takes a --reason"),
        (("chest", "--close", "7", "--reason", "why"), 1, "has no silence alarm 7"),
        (("brain",), 1, "there is no monitor brain: chest"),
    ],
)
def test_a_misuse_is_named(
    home: Path, driftward: Run, words: tuple[str, ...], code: int, problem: str
) -> None:
    found = driftward("monitor", "silence", *words)
    assert found.code == code
    assert problem in " ".join(found.stderr.split())
