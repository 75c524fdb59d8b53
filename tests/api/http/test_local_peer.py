"""Whose socket is at the other end of a loopback connection, on real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from api.http.local_peer import on_this_machine, owner_of_connection, same_user

_CONNECT = """
import os, socket, sys
host, port, user = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
"".encode("idna")  # loaded while the interpreter's files may still be read
if user != os.geteuid():
    os.setuid(user)
with socket.create_connection((host, port)) as connection:
    print(connection.getsockname()[1], flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux lists whose a socket is"
)


@contextmanager
def connected(host: str, user: int) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Yield both ends of a connection that a user made: theirs, and ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        listener.settimeout(30)
        with subprocess.Popen(
            [sys.executable, "-c", _CONNECT, host, str(port), str(user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            accepted, _ = listener.accept()
            with accepted:
                assert process.stdout is not None
                theirs = int(process.stdout.readline())
                yield (host, theirs), (host, port)
                process.communicate("")


def scope(
    near: tuple[str, int], far: tuple[str, int], *headers: tuple[bytes, bytes]
) -> dict[str, object]:
    return {"type": "http", "client": near, "server": far, "headers": list(headers)}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_of_one_s_own_is_recognised(host: str) -> None:
    with connected(host, os.geteuid()) as (near, far):
        assert owner_of_connection(near, far) == os.geteuid()
        assert same_user(scope(near, far))
        assert not same_user(scope(near, far, (b"x-forwarded-for", b"192.0.2.7")))
        assert not same_user(scope(near, (far[0], far[1] + 1)))
        assert not same_user(scope((near[0], near[1] ^ 1), far))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_of_another_user_of_the_machine_is_not(host: str) -> None:
    with connected(host, 65534) as (near, far):
        assert owner_of_connection(near, far) == 65534
        assert not same_user(scope(near, far))


def test_a_connection_that_was_closed_is_nobody_s() -> None:
    with connected("127.0.0.1", os.geteuid()) as (near, far):
        pass
    # What is left of it in the kernel would be listed as root's.
    assert owner_of_connection(near, far) is None
    assert not same_user(scope(near, far))


@pytest.mark.parametrize(
    ("near", "far"),
    [
        (("testclient", 50000), ("127.0.0.1", 80)),
        (("192.0.2.7", 50000), ("192.0.2.1", 80)),
        (("127.0.0.1", 50000), ("::1", 80)),
    ],
)
def test_what_is_not_loopback_is_nobody_s(near: tuple[str, int], far: tuple[str, int]) -> None:
    assert owner_of_connection(near, far) is None
    assert not same_user(scope(near, far))


def test_a_socket_without_an_address_is_nobody_s() -> None:
    assert not same_user({"type": "http", "client": None, "server": None, "headers": []})
    assert not on_this_machine({"type": "http", "client": None, "headers": []})
