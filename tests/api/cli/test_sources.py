from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sources_home import instance, until

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run


@pytest.fixture
def incoming(home: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    (tmp_path / "ward.yaml").write_text(
        f"name: ward\nkind: folder\npath: {folder}\nsite: north\nsettle_seconds: 0\n"
        "afterwards: keep\n"
    )
    return folder


def test_a_folder_from_its_file_to_its_scans(
    driftward: Run, incoming: Path, tmp_path: Path
) -> None:
    assert driftward("source", "list").stdout == "no source was applied yet\n"
    assert driftward("source", "apply", tmp_path / "ward.yaml").code == 0
    for number in range(3):
        (incoming / f"{number}.dcm").write_bytes(instance(number))
    assert driftward("source", "follow", "ward", "--once").code == 0
    [listed] = driftward("source", "list", "--json").document
    assert listed["counts"] == {"added": 3}
    assert (listed["backlog"], listed["last_error"]) == (0, None)
    assert "added        3\n" in driftward("source", "show", "ward").stdout
    assert driftward("scan", "list", "--json").code == 0
    assert driftward("source", "remove", "ward").code == 0
    gone = driftward("source", "show", "ward")
    assert (gone.code, gone.stdout) == (1, "")
    assert "there is no source ward" in gone.stderr


@pytest.mark.parametrize("command", ["up", "source follow"])
def test_what_arrives_is_taken_while_it_runs(
    driftward: Run, home: Path, incoming: Path, tmp_path: Path, command: str
) -> None:
    driftward("source", "apply", tmp_path / "ward.yaml")
    options = ["--port", "0"] if command == "up" else []
    running = subprocess.Popen(
        [sys.executable, "-c", "from api.cli import main; main()", *command.split(), *options],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "DRIFTWARD_HOME": str(home)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        assert "stop" in running.stderr.readline()
        (incoming / "1.dcm").write_bytes(instance(1))
        until(lambda: driftward("source", "list", "--json").document[0]["counts"] != {})
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, errors) == (0, "")
    assert driftward("source", "list", "--json").document[0]["counts"] == {"added": 1}


def test_a_file_that_is_wrong_is_named_by_line(
    driftward: Run, incoming: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ward.yaml"
    path.write_text(path.read_text().replace("keep", "kep"))
    refused = driftward("source", "apply", path)
    assert refused.code == 1
    assert "ward.yaml:6: afterwards" in refused.stderr


def test_what_cannot_be_used_is_not_applied(
    driftward: Run, incoming: Path, tmp_path: Path
) -> None:
    incoming.rmdir()
    refused = driftward("source", "apply", tmp_path / "ward.yaml")
    assert refused.code == 1
    assert f"no folder {incoming}" in refused.stderr
    assert driftward("source", "list", "--json").document == []


def test_a_source_that_fails_is_said_by_follow_list_and_doctor(
    driftward: Run, incoming: Path, tmp_path: Path
) -> None:
    driftward("source", "apply", tmp_path / "ward.yaml")
    assert f"source ward: folder {incoming}" in driftward("doctor").stdout
    incoming.rmdir()
    followed = driftward("source", "follow", "--once")
    assert followed.code == 1
    assert f"no folder {incoming}" in followed.stderr
    listed = driftward("source", "list").stdout
    assert "FAILS" in listed
    assert f"no folder {incoming}" in listed
    examined = driftward("doctor")
    assert examined.code == 1
    assert f"FAIL  source ward: source ward: there is no folder {incoming}" in examined.stdout


def test_a_source_that_waits_for_senders_is_not_followed(
    driftward: Run, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "web.yaml").write_text("name: web\nkind: dicomweb\nsites: [north, south]\n")
    assert driftward("source", "apply", tmp_path / "web.yaml").code == 0
    assert "north, south" in driftward("source", "list").stdout
    refused = driftward("source", "follow", "web")
    assert refused.code == 1
    assert "kind dicomweb" in refused.stderr
