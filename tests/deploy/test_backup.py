"""A copy that is made while somebody writes, and the home that comes back from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sources_home import instance
from sqlalchemy import func, select

from api.assembly import Driftward
from api.doctor import examine
from api.initialising import initialise
from api.settings import Settings
from monitor.intake.verifying import verify_files
from monitor.tables import ScanRow
from registry import ledger

SCRIPT = Path(__file__).parents[2] / "deploy" / "backup.sh"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    initialise(Settings(home=path), name="operations")
    driftward = Driftward.open(Settings(home=path))
    driftward.tracking.start_run("before", params={}, tags={})
    take(driftward, tmp_path, range(5))
    driftward.database.dispose()
    return path


def take(driftward: Driftward, folder: Path, numbers: range) -> None:
    for number in numbers:
        file = folder / f"{number}.dcm"
        file.write_bytes(instance(number))
        driftward.intake.add([file], site="north")


def back_up(home: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, home, target],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def scans(driftward: Driftward) -> int:
    with driftward.database.reading() as session:
        return session.scalar(select(func.count(ScanRow.id))) or 0


@pytest.mark.slow
def test_a_home_comes_back_whole_from_a_copy_that_was_made_while_scans_came(
    home: Path, tmp_path: Path
) -> None:
    writing = Driftward.open(Settings(home=home))
    stop = threading.Event()

    def write() -> None:
        number = 100
        while not stop.is_set():
            take(writing, tmp_path, range(number, number + 1))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    copy = tmp_path / "copy"
    try:
        done = back_up(home, copy)
    finally:
        stop.set()
        writer.join()
    assert (done.returncode, done.stderr) == (0, "")
    came = scans(writing)
    writing.database.dispose()

    # What versions say of their artifacts is an absolute path: a home goes back to where it was.
    shutil.rmtree(home)
    copy.rename(home)
    restored = Driftward.open(Settings(home=home))
    assert 5 <= scans(restored) <= came
    with restored.database.reading() as session:
        assert ledger.verify(session).valid
    found = verify_files(restored.database, restored.vault)
    assert (found.gone, found.damaged, found.checked) == (0, (), scans(restored))
    assert [item for item in examine(restored.settings) if not item.ok] == []
    # The same keys: a file that came before is known, and the home goes on.
    before = scans(restored)
    take(restored, tmp_path, range(5))
    assert scans(restored) == before
    take(restored, tmp_path, range(900, 901))
    assert scans(restored) == before + 1
    restored.database.dispose()


def test_a_copy_is_its_owner_s_alone_and_holds_what_belongs_together(
    home: Path, tmp_path: Path
) -> None:
    (home / "receiver.yaml").write_text("site: north\n", encoding="utf-8")
    (home / "work" / "half.bin").write_bytes(b"unfinished")
    copy = tmp_path / "copy"
    assert back_up(home, copy).returncode == 0
    there = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert {"driftward.db", "mlflow/mlflow.db", "receiver.yaml"} <= there
    assert {"keys/pseudonyms.key", "keys/quarantine.key"} <= there
    assert any(name.startswith("vault/") for name in there)
    assert not [name for name in there if name.startswith("work/")]
    for path in (copy, copy / "keys", copy / "driftward.db", copy / "work"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_copy_is_never_written_over(home: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    done = back_up(home, tmp_path / "copy")
    assert done.returncode == 1
    assert "exists already" in done.stderr


def test_a_folder_that_is_no_home_is_refused(tmp_path: Path) -> None:
    done = back_up(tmp_path, tmp_path / "copy")
    assert done.returncode == 1
    assert "has no driftward.db" in done.stderr
    assert not (tmp_path / "copy").exists()
