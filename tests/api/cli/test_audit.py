"""`driftward audit` and the key of checkpoints, as an auditor uses them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from databases import Databases, name_home
from tampering import rewrite, truncate, unguarded

from api.assembly import Driftward
from api.metrics import DriftwardCollector
from api.pages.ledger_page import VerificationDesk
from api.settings import Settings
from registry import ledger
from registry.database import Database
from registry.ledger.checkpoints import Checkpoint, sign
from retrain.scheduling import tick

if TYPE_CHECKING:
    from tests.api.cli.conftest import Outcome, Run


@pytest.fixture
def keyed(driftward: Run, home: Path) -> Path:
    """The home with a key of checkpoints; its public half lies elsewhere."""
    assert driftward("key", "checkpoint-new").code == 0
    public = home.parent / "public.pem"
    public.write_text(driftward("key", "checkpoint-public").stdout)
    return public


def problems(database: Database) -> list[tuple[str, str]]:
    """Return what was refused, as the ledger has it: action and problem."""
    with database.reading() as session:
        return [
            (entry.facts["action"], entry.facts["problem"])
            for entry in ledger.entries(session, kind="checkpoint.refused")
        ]


def test_a_checkpoint_elsewhere_shows_what_was_cut_off_and_rewritten(
    driftward: Run, keyed: Path, home_database: Database, tmp_path: Path
) -> None:
    kept = tmp_path / "elsewhere.checkpoint"
    signed = driftward("audit", "checkpoint", "--out", kept, "--json")
    assert (signed.code, signed.document["size"]) == (0, 3)
    words = ("audit", "verify", "--checkpoint", kept, "--public-key", keyed, "--json")
    found = driftward(*words)
    assert (found.code, found.document["checkpoints"]) == (0, 1)
    with unguarded(home_database) as session:
        rewrite(session, 2, roles=["viewer"])
    assert driftward("audit", "verify", "--json").document["fault"] is None
    found = driftward(*words)
    assert (found.code, found.document["fault"]["sequence"]) == (1, 1)
    assert "was rewritten" in found.document["fault"]["problem"]


def test_a_cut_tail_is_named_by_its_first_entry(
    driftward: Run, keyed: Path, home_database: Database, tmp_path: Path
) -> None:
    kept = tmp_path / "elsewhere.checkpoint"
    assert driftward("audit", "checkpoint", "--out", kept).code == 0
    with unguarded(home_database) as session:
        truncate(session, 2)
    found = driftward("audit", "verify", "--checkpoint", kept)
    assert found.code == 1
    assert "NOT VALID at entry 3: entries 3 to 3 are missing" in found.stdout


def test_without_a_place_the_checkpoint_goes_to_stdout(driftward: Run, keyed: Path) -> None:
    signed = driftward("audit", "checkpoint")
    assert signed.code == 0
    assert signed.stdout.splitlines()[-1].startswith("— driftward/")


def test_the_environment_may_name_the_key_or_hold_it(
    driftward: Run, keyed: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_home = home / "keys" / "checkpoints.key"
    elsewhere = in_home.rename(tmp_path / "secret.pem")
    for value in (str(elsewhere), elsewhere.read_text()):
        monkeypatch.setenv("DRIFTWARD_CHECKPOINT_KEY", value)
        done = driftward("audit", "checkpoint", "--json")
        assert done.code == 0
        assert "PRIVATE" not in done.stdout


def test_what_cannot_be_used_is_refused_recorded_and_changes_nothing(
    driftward: Run,
    keyed: Path,
    databases: Databases,
    home: Path,
    home_database: Database,
    tmp_path: Path,
) -> None:
    kept = tmp_path / "kept.checkpoint"
    assert driftward("audit", "checkpoint", "--out", kept).code == 0
    with home_database.reading() as session:
        origin = ledger.checkpoints.ledger_origin(session)
    assert origin is not None
    key_file = home / "keys" / "checkpoints.key"
    own = Driftward(Settings(home=home)).checkpoint_key()
    foreign, other_key = tmp_path / "foreign.checkpoint", tmp_path / "other.pem"
    with pytest.MonkeyPatch.context() as elsewhere:
        name_home(databases.home_at(tmp_path / "other"), elsewhere)
        assert driftward("init").code == 0
        assert driftward("key", "checkpoint-new").code == 0
        assert driftward("audit", "checkpoint", "--out", foreign).code == 0
        other_key.write_text(driftward("key", "checkpoint-public").stdout)
    malformed = tmp_path / "malformed.checkpoint"
    malformed.write_bytes(kept.read_bytes()[:40])
    future = tmp_path / "future.checkpoint"
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    future.write_bytes(
        sign(Checkpoint(origin=origin, size=3, root=bytes(32), at=tomorrow), own)
    )

    def verify(place: Path, *words: object) -> Outcome:
        return driftward("audit", "verify", "--checkpoint", place, *words)

    with home_database.reading() as session:
        before = ledger.verify(session)
    refusals = [
        (verify(foreign), "is not signed by the key that was given"),
        (verify(foreign, "--public-key", other_key), "it is another installation's"),
        (verify(malformed), "is no checkpoint"),
        (verify(future), "in the future"),
        (verify(tmp_path / "nowhere"), "cannot be read"),
        (verify(kept, "--public-key", tmp_path / "nowhere"), "cannot be read"),
        (verify(kept, "--public-key", key_file), "holds a private key"),
    ]
    key_file.chmod(0o644)
    refusals.append((driftward("audit", "checkpoint"), "open to other users: run `chmod 600"))
    key_file.unlink()
    refusals.append((driftward("audit", "checkpoint"), "driftward key checkpoint-new"))
    refusals.append((driftward("key", "checkpoint-public"), "cannot be read"))
    for done, words in refusals:
        assert (done.code, done.stdout) == (1, "")
        assert words in done.stderr
    assert problems(home_database) == [
        ("verify", "unknown signer"),
        ("verify", "other ledger"),
        ("verify", "malformed"),
        ("verify", "future"),
        ("verify", "unreadable"),
        ("verify", "key missing"),
        ("verify", "key of the wrong kind"),
        ("sign", "key open to others"),
        ("sign", "key missing"),
    ]
    with home_database.reading() as session:
        after = ledger.verify(session)
    assert (after.valid, after.entries) == (True, before.entries + 9)


def test_an_export_is_verified_where_there_is_no_home(
    driftward: Run, keyed: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, out = tmp_path / "kept.checkpoint", tmp_path / "ledger.jsonl"
    assert driftward("audit", "checkpoint", "--out", kept).code == 0
    done = driftward("audit", "export", "--format", "jsonl", "--out", out, "--json")
    assert (done.code, done.document["entries"], done.document["lines"]) == (0, 4, 5)
    again = driftward("audit", "export").stdout.splitlines()
    assert again[1:] == out.read_text().splitlines()[1:]
    assert "exists" in driftward("audit", "export", "--out", out).stderr
    home.rename(tmp_path / "gone")
    words = ("audit", "verify", "--export", out)
    assert driftward(*words).code == 0
    found = driftward(*words, "--checkpoint", kept, "--public-key", keyed, "--json")
    assert (found.code, found.document["checkpoints"]) == (0, 1)
    assert "--public-key" in driftward(*words, "--checkpoint", kept).stderr
    out.write_text(out.read_text().replace("identity.bound", "identity.bond"))
    found = driftward(*words)
    assert found.code == 1
    assert "NOT VALID at entry 2" in found.stdout


@pytest.mark.parametrize("form", ["openlineage", "fhir"])
def test_exports_for_others_go_to_stdout_line_by_line(
    driftward: Run, home: Path, form: str
) -> None:
    done = driftward("audit", "export", "--format", form)
    assert done.code == 0
    assert all(json.loads(line) for line in done.stdout.splitlines())
    late = driftward("audit", "export", "--format", form, "--since", "2999-01-01")
    assert (late.code, late.stdout) == (1, "")
    assert "no entry in that span" in late.stderr


def test_dropped_triggers_are_said_by_every_way_in(
    driftward: Run, home: Path, home_database: Database
) -> None:
    with home_database.transaction() as session:
        ledger.append_only.unguard(session.connection(), ["ledger"])
    found = driftward("audit", "verify")
    assert found.code == 1
    assert "NOT GUARDED" in found.stdout
    assert "ledger_refuses_delete" in found.stdout
    assert "ledger_refuses_delete" in driftward("doctor").stdout
    # Opening the home again mends nothing: it would hide what was done.
    assert driftward("audit", "verify").code == 1


def test_a_checkpoint_is_signed_every_day_where_a_folder_is_set(
    keyed: Path, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    installation = Driftward.open(Settings(home=home, checkpoint_folder=folder))

    def figure() -> float | None:
        desk = VerificationDesk(installation.database, installation.clock)
        for family in DriftwardCollector(installation, desk).collect():
            if family.name == "driftward_checkpoint_timestamp_seconds":
                return float(family.samples[0].value)
        return None

    assert figure() == 0
    for _ in range(3):
        tick(installation.database, installation.clock, checkpoints=True)
    installation.worker().drain()
    [signed] = folder.iterdir()
    assert signed.suffix == ".checkpoint"
    age = datetime.now(UTC).timestamp() - (figure() or 0)
    assert 0 <= age < 300
    without = Driftward.open(Settings(home=home))
    desk = VerificationDesk(without.database, without.clock)
    names = {family.name for family in DriftwardCollector(without, desk).collect()}
    assert "driftward_checkpoint_timestamp_seconds" not in names
    installation.database.dispose()
    without.database.dispose()
