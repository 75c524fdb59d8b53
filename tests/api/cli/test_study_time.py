"""`DRIFTWARD_STUDY_TIME` through a home: what is kept, shown and verified, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from canaries import DAY, found_in, needles, write_canaries
from dicom_instances import as_file, radiograph
from pydicom import dcmread

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

# pydicom says what it thinks of the canaries' values.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def add(run: Run, folder: Path, **elements: str) -> None:
    (folder / "1.dcm").write_bytes(as_file(radiograph(**elements)))
    assert run("scan", "add", folder / "1.dcm", "--site", "north").code == 0


def test_a_backlog_of_old_studies_shows_where_months_are_kept(
    driftward: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTWARD_STUDY_TIME", "month")
    now = datetime.now(UTC)
    add(driftward, tmp_path, StudyDate=f"{now.year - 2}{now.month:02d}17")
    shown = driftward("scan", "show", "1", "--json").document
    assert shown["study_date"] == f"{now.year - 2}-{now.month:02d}"
    assert shown["months_after_study"] in {24, 25}  # a month may begin meanwhile
    (listed,) = driftward("scan", "list", "--json").document
    assert listed["study_date"] == shown["study_date"]
    assert listed["months_after_study"] == shown["months_after_study"]
    assert shown["study_date"] in driftward("scan", "list").stdout


def test_of_a_shifted_day_nobody_is_told_how_long_ago_it_was(
    driftward: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTWARD_STUDY_TIME", "shifted")
    add(driftward, tmp_path)
    shown = driftward("scan", "show", "1", "--json").document
    assert len(shown["study_date"]) == len("2026-03-02")
    assert shown["study_date"] != "2026-03-02"
    assert shown["months_after_study"] is None


def test_by_default_there_is_no_date_to_show(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    add(driftward, tmp_path)
    assert driftward("scan", "show", "1", "--json").document["study_date"] is None


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["shifted", "month"])
def test_no_canary_is_kept_whatever_the_setting(
    driftward: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    monkeypatch.setenv("DRIFTWARD_STUDY_TIME", setting)
    sent = write_canaries(tmp_path / "inbox")
    said = [driftward("scan", "add", tmp_path / "inbox", "--site", "north", "--json")]
    added = said[0].document["added"]
    assert 0 < added < sent
    said += [driftward("scan", "show", number) for number in range(1, added + 1)]
    said += [
        driftward("scan", "list"),
        driftward("scan", "verify"),
        driftward("audit", "verify"),
    ]
    assert {outcome.code for outcome in said} == {0}
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    texts = [text.encode() for one in said for text in (one.stdout, one.stderr)]
    assert [found for some in (*files, *texts) if (found := found_in(some, needles()))] == []
    days = {
        str(dcmread(path, specific_tags=["StudyDate"]).StudyDate)
        for path in (home / "vault").rglob("*.dcm")
    }
    assert "" not in days
    assert DAY not in days
    assert all(day.endswith("01") for day in days) == (setting == "month")


def test_a_tightened_setting_is_held_against_what_was_stored_before(
    driftward: Run, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTWARD_STUDY_TIME", "shifted")
    add(driftward, tmp_path)
    assert driftward("scan", "verify").code == 0
    monkeypatch.setenv("DRIFTWARD_STUDY_TIME", "removed")
    found = driftward("scan", "verify", "--json")
    assert found.code == 1
    (fault,) = found.document["faults"]
    assert fault["element"] == "StudyDate"
    assert "DRIFTWARD_STUDY_TIME" in fault["finding"]


def test_another_word_for_the_setting_is_refused(
    driftward: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTWARD_STUDY_TIME", "year")
    found = driftward("scan", "list")
    assert found.code != 0
    assert "DRIFTWARD_STUDY_TIME" in found.stderr
    assert "Traceback" not in found.stderr
