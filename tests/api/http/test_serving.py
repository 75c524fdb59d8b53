from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from believable_home import Stage
from databases import Databases, name_home
from people import add_user, disable, make_token

from api.assembly import Driftward
from api.http.serving import listen, require_sign_in, serve
from api.initialising import initialise
from registry.errors import NotPermittedError, PortInUseError, SetupError
from registry.identities import Role

if TYPE_CHECKING:
    from tests.api.conftest import CopyHome

REPOSITORY = Path(__file__).parents[3]


def test_a_busy_port_is_named_with_the_way_out() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} of 127.0.0.1: .*--port"):
            listen("127.0.0.1", port)


@pytest.fixture
def empty_home(databases: Databases, tmp_path: Path) -> Iterator[Driftward]:
    home = databases.home_at(tmp_path / "home")
    initialise(home)
    driftward = Driftward.open(home)
    yield driftward
    driftward.database.dispose()
    databases.throw_away_database(home)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])  # noqa: S104
def test_where_others_reach_it_nothing_is_served_until_somebody_can_sign_in(
    empty_home: Driftward, host: str
) -> None:
    with pytest.raises(NotPermittedError, match="nobody could sign in there"):
        serve(empty_home, host, 0, with_worker=False)
    now = empty_home.clock.now()
    add_user(empty_home.database, "mei", Role.VIEWER, at=now, password=None)
    make_token(empty_home.database, "mei", at=now - timedelta(days=31))  # expired
    with pytest.raises(NotPermittedError, match="nobody could sign in there"):
        require_sign_in(empty_home, host)
    make_token(empty_home.database, "mei", at=now)
    require_sign_in(empty_home, host)
    disable(empty_home.database, "mei", at=now)
    with pytest.raises(NotPermittedError):
        require_sign_in(empty_home, host)
    add_user(empty_home.database, "ana", Role.VIEWER, at=now)
    require_sign_in(empty_home, host)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"tls_certificate": Path("/nowhere")}, "belong together"),
        ({"tls_certificate": Path("/nowhere"), "tls_key": Path("/nowhere")}, "/nowhere"),
    ],
)
def test_what_cannot_encrypt_is_named_before_anything_is_served(
    empty_home: Driftward, changed: dict[str, Path], problem: str
) -> None:
    empty_home.settings = empty_home.settings.model_copy(update=changed)
    with pytest.raises(SetupError, match=problem):
        serve(empty_home, "127.0.0.1", 0, with_worker=False)


def test_a_host_that_does_not_exist_is_named() -> None:
    with pytest.raises(SetupError, match=r"nowhere\.invalid"):
        listen("nowhere.invalid", 0)


def test_localhost_is_loopback() -> None:
    with listen("localhost", 0) as listener:
        assert listener.family in {socket.AF_INET, socket.AF_INET6}


@pytest.mark.parametrize(
    ("stop", "with_worker"), [(signal.SIGTERM, True), (signal.SIGINT, False)]
)
def test_a_served_home_answers_and_stops_cleanly_when_told(
    copied_home: CopyHome,
    monkeypatch: pytest.MonkeyPatch,
    stop: signal.Signals,
    with_worker: bool,
) -> None:
    name_home(copied_home(Stage.EMPTY), monkeypatch)
    program = (
        "from api.assembly import Driftward\n"
        "from api.http.serving import serve\n"
        "from api.settings import Settings\n"
        f"serve(Driftward.open(Settings()), '127.0.0.1', 0, with_worker={with_worker})\n"
        "print('stopped')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        announced = process.stderr.readline()
        address = announced.split()[2].rstrip(";")
        assert httpx.get(f"{address}healthz").json() == {"status": "alive"}
        time.sleep(0.2)  # it would be waiting for jobs by then
        process.send_signal(stop)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert output == "stopped\n"
    assert "Traceback" not in errors
