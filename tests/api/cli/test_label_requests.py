"""`driftward label request`: from the arithmetic over the worklist to the labels that come back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from requested_home import RequestedHome
from requested_labels import SIGNED
from retraining_rows import MODEL, SITE
from sqlalchemy import select

from monitor.requests.tables import Part
from registry import ledger
from registry.jobs import Job, JobState
from retrain.deciding import Decider
from retrain.states import RunState

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> RequestedHome:
    return RequestedHome.founded(tmp_path_factory.mktemp("requested"))


@pytest.fixture
def home(
    founded: RequestedHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RequestedHome:
    made = founded.copied(tmp_path)
    made.driftward.database.dispose()
    monkeypatch.setenv("DRIFTWARD_HOME", str(tmp_path / "home"))
    return made


def decide(home: RequestedHome) -> bool:
    """Do the decisions that are queued; return whether there were any."""
    from registry.jobs import JobQueue

    queue, done = JobQueue(home.driftward.database), False
    while (claim := queue.claim("test", ["decide"])) is not None:
        Decider(home.driftward.database, home.world.retraining.clock).handle(claim)
        queue.finish(claim)
        done = True
    return done


def filled(home: RequestedHome, rows: list[dict[str, str]]) -> Path:
    """Fill a worklist in as its readers do."""
    path = home.root / "read.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            truth = home.world.truth[int(row["scan"])]
            row |= {"value": "pneumonia" if truth else "normal", "provenance": "dataset"}
            writer.writerow({**row, "reader": "r1", "signed_at": SIGNED.isoformat()})
    return path


def exported(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_filled_worklist_comes_back_as_labels_and_queues_the_run(
    home: RequestedHome, driftward: Run
) -> None:
    [listed] = driftward("label", "request", "list", "--json").document
    assert (listed["state"], listed["waiting"]) == ("open", listed["scans"])
    number = listed["request"]
    asked = driftward(
        *("label", "request", "export", number, "--reason", "independent reading"),
        *("--private-key", home.private_key),
    )
    assert (asked.code, asked.stderr) == (0, "")
    rows = exported(asked.stdout)
    assert len(rows) == listed["scans"]
    assert {row["instance"] for row in rows} == {home.uid(int(row["scan"])) for row in rows}
    assert {row["patient"] for row in rows} == {f"MRN-{row['scan']}" for row in rows}
    # Parts, strata and results stay unsaid, and the order tells nothing of them.
    assert not set(rows[0]) & {"part", "stratum", "chance", "score"}
    part = {item.scan.id: item.part for item in home.world.progress(home.episode).items}
    first = {part[int(row["scan"])] for row in rows[: len(rows) // 2]}
    assert first == set(Part)
    again = driftward("label", "request", "export", number)
    assert [row["scan"] for row in exported(again.stdout)] == [row["scan"] for row in rows]
    assert "these are surrogates" in again.stderr
    assert "MRN" not in again.stdout + again.stderr

    half = len(rows) // 2
    done = driftward("label", "import", filled(home, rows[:half]), "--site", SITE, "--json")
    assert (done.document["added"], done.document["ai_influenced"]) == (half, 0)
    shown = driftward("label", "request", "show", number, "--json").document
    assert shown["waiting"] == len(rows) - half
    assert decide(home), "labels of an open request are decided about at once"
    assert home.world.run(home.episode).state == RunState.AWAITING_LABELS
    driftward("label", "import", filled(home, rows[half:]), "--site", SITE)
    home.world.measure(home.episode)
    decide(home)
    home.world.complete(home.episode)  # whom chance made too few is called up from the reserve
    run = home.world.run(home.episode)
    assert run.state == RunState.QUEUED
    text = driftward("label", "request", "show", number).stdout
    assert f"label request {number} of run {run.id} ({MODEL}, pneumonia): complete" in text
    assert "Judged on " in text
    assert "called positive" in text
    with home.driftward.database.reading() as session:
        [opened] = ledger.entries(session, kind="patient.reidentified")
        assert opened.subject == f"label request {number}"
        assert opened.facts == {"reason": "independent reading", "scans": len(rows)}
        jobs = session.scalars(select(Job).where(Job.kind == "train")).all()
        assert [job.state for job in jobs] == [JobState.QUEUED]
        assert ledger.verify(session).valid


def test_the_arithmetic_is_shown_before_anything_is_drawn(
    home: RequestedHome, driftward: Run
) -> None:
    run = home.world.run(home.episode).id
    said = driftward("label", "request", "make", run, "--dry-run", "--json").document
    assert said["refusal"] is None
    assert said["patients"] == 160
    assert said["arithmetic"]["power"] >= 0.8
    words = driftward("label", "request", "make", run, "--dry-run").stdout
    assert words.startswith(f"Judged on {said['arithmetic']['judged']} patients: about ")
    made = driftward("label", "request", "make", run, "--json").document
    assert made["number"] == 1, "one is open already"


def test_a_request_is_closed_with_what_came_and_says_its_power(
    home: RequestedHome, driftward: Run
) -> None:
    world, number = home.world, home.world.request(home.episode).id
    gate = world.waiting(home.episode, Part.GATE)
    done = driftward("label", "request", "unread", number, *gate[:3], "--reason", "unreadable")
    assert done.stdout == "3 scans are no longer waited for\n"
    world.read(world.waiting(home.episode)[:40])
    closed = driftward("label", "request", "close", number, "--reason", "no more", "--json")
    assert closed.document["state"] == "complete"
    assert closed.document["ended_reason"].startswith("no more: the labels have a power of 0.")
    assert driftward("label", "request", "close", number, "--reason", "again").code == 1
    decide(home)
    note = world.run(home.episode).note
    assert note.startswith(f"label request {number} is complete, ")
    assert "`driftward label request make" in note


def test_a_cancelled_request_is_made_anew(home: RequestedHome, driftward: Run) -> None:
    number = home.world.request(home.episode).id
    done = driftward("label", "request", "cancel", number, "--reason", "the wrong month")
    assert done.stdout == f"label request {number} is cancelled\n"
    run = home.world.run(home.episode).id
    made = driftward("label", "request", "make", run, "--seed", 5, "--json").document
    assert (made["number"], made["seed"], made["state"]) == (2, 5, "open")


def test_a_worklist_is_a_fhir_bundle_or_json_too(home: RequestedHome, driftward: Run) -> None:
    number = home.world.request(home.episode).id
    path = home.root / "worklist.json"
    done = driftward("label", "request", "export", number, "--format", "fhir", "--output", path)
    assert done.stdout == ""
    bundle = json.loads(path.read_text())
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    [request, *_] = [one["resource"] for one in bundle["entry"]]
    assert (request["resourceType"], request["intent"]) == ("ServiceRequest", "order")
    assert request["supportingInfo"][0]["identifier"]["system"] == "urn:dicom:uid"
    listed = json.loads(driftward("label", "request", "export", number, "--json").stdout)
    assert len(listed) == len(bundle["entry"])


def test_what_cannot_be_done_says_why(
    home: RequestedHome, driftward: Run, tmp_path: Path
) -> None:
    number = home.world.request(home.episode).id
    for words, said in (
        (("show", 99), "there is no label request 99: see `driftward label request list`"),
        (("export", number, "--format", "xml"), "csv or fhir"),
        (("export", number, "--private-key", tmp_path / "no.pem"), "say why"),
        (("export", number, "--output", tmp_path / "no" / "x"), "cannot be written"),
        (
            ("unread", number, 10**6, "--reason", "unreadable"),
            "scan 1000000 is not among those",
        ),
        (("unread", number, 1, "--reason", "tired"), "one of unreadable, not-available"),
        (("make", 1), "makes a first version"),
    ):
        done = driftward("label", "request", *words)
        assert done.code in {1, 2}
        assert said in " ".join(done.stderr.replace("│", " ").split()), done.stderr
