"""Serving: one process with the pages, the API, the tick and, if asked, worker and sources."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from api.assembly import Driftward
from api.http.app import create_app
from api.settings import environment
from registry.errors import NotPermittedError, PortInUseError, SetupError
from retrain.scheduling import start_scheduler

#: How long open requests may take to end, and a job to come to a point where it can stop.
#: A job that takes longer is left to its lease: another worker then takes it up.
GRACE_SECONDS = 5


def serve(driftward: Driftward, host: str, port: int, *, with_worker: bool) -> None:
    """Serve until SIGINT or SIGTERM, then stop the tick, the worker, the sources and the server.

    Parameters
    ----------
    host : a loopback address or name; anybody could read and act elsewhere, since there is
        no sign-in yet
    port : 0 takes a free one

    Raises
    ------
    NotPermittedError
        If the host is not loopback.
    PortInUseError
        If another process listens on the port.
    SetupError
        If the address cannot be had for another reason.
    """
    listener = listen(host, port)
    app = create_app(driftward, hosts=[host])
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    threading.Thread(target=app.state.desk.verify, name="verification", daemon=True).start()
    with (
        listener,
        _ticking(driftward),
        _in_background("worker", driftward.worker().run_until if with_worker else None),
        _receiving(driftward, with_worker),
        # As `driftward source follow` does by itself.
        _in_background("sources", driftward.followers.run_until if with_worker else None),
        _outliving_signals(),
    ):
        sys.stderr.write(f"Driftward serves {_address(listener)}; stop it with Ctrl-C\n")
        sys.stderr.flush()
        server.run(sockets=[listener])
    driftward.database.dispose()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a loopback address; raises as `serve` does."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SetupError(f"the host {host} is not known: use 127.0.0.1") from error
    if not all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found):
        raise NotPermittedError(
            f"{host} can be reached from other machines, and there is no sign-in yet: "
            "serve on 127.0.0.1, and put an authenticating proxy before it"
        )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"another process listens on port {port} of {host}: stop it, or choose "
                "another port with --port"
            ) from error
        raise SetupError(
            f"cannot listen on port {port} of {host}: {error.strerror}; choose another port "
            "with --port"
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


@contextmanager
def _ticking(driftward: Driftward) -> Iterator[None]:
    scheduler = start_scheduler(driftward.database, driftward.clock)
    try:
        yield
    finally:
        scheduler.shutdown(wait=True)


@contextmanager
def _receiving(driftward: Driftward, wanted: bool) -> Iterator[None]:
    """Run the DICOM port in a process of its own, where the home says who may send."""
    if not wanted or not driftward.home.receiver.exists():
        yield
        return
    process = subprocess.Popen(  # noqa: S603 - this program
        [
            *(sys.executable, "-c", "from api.cli import main; main()"),
            *("receive", "--home", str(driftward.home.root)),
        ],
        env={**environment(), "DRIFTWARD_PARENT": str(os.getpid())},
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _in_background(
    name: str, run_until: Callable[[threading.Event], None] | None
) -> Iterator[None]:
    """Run something in a thread beside the server, and tell it to stop with the server."""
    if run_until is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=run_until, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(GRACE_SECONDS)


@contextmanager
def _outliving_signals() -> Iterator[None]:
    """Let the process live on after the server has stopped, so that the rest stops, too.

    uvicorn raises a signal that it caught once more when it has shut down,
    for the handlers that were there before it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda *_: None) for name in wanted}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
