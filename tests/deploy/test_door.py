"""The door of the containers, with a real nginx before the application."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn
from people import add_user, make_token

from api.assembly import Driftward
from api.http.app import create_app
from api.http.serving import listen
from registry.identities import Role

if TYPE_CHECKING:
    from tests.deploy.conftest import Program

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "compose" / "nginx.conf"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    # The machine may be busy with other tests.
    with httpx.Client(timeout=120) as made:
        yield made


@contextmanager
def serving(driftward: Driftward) -> Iterator[int]:
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(driftward), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture(scope="module")
def known(installation: Driftward) -> dict[str, str]:
    """The header by which a router is known."""
    database, now = installation.database, installation.clock.now()
    add_user(database, "router", Role.OPERATOR, at=now, password=None)
    return {"authorization": f"Bearer {make_token(database, 'router', at=now)}"}


@pytest.fixture(scope="module")
def doors(
    installation: Driftward, program: Program, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Addresses of the two doors: that of people, and that of Prometheus."""
    nginx = program("nginx", "Debian's nginx-light")
    folder = tmp_path_factory.mktemp("door")
    ports = {"8320": free_port(), "8322": free_port()}
    with serving(installation) as port:
        text = CONFIGURATION.read_text(encoding="utf-8")
        assert text.count("http://127.0.0.1:8321;") == 4
        text = text.replace(":8321;", f":{port};").replace("/tmp/", f"{folder}/")  # noqa: S108
        for named, free in ports.items():
            text = text.replace(f"listen {named}", f"listen 127.0.0.1:{free}")
        written = folder / "nginx.conf"
        written.write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [nginx, "-c", written, "-p", folder, "-g", "daemon off;"], stderr=subprocess.PIPE
        )
        try:
            wait_for(ports["8322"], process)
            yield {name: f"http://127.0.0.1:{free}" for name, free in ports.items()}
        finally:
            process.terminate()
            process.communicate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    latest = time.monotonic() + 60
    while True:
        assert process.poll() is None, process.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > latest:
                raise
            time.sleep(0.1)
        else:
            return


def test_health_is_behind_it_and_the_rest_once_somebody_is_known(
    doors: dict[str, str], client: httpx.Client, known: dict[str, str]
) -> None:
    expected = {
        "/": 303,
        "/healthz": 200,
        "/readyz": 200,
        "/metrics": 401,
        "/api/v1/models": 401,
    }
    for path, status in expected.items():
        assert client.get(doors["8320"] + path).status_code == status, path
    for path in expected:
        assert client.get(doors["8320"] + path, headers=known).status_code == 200, path


def test_whoever_calls_it_by_another_name_is_turned_away(
    doors: dict[str, str], client: httpx.Client
) -> None:
    answer = client.get(f"{doors['8320']}/", headers={"Host": "rebound.example"})
    assert answer.status_code == 421


def test_prometheus_gets_figures_and_nothing_else(
    doors: dict[str, str], client: httpx.Client
) -> None:
    named = {"Host": "serve:8322"}
    figures = client.get(f"{doors['8322']}/metrics", headers=named)
    assert figures.status_code == 200
    assert "driftward_ledger_entries_total" in figures.text
    for path in ("/", "/api/v1/scans", "/dicomweb/north/studies"):
        assert client.get(doors["8322"] + path, headers=named).status_code == 404, path


def test_it_lets_through_what_dicomweb_sends(
    doors: dict[str, str], client: httpx.Client, known: dict[str, str]
) -> None:
    # nginx's own limit is 1 MiB, and it would answer 413.
    answer = client.post(
        f"{doors['8320']}/dicomweb/nowhere/studies",
        content=bytes(3 << 20),
        headers={
            **known,
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=x',
        },
    )
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_it_lets_reports_through_that_are_as_large_as_they_may_be(
    doors: dict[str, str], client: httpx.Client, known: dict[str, str]
) -> None:
    def send(size: int) -> httpx.Response:
        return client.post(
            f"{doors['8320']}/api/v1/labels/reports?site=nowhere",
            content=b" " * size,
            headers={**known, "host": "localhost", "content-type": "text/csv"},
        )

    # Refused by the application, which has read it; and by the door itself.
    assert send(15 << 20).json()["type"] == "urn:driftward:problem:label"
    assert send(17 << 20).status_code == 413
