from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from dicom_instances import as_file, radiograph

from api.assembly import Driftward
from api.settings import Settings
from monitor.intake.reasons import Reason

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

REPOSITORY = Path(__file__).parents[3]
MAIN = "from api.cli import main; main()"
BURNED = as_file(radiograph(BurnedInAnnotation="YES"))
TRUNCATED = as_file(radiograph(SOPInstanceUID="1.2.3"))[:-50]


@pytest.fixture
def filled(driftward: Run, home: Path, tmp_path: Path) -> Path:
    """A home with a burned-in and a truncated instance from two sites in quarantine."""
    for content, site in ((BURNED, "north"), (TRUNCATED, "south")):
        (tmp_path / "1.dcm").write_bytes(content)
        assert driftward("scan", "add", tmp_path / "1.dcm", "--site", site).code == 0
    return home


def item_of(driftward: Run, reason: str) -> str:
    (item,) = driftward("scan", "quarantine", "list", "--reason", reason, "--json").document
    return str(item["item"])


def test_without_a_command_it_is_the_list(driftward: Run, filled: Path) -> None:
    bare, listed = driftward("scan", "quarantine"), driftward("scan", "quarantine", "list")
    assert bare.stdout == listed.stdout
    assert "2 items" in bare.stdout
    as_json = driftward("scan", "quarantine", "--json")
    assert as_json.document == driftward("scan", "quarantine", "list", "--json").document
    assert [item["reason"] for item in as_json.document] == ["truncated", "burned_in"]


def test_the_list_is_narrowed_by_reason_site_and_limit(driftward: Run, filled: Path) -> None:
    def listed(*words: object) -> list[str]:
        found = driftward("scan", "quarantine", "list", *words, "--json").document
        return [item["site"] for item in found]

    assert listed("--reason", "burned_in") == ["north"]
    assert listed("--site", "south") == ["south"]
    assert listed("--site", "south", "--reason", "burned_in") == []
    assert listed("--limit", 1) == ["south"]
    shown = driftward("scan", "quarantine", "list", "--limit", 1)
    assert "and 1 older" in shown.stdout


def test_an_unknown_reason_is_misuse_and_names_the_known_ones(
    driftward: Run, filled: Path
) -> None:
    done = driftward("scan", "quarantine", "list", "--reason", "ugly")
    assert done.code == 2
    assert "burned_in_unknown" in done.stderr


def test_counts_are_told_by_reason_and_site(driftward: Run, filled: Path) -> None:
    (filled / "quarantine" / "notes.txt").write_text("left here")
    found = driftward("scan", "quarantine", "counts", "--json").document
    assert (found["items"], found["foreign_files"], found["kept_for_days"]) == (2, 1, 30)
    assert {(count["reason"], count["site"], count["items"]) for count in found["counts"]} == {
        ("burned_in", "north", 1),
        ("truncated", "south", 1),
    }
    assert "1 files in" in driftward("scan", "quarantine").stdout


def test_an_item_is_shown_with_its_way_out(driftward: Run, filled: Path) -> None:
    item = item_of(driftward, "burned_in")
    shown = driftward("scan", "quarantine", "show", item)
    assert "driftward scan quarantine release" in shown.stdout
    assert "Yamada" not in shown.stdout
    assert driftward("scan", "quarantine", "show", "0" * 32).code == 1


def test_a_retry_takes_what_can_be_read_now(driftward: Run, filled: Path) -> None:
    item = item_of(driftward, "truncated")
    again = driftward("scan", "quarantine", "retry", item, "--json").document
    assert (again["tried"], again["refused"]) == (1, {"truncated": 1})
    driftward_open = Driftward.open(Settings(home=filled))
    # An older version refused what this one reads.
    good = as_file(radiograph(SOPInstanceUID="1.2.3"))
    quarantine = driftward_open.quarantine
    old = quarantine.find(item)
    quarantine.put(good, reason=old.reason, detail=old.detail, site=old.site, at=old.at)
    done = driftward("scan", "quarantine", "retry", "--reason", "truncated", "--json").document
    assert (done["added"], done["refused"]) == (1, {"truncated": 1})
    assert len(driftward("scan", "list", "--json").document) == 1


def test_a_retry_of_nothing_in_particular_is_misuse(driftward: Run, filled: Path) -> None:
    done = driftward("scan", "quarantine", "retry")
    assert done.code == 2
    assert "--all" in done.stderr
    assert driftward("scan", "quarantine", "retry", "--all", "--json").document["tried"] == 2


def test_a_release_takes_a_reason_and_the_scan(driftward: Run, filled: Path) -> None:
    item = item_of(driftward, "burned_in")
    assert driftward("scan", "quarantine", "release", item).code == 2
    assert driftward("scan", "quarantine", "release", item, "--reason", " ").code == 2
    done = driftward("scan", "quarantine", "release", item, "--reason", "looked: none")
    assert (done.code, "taken as a scan" in done.stdout) == (0, True)
    assert len(driftward("scan", "list", "--json").document) == 1
    other = item_of(driftward, "truncated")
    refused = driftward("scan", "quarantine", "release", other, "--reason", "please")
    assert refused.code == 1
    assert "only a suspicion of burned-in text can be denied" in refused.stderr
    assert driftward("audit", "verify").code == 0


def test_a_purge_removes_by_age(driftward: Run, filled: Path) -> None:
    assert driftward("scan", "quarantine", "purge", "--json").document == {
        "removed": 0,
        "older_than_days": 30,
    }
    done = driftward("scan", "quarantine", "purge", "--older-than", 0, "--json")
    assert done.document == {"removed": 2, "older_than_days": 0}
    assert driftward("scan", "quarantine", "--json").document == []


def test_a_lost_quarantine_is_said_to_be_lost(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    (home / "quarantine").rmdir()
    (tmp_path / "1.dcm").write_bytes(as_file(radiograph()))
    for words in (
        ("scan", "quarantine"),
        ("scan", "add", tmp_path / "1.dcm", "--site", "north"),
    ):
        done = driftward(*words)
        assert done.code == 1
        assert "is gone, and what was in it" in done.stderr
        assert "Traceback" not in done.stderr
    examined = json.loads(driftward("doctor", "--json").stdout)
    (finding,) = [item for item in examined if item["check"] == "quarantine"]
    assert finding["ok"] is False
    assert "mkdir -m 700" in finding["detail"]


@pytest.mark.parametrize("point", ["scans: before the commit", "scans: committed"])
def test_a_retry_that_is_killed_loses_nothing_and_takes_nothing_twice(
    driftward: Run, home: Path, point: str
) -> None:
    installation = Driftward.open(Settings(home=home))
    installation.quarantine.put(
        as_file(radiograph()),
        reason=Reason.MULTI_FRAME,
        detail="an older version said so",
        site="north",
        at=installation.clock.now(),
    )
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "scan", "quarantine", "retry", "--all"],
        env={**os.environ, "DRIFTWARD_CRASH_AT": point},
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert len(driftward("scan", "quarantine", "--json").document) == 1
    again = driftward("scan", "quarantine", "retry", "--all", "--json").document
    assert again["added"] + again["known"] == 1
    assert driftward("scan", "quarantine", "--json").document == []
    assert len(driftward("scan", "list", "--json").document) == 1
    assert driftward("audit", "verify").code == 0
