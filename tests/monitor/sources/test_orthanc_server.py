"""A connection that the server gives up, once and for good."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from monitor.sources.orthanc_server import OrthancServer
from monitor.sources.settings import OrthancSource
from registry.errors import SourceError

_BODY = b'{"Version": "1.12.9"}'
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)


class Unsteady:
    """Listens, and hangs up on so many requests before it answers one."""

    def __init__(self, *, hangs_up: int) -> None:
        self.asked = 0
        self._hangs_up = hangs_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._serving = threading.Thread(target=self._serve, daemon=True)
        self._serving.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.asked += 1
                if self.asked > self._hangs_up:
                    connection.sendall(_ANSWER)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._serving.join(5)


@pytest.fixture
def unsteady(request: pytest.FixtureRequest) -> Iterator[Unsteady]:
    with closing(Unsteady(hangs_up=request.param)) as server:
        yield server


def _server(unsteady: Unsteady) -> OrthancServer:
    return OrthancServer(
        OrthancSource(name="archive", kind="orthanc", url=unsteady.url, site="north")
    )


@pytest.mark.parametrize("unsteady", [1], indirect=True)
def test_a_request_whose_connection_was_given_up_is_asked_again(unsteady: Unsteady) -> None:
    with closing(_server(unsteady)) as server:
        assert server.version() == "1.12.9"
    assert unsteady.asked == 2


@pytest.mark.parametrize("unsteady", [9], indirect=True)
def test_a_server_that_always_hangs_up_is_said_to_be_away(unsteady: Unsteady) -> None:
    with (
        closing(_server(unsteady)) as server,
        pytest.raises(SourceError, match=r"source archive at .* cannot be reached"),
    ):
        server.version()
    assert unsteady.asked == 2
