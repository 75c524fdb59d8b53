"""`driftward label`: import, list, show, disputed, worklist, mapping."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from label_reports import MAPPING, csv_of, image, structured_report
from labelled_home import ARRIVED, SITE, LabelledHome

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> LabelledHome:
    images = [image(1, study=study) for study in (1, 2)]
    return LabelledHome.founded(tmp_path_factory.mktemp("labelled"), images)


@pytest.fixture
def home(
    founded: LabelledHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> LabelledHome:
    made = founded.copied(tmp_path)
    made.driftward.database.dispose()
    monkeypatch.setenv("DRIFTWARD_HOME", str(tmp_path / "home"))
    return made


def write(home: LabelledHome, *said: tuple[str, int]) -> Path:
    uid = home.images[0].SOPInstanceUID
    path = home.folder / "labels.csv"
    path.write_bytes(
        csv_of(*[(uid, "pneumonia", v, "reader", reader, ARRIVED) for reader, v in said])
    )
    return path


def test_labels_are_imported_listed_and_shown(home: LabelledHome, driftward: Run) -> None:
    report = home.folder / "report.dcm"
    report.write_bytes(structured_report(home.images[:1]))
    done = driftward("label", "import", report, "--site", SITE, "--json")
    assert done.document == {
        "added": 1,
        "known": 0,
        "ai_influenced": 0,
        "disputed": 0,
        "passed_over": 0,
        "worklist_stated": False,
    }
    again = driftward("label", "import", report, "--site", SITE)
    assert "0 labels added, 1 known before" in again.stdout
    assert f"driftward label worklist {SITE} --help" in again.stdout
    [listed] = driftward("label", "list", "--json").document
    assert (listed["scan"], listed["value"], listed["provenance"]) == (1, 1, "reader")
    assert listed["influence_reason"] == "before_results"
    assert "signed before any result" in driftward("label", "list").stdout
    shown = driftward("label", "show", 1)
    assert "pneumonia: 1 (reader, 1 label counted)" in shown.stdout
    assert driftward("label", "show", 1, "--json").document["truth"][0]["disputed"] is False
    assert driftward("label", "show", 99).code == 1
    history = driftward("scan", "show", 1, "--json").document
    assert history["labels"][0]["influence"].startswith("signed before")
    assert history["truth"][0]["value"] == 1


def test_a_table_without_a_row_is_said_to_be_empty(home: LabelledHome, driftward: Run) -> None:
    done = driftward("label", "import", write(home), "--site", SITE)
    assert done.code == 0
    assert done.stdout.startswith("labels.csv holds no labels\n")
    some = driftward("label", "import", write(home, ("r1", 1)), "--site", SITE)
    assert some.stdout.startswith("1 label added, 0 known before")


def test_disputed_scans_are_listed_with_how_far_readers_agree(
    home: LabelledHome, driftward: Run
) -> None:
    assert driftward("label", "disputed").stdout == "no scan is disputed\n"
    done = driftward("label", "import", write(home, ("r1", 1), ("r2", 0)), "--site", SITE)
    assert "1 scan is disputed" in done.stdout
    said = driftward("label", "disputed")
    assert "r1: 1; r2: 0" in said.stdout
    assert "r1 and r2 agree on 0 of 1 scans, Cohen's kappa 0.00" in said.stdout
    document = driftward("label", "disputed", "--json").document
    assert [one["scan"] for one in document["disputed"]] == [1]
    assert document["agreement"][0]["groups"][0]["readers"] == 2


def test_a_worklist_is_stated_and_shown(home: LabelledHome, driftward: Run) -> None:
    driftward("label", "import", write(home, ("r1", 1)), "--site", SITE)
    assert "nothing is stated" in driftward("label", "worklist").stdout
    since = ("--since", "2026-01-01")
    stated = driftward("label", "worklist", SITE, "--ordered-by", "Triage X", *since)
    assert stated.code == 0, stated.stderr
    assert "1 label already here changed" in stated.stdout
    again = driftward("label", "worklist", SITE, "--by-no-ai", *since, "--json")
    assert again.document["labels_changed"] == 1
    assert [one["ordered_by"] for one in again.document["statements"]] == ["Triage X", None]
    imported = driftward("label", "import", write(home, ("r2", 1)), "--site", SITE, "--json")
    assert imported.document["worklist_stated"] is True
    assert driftward("audit", "verify").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("worklist", SITE, "--by-no-ai"),
        ("worklist", SITE, "--since", "2026-01-01"),
        ("worklist", "--by-no-ai", "--since", "2026-01-01"),
        ("worklist", SITE, "--by-no-ai", "--ordered-by", "x", "--since", "2026-01-01"),
        ("import", "x.csv", "--site", SITE, "--provenance", "guess"),
        ("show", "0"),
    ],
)
def test_misuse_is_told_from_refusal(
    home: LabelledHome, driftward: Run, words: tuple[str, ...]
) -> None:
    assert driftward("label", *words).code == 2


def test_a_mapping_is_applied_and_shown(home: LabelledHome, driftward: Run) -> None:
    path = home.folder / "mapping.yaml"
    path.write_text(MAPPING.replace("version: 1", "version: 2").replace("Berlin", "Paris"))
    done = driftward("label", "mapping", "apply", path)
    assert done.stdout == "mapping chest 2 is in force: 4 concepts of 2 tasks\n"
    assert "Europe/Paris" in driftward("label", "mapping", "show").stdout
    shown = driftward("label", "mapping", "show", "--json").document
    assert shown["specification"]["version"] == 2
    path.write_text(MAPPING.replace("about: nodule", "about: mass"))
    refused = driftward("label", "mapping", "apply", path)
    assert refused.code == 1
    assert "mapping.yaml:24: concepts.3.about: name the class of findings" in refused.stderr


def test_a_refusal_names_file_and_line_and_leaves_an_entry(
    home: LabelledHome, driftward: Run
) -> None:
    refused = driftward("label", "import", write(home, ("r1", 7)), "--site", SITE)
    assert (refused.code, refused.stdout) == (1, "")
    assert "labels.csv:2: value must be 0 to 1, or one of normal, pneumonia" in refused.stderr
    elsewhere = driftward("label", "import", write(home, ("r1", 1)), "--site", "south")
    assert elsewhere.code == 1
    assert "there are north" in elsewhere.stderr
    assert [one.facts["problem"] for one in home.refusals()] == [
        "impossible_value",
        "unknown_site",
    ]
