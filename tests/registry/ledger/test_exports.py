"""Exports: whole, verifiable by themselves, and what the standards of others call valid."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from databases import on_each_database
from fhir.resources.R4B.auditevent import AuditEvent
from jsonschema import Draft202012Validator
from tampering import rewrite, truncate, unguarded

from registry import ledger
from registry.clock import ReplayClock
from registry.database import Database
from registry.errors import BadInputError, NotFoundError
from registry.identities import SYSTEM
from registry.ledger.checkpoint_keys import SigningKey
from registry.ledger.checkpointing import Checkpointer
from registry.ledger.exports import fhir, jsonl, openlineage
from registry.ledger.exports.part import Part, part_of

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "OpenLineage.json").read_text())
#: kinds of every sort, with facts that name versions and data sets
KINDS = {
    "dataset.frozen": ("dataset 1", {"purpose": "locked"}),
    "version.registered": ("chest@2", {"base": "chest@1"}),
    "run.planned": ("run 1", {}),
    "run.training": ("run 1", {"before": "queued"}),
    "run.promoted": ("run 1", {"before": "awaiting approval"}),
    "run.failed": ("run 2", {"before": "training"}),
    "champion.promoted": ("chest@2", {"before": "chest@1"}),
    "plan.refused": ("chest", {"reason": "é ü"}),
    "source.removed": ("archive", {}),
}


@pytest.fixture
def told(recorded: Database, now: datetime) -> Database:
    """Five identities, then an entry of every sort, an hour apart."""
    for number, (kind, (subject, facts)) in enumerate(KINDS.items(), 1):
        with recorded.transaction() as session:
            ledger.append(
                session,
                at=now + timedelta(hours=number),
                actor="ana" if number % 2 else SYSTEM.name,
                kind=kind,
                subject=subject,
                facts=facts,
            )
    return recorded


def exported(database: Database, path: Path, **span: datetime) -> Part:
    with database.reading() as session:
        part = part_of(session, since=span.get("since"), until=span.get("until"))
        lines = list(jsonl.lines(session, part, at=datetime.fromisoformat("2026-03-09T00:00Z")))
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return part


@on_each_database
def test_an_export_is_verified_without_the_database(told: Database, tmp_path: Path) -> None:
    part = exported(told, tmp_path / "ledger.jsonl")
    found = jsonl.verify_export(tmp_path / "ledger.jsonl")
    with told.reading() as session:
        assert (found.entries, found.head) == (14, ledger.verify(session, []).head)
    assert (found.problem, part.first, part.last) == (None, 1, 14)
    entries = [
        json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()
    ]
    assert entries[-1]["entry"]["kind"] == "source.removed"


@on_each_database
def test_a_part_by_time_continues_the_digest_before_it(
    told: Database, tmp_path: Path, now: datetime
) -> None:
    path = tmp_path / "part.jsonl"
    part = exported(told, path, since=now + timedelta(hours=2), until=now + timedelta(hours=5))
    assert (part.first, part.last) == (7, 9)
    assert jsonl.verify_export(path).problem is None


def damaged(path: Path, change: object) -> tuple[int, str]:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)  # type: ignore[operator]
    path.write_bytes(b"".join(lines))
    fault = jsonl.verify_export(path).fault
    assert fault is not None
    return fault.sequence, fault.problem


def test_whatever_is_done_to_an_export_is_found_at_its_entry(
    told: Database, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"

    def edit(lines: list[bytes]) -> None:
        lines[4] = lines[4].replace(b"person-3", b"person-9")

    def delete(lines: list[bytes]) -> None:
        del lines[4]

    def reorder(lines: list[bytes]) -> None:
        lines[4], lines[5] = lines[5], lines[4]

    def truncate(lines: list[bytes]) -> None:
        del lines[12:]

    def cut(lines: list[bytes]) -> None:
        lines[14] = lines[14][:50]

    def reformat(lines: list[bytes]) -> None:
        lines[7] = json.dumps(json.loads(lines[7])).encode() + b"\n"

    def repeat(lines: list[bytes]) -> None:
        lines.append(lines[14])

    for change, sequence, words in (
        (edit, 4, "was changed"),
        (delete, 4, "entry 4 is missing"),
        (reorder, 4, "entry 4 is missing"),
        (truncate, 12, "entries 12 to 14 are missing from the file"),
        (cut, 14, "cut off"),
        (reformat, 7, "not as it was written"),
        (repeat, 15, "more entries than its first line says"),
    ):
        exported(told, path)
        assert jsonl.verify_export(path).problem is None
        found = damaged(path, change)
        assert found[0] == sequence, change
        assert words in found[1], change


def test_an_export_is_held_against_a_checkpoint(
    told: Database, tmp_path: Path, key: SigningKey, now: datetime
) -> None:
    signed = Checkpointer(told, ReplayClock(now), key=lambda: key, folder=None).sign(by=SYSTEM)
    held, path = [signed.checkpoint], tmp_path / "ledger.jsonl"
    exported(told, path)
    assert jsonl.verify_export(path, checkpoints=held).problem is None
    with unguarded(told) as session:
        rewrite(session, 6, purpose="training")
    exported(told, path)
    assert jsonl.verify_export(path).valid
    fault = jsonl.verify_export(path, checkpoints=held).fault
    assert fault is not None
    assert "was rewritten" in fault.problem
    with unguarded(told) as session:
        truncate(session, 5)
    exported(told, path)
    fault = jsonl.verify_export(path, checkpoints=held).fault
    assert fault is not None
    assert (fault.sequence, "entries 6 to 14 are missing" in fault.problem) == (6, True)


def test_a_part_cannot_be_held_against_a_checkpoint(
    told: Database, tmp_path: Path, key: SigningKey, now: datetime
) -> None:
    signed = Checkpointer(told, ReplayClock(now), key=lambda: key, folder=None).sign(by=SYSTEM)
    exported(told, tmp_path / "part.jsonl", since=now + timedelta(hours=2))
    with pytest.raises(BadInputError, match="begins with entry 7"):
        jsonl.verify_export(tmp_path / "part.jsonl", checkpoints=[signed.checkpoint])


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"[1]\n", b'{"format":"driftward-ledger-1"}\n', b"\xff\n"]
)
def test_what_is_no_export_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(BadInputError, match="is no export of a ledger"):
        jsonl.verify_export(tmp_path / "file")


def test_a_span_without_entries_is_refused(told: Database, now: datetime) -> None:
    with told.reading() as session:
        with pytest.raises(NotFoundError, match="no entry in that span"):
            part_of(session, since=now + timedelta(days=2), until=None)
        with pytest.raises(BadInputError, match="give --since before --until"):
            part_of(session, since=now, until=now)


def test_openlineage_events_are_what_its_schema_takes(told: Database, now: datetime) -> None:
    validator = Draft202012Validator(SCHEMA)
    with told.reading() as session:
        part = part_of(session, since=None, until=None)
        events = [json.loads(line) for line in openlineage.lines(session, part, at=now)]
    kinds: dict[str, list[str]] = {}
    for event in events:
        validator.validate(event)
        # What version 2-0-2 asks for beyond the copy that is validated against.
        assert event["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/")
        assert datetime.fromisoformat(event["eventTime"]).utcoffset() == timedelta(0)
        kinds.setdefault(str(UUID(event["run"]["runId"])), []).append(event["eventType"])
    assert Counter(map(tuple, kinds.values())) == {
        ("START", "COMPLETE"): 10,
        ("OTHER", "START", "COMPLETE"): 1,
        ("FAIL",): 1,
    }
    [registered, _] = [
        event for event in events if event["job"]["name"] == "version.registered"
    ]
    assert [one["name"] for one in registered["inputs"]] == ["chest@1"]
    assert [one["name"] for one in registered["outputs"]] == ["chest@2"]
    assert registered["run"]["facets"]["driftward_ledger"]["sequence"] == 7


#: IHE BALP 1.1, Create and Update: what each requires beyond FHIR itself.
_INTERACTIONS = {"Create": ("create", "C"), "Update": ("update", "U")}
_PROFILES = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."


def requires_balp(event: dict[str, object]) -> str:
    """Check what the profile that an event claims requires, and return the profile's name."""
    found = AuditEvent.model_validate(event)
    [profile] = found.meta.profile
    name = profile.removeprefix(_PROFILES)
    interaction, action = _INTERACTIONS[name]
    assert found.type.code == "rest"
    assert [one.code for one in found.subtype].count(interaction) == 1
    assert (found.action, found.outcome) == (action, "0")
    roles = Counter(agent.type.coding[0].code for agent in found.agent)
    assert roles["110153"] == roles["110152"] == 1
    assert roles["AUT"] <= 1
    for agent in found.agent:
        code = agent.type.coding[0].code
        assert agent.who.identifier.value
        assert (agent.network is None) == (code == "AUT")
        assert agent.requestor == (code == "AUT")
        assert agent.media is None
    [data] = [one for one in found.entity if one.type.code == "2"]
    assert data.role.code in {"3", "4", "20"}
    assert data.what.identifier.value
    assert found.source.observer.identifier.value
    return name


def test_audit_events_are_what_fhir_and_balp_require(told: Database, now: datetime) -> None:
    with told.reading() as session:
        part = part_of(session, since=None, until=None)
        events = [json.loads(line) for line in fhir.lines(session, part, at=now)]
    assert len(events) == 14
    by_kind = {event["subtype"][1]["code"]: event for event in events}
    assert requires_balp(by_kind["identity.bound"]) == "Create"
    assert requires_balp(by_kind["version.registered"]) == "Create"
    assert requires_balp(by_kind["champion.promoted"]) == "Update"
    for kind, outcome in (("plan.refused", "4"), ("run.failed", "8")):
        AuditEvent.model_validate(by_kind[kind])
        assert (by_kind[kind]["outcome"], "meta" in by_kind[kind]) == (outcome, False)
    assert by_kind["source.removed"]["action"] == "D"
    assert len({event["id"] for event in events}) == 14


def test_an_export_keeps_no_more_than_some_entries_in_memory(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        for number in range(500):
            ledger.append(
                session,
                at=now,
                actor="a",
                kind="k.v",
                subject=str(number),
                facts={"x": "y" * 6000},
            )
        session.expunge_all()
    with database.reading() as session:
        part = part_of(session, since=None, until=None)
        for lines in (jsonl.lines, openlineage.lines, fhir.lines):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr("registry.ledger.verification.CHUNK", 20)
                tracemalloc.start()
                size = sum(len(line) for line in lines(session, part, at=now))
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert size > 3_000_000
            assert peak < 1_500_000, lines
