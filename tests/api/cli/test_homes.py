from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from tampering import unguarded

from registry.database import Database

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run


def test_init_makes_a_private_home_with_a_ledger_that_verifies(
    driftward: Run, tmp_path: Path
) -> None:
    home = tmp_path / "new"
    done = driftward("init", "--home", home, "--name", "Olga", "--json")
    assert (done.code, done.document) == (0, {"home": str(home), "identity": "Olga"})
    for folder in ("keys", "vault", "quarantine"):
        assert stat.S_IMODE((home / folder).stat().st_mode) == 0o700
    verified = driftward("audit", "verify", "--home", home, "--json")
    assert verified.code == 0
    assert verified.document["valid"] is True
    assert verified.document["entries"] == 2


def test_init_twice_changes_nothing(driftward: Run, home: Path) -> None:
    keys = {path: path.read_bytes() for path in (home / "keys").iterdir()}
    again = driftward("init")
    assert again.code == 1
    assert "a Driftward home already: nothing was changed" in again.stderr
    assert keys == {path: path.read_bytes() for path in (home / "keys").iterdir()}


def test_init_leaves_a_folder_with_other_files_alone(driftward: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = driftward("init", "--home", tmp_path)
    assert done.code == 1
    assert "holds other files: name an empty or a new folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "words", [("scan", "list"), ("audit", "verify"), ("work", "--drain"), ("serve",)]
)
def test_what_is_no_home_is_said_to_be_none_and_is_not_made_one(
    driftward: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = driftward(*words, "--home", tmp_path / "nowhere")
    assert done.code == 1
    assert "is not a Driftward home: `driftward init --home" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "nowhere").exists()


def test_a_home_of_a_newer_schema_is_refused_unchanged(
    driftward: Run, home_database: Database
) -> None:
    with home_database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for words in (("scan", "list"), ("work", "--drain"), ("up",)):
        done = driftward(*words)
        assert done.code == 1
        assert "schema 9999 is newer than this Driftward knows" in done.stderr
        assert "upgrade driftward, or choose another home with --home" in done.stderr
    assert home_database.revision() == "9999"


def test_the_option_is_stronger_than_the_environment(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    done = driftward("scan", "list", "--home", tmp_path / "other")
    assert (done.code, str(tmp_path / "other") in done.stderr) == (1, True)


@pytest.mark.parametrize("command", ["serve", "up"])
def test_a_busy_port_is_named_with_the_way_out(
    driftward: Run, home: Path, command: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = driftward(command, "--port", port)
    assert done.code == 1
    assert f"another process listens on port {port}" in done.stderr
    assert "--port" in done.stderr


def test_serving_where_others_can_reach_is_refused(driftward: Run, home: Path) -> None:
    done = driftward("serve", "--host", "0.0.0.0")  # noqa: S104
    assert done.code == 1
    assert "nobody could sign in there: choose a password" in done.stderr


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_port_that_cannot_be_is_misuse(driftward: Run, home: Path, port: int) -> None:
    assert driftward("serve", "--port", port).code == 2


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's
def test_the_doctor_finds_a_whole_home_whole(driftward: Run, home: Path) -> None:
    done = driftward("doctor", "--json")
    assert all(item["ok"] for item in done.document)
    looked_at = {item["check"] for item in done.document}
    assert looked_at == {
        *("packages", "SQLite", "device", "home", "disk", "quarantine", "ledger", "MLflow")
    }
    assert done.code == 0


def test_the_doctor_says_what_is_wrong(driftward: Run, tmp_path: Path) -> None:
    done = driftward("doctor", "--home", tmp_path / "nowhere")
    assert done.code == 1
    assert "FAIL  home: " in done.stdout


def test_a_ledger_that_was_edited_is_found_and_fails_the_command(
    driftward: Run, home_database: Database
) -> None:
    with unguarded(home_database) as session:
        session.execute(text("UPDATE ledger SET actor = 'nobody' WHERE sequence = 2"))
    done = driftward("audit", "verify", "--json")
    assert done.code == 1
    assert done.document["fault"]["sequence"] == 2
    assert "NOT VALID at entry 2" in driftward("audit", "verify").stdout
