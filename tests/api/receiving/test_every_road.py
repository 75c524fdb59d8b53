"""The same sample by every road is the same scans, each once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dicom_instances import as_file, radiograph
from dicom_programs import program
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from running_orthanc import PASSWORD, USER, RunningOrthanc, free_port
from running_receiver import RunningReceiver, receiving

ROOT = "1.2.826.0.1.3680043.8.498.8"
COUNT = 6


@pytest.fixture
def sample(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "sample"
    folder.mkdir()
    files = []
    for number in range(COUNT):
        ds = radiograph(SOPInstanceUID=f"{ROOT}.{number}", PatientID=f"{number}")
        path = folder / f"{number}.dcm"
        path.write_bytes(as_file(ds))
        files.append(path)
    return files


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[RunningOrthanc]:
    server = RunningOrthanc(tmp_path / "orthanc")
    yield server
    server.close()


@pytest.mark.slow
def test_every_road_delivers_the_same_scans_each_once(
    home: Path, tmp_path: Path, sample: list[Path], orthanc: RunningOrthanc
) -> None:
    storescu = program("storescu")
    with receiving(home) as receiver:

        def arrived(*, road: str) -> None:
            scans = receiver.scans()
            assert len(scans) == COUNT, road
            assert {scan.site for scan in scans} == {"north"}, road
            assert receiver.reasons() == [], road

        orthanc.start(
            {
                "DicomModalities": {"driftward": ["DRIFTWARD", "127.0.0.1", receiver.port]},
                "DicomAet": "ORTHANC",
            }
        )
        identifiers = [orthanc.store(path.read_bytes()) for path in sample]
        answer = orthanc.client.post("/modalities/driftward/store", json=identifiers)
        assert answer.json()["FailedInstancesCount"] == 0
        arrived(road="Orthanc's C-STORE")

        for _ in range(2):
            subprocess.run(
                [storescu, "-aec", "DRIFTWARD", "127.0.0.1", str(receiver.port), *sample],
                check=True,
            )
        arrived(road="storescu")

        _apply(home, tmp_path, "web", "kind: dicomweb\nsites: [north]\n")
        with _serving(home) as url:
            client = DICOMwebClient(f"{url}/dicomweb/north")
            data_sets = [dcmread(path) for path in sample]
            for _ in range(2):
                client.store_instances(data_sets)
        arrived(road="STOW-RS")

        password = tmp_path / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        _apply(
            home,
            tmp_path,
            "feed",
            f"kind: orthanc\nurl: {orthanc.url}\nsite: north\nusername: {USER}\n"
            f"password_file: {password}\n",
        )
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        for path in sample:
            (inbox / path.name).write_bytes(path.read_bytes())
        _apply(
            home,
            tmp_path,
            "inbox",
            f"kind: folder\npath: {inbox}\nsite: north\nsettle_seconds: 0\nafterwards: keep\n",
        )
        _run("source", "follow", "feed", "inbox", "--once", "--home", str(home))
        arrived(road="change feed and folder")
        receiver.require_whole()
        _came_by_every_road(receiver)


def _came_by_every_road(receiver: RunningReceiver) -> None:
    shown = _run("source", "list", "--json", "--home", str(receiver.home))
    import json

    counts = {one["source"]: one["counts"] for one in json.loads(shown)}
    assert counts["feed"].get("known") == COUNT
    assert counts["inbox"].get("known") == COUNT


def _apply(home: Path, folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\n{text}")
    _run("source", "apply", str(path), "--home", str(home))


def _run(*arguments: str) -> str:
    command = Path(sys.executable).parent / "driftward"
    ran = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextmanager
def _serving(home: Path) -> Iterator[str]:
    port = free_port()
    command = Path(sys.executable).parent / "driftward"
    with subprocess.Popen(
        [command, "serve", "--home", home, "--port", str(port)],
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    ) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline().decode()
            assert "serves" in line, line
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.communicate(timeout=60)
