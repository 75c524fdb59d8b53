"""A home whose tables are in PostgreSQL, by the commands that an operator gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running_postgresql import RunningPostgresql
from sources_home import instance

_REPOSITORY = Path(__file__).parents[3]
_COMMAND = "from api.cli import main; main()"


def driftward(url: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _COMMAND, *map(str, words)],
        env={**os.environ, "DRIFTWARD_DATABASE_URL": url, "PYTHONPATH": str(_REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_home_is_made_takes_scans_and_comes_back_from_a_dump(
    postgresql: RunningPostgresql, tmp_path: Path
) -> None:
    url, home = postgresql.empty(), tmp_path / "home"
    early = driftward(url, "scan", "list", "--home", home)
    assert (early.returncode, "is empty: `driftward init --home" in early.stderr) == (1, True)
    made = driftward(url, "init", "--home", home, "--name", "Olga", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout) == {"home": str(home), "identity": "Olga"}
    assert not (home / "driftward.db").exists()
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(instance(number))
    files = sorted(tmp_path.glob("*.dcm"))
    added = driftward(url, "scan", "add", *files, "--site", "north", "--home", home)
    assert added.returncode == 0, added.stderr

    copy = tmp_path / "copy"
    subprocess.run(
        [_REPOSITORY / "deploy" / "backup.sh", home, copy],
        env={
            **os.environ,
            "DRIFTWARD_DATABASE_URL": url,
            "PATH": f"{postgresql.programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHON": sys.executable,
        },
        check=True,
        capture_output=True,
    )
    home.rename(tmp_path / "home.before")
    copy.rename(home)
    restored = postgresql.empty()
    program = postgresql.programs / "pg_restore"
    subprocess.run(
        [program, "--exit-on-error", f"--dbname={restored}", home / "driftward.dump"],
        check=True,
    )
    # The keys and the tables fit: what came before is known.
    again = driftward(restored, "scan", "add", files[0], "--site", "north", "--home", home)
    assert again.returncode == 0, again.stderr
    listed = driftward(restored, "scan", "list", "--home", home, "--json")
    assert len(json.loads(listed.stdout)) == 3
    verified = driftward(restored, "audit", "verify", "--home", home, "--json")
    found = json.loads(verified.stdout)
    assert (found["valid"], found["unguarded"]) == (True, [])


def test_a_database_has_one_home_and_what_is_refused_leaves_no_folder(
    postgresql: RunningPostgresql, tmp_path: Path
) -> None:
    for url, why in (
        (postgresql.migrated(), "is a home's already"),
        (f"{postgresql.empty()}_gone", "cannot be opened"),
    ):
        done = driftward(url, "init", "--home", tmp_path / "home")
        assert (done.returncode, why in done.stderr) == (1, True), done.stderr
        assert list(tmp_path.iterdir()) == []
