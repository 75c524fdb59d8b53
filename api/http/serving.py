"""Serving: one process with the pages, the API, the tick and, if asked, worker and sources."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from api.assembly import Driftward
from api.http.app import create_app
from api.http.local_peer import nobody, same_user
from api.settings import Settings, environment
from registry.access import tokens
from registry.errors import NotPermittedError, PortInUseError, SetupError
from registry.identities import all_rows
from retrain.scheduling import Schedule

#: How long open requests may take to end, and a job to come to a point where it can stop.
#: A job that takes longer is left to its lease: another worker then takes it up.
GRACE_SECONDS = 5


def serve(driftward: Driftward, host: str, port: int, *, with_worker: bool) -> None:
    """Serve until SIGINT or SIGTERM, then stop the tick, the worker, the sources and the server.

    Parameters
    ----------
    host : an address or name; on one that is not loopback everybody signs in
    port : 0 takes a free one

    Raises
    ------
    NotPermittedError
        If others can reach the host, and nobody could sign in there.
    PortInUseError
        If another process listens on the port.
    SetupError
        If the address cannot be had for another reason.
    """
    private = is_loopback(host)
    if not private:
        require_sign_in(driftward, host)
    encryption = _encryption(driftward.settings)
    listener = listen(host, port)
    app = create_app(
        driftward,
        hosts=_names(driftward.settings, host, private=private),
        recognise=same_user if private else nobody,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
            **encryption,
        )
    )
    app.state.schedule = Schedule(
        driftward.database,
        driftward.clock,
        checkpoints=driftward.settings.checkpoint_folder is not None,
    )
    threading.Thread(target=app.state.desk.verify, name="verification", daemon=True).start()
    with (
        listener,
        app.state.schedule.running(),
        _in_background("worker", driftward.worker().run_until if with_worker else None),
        _receiving(driftward, with_worker),
        # As `driftward source follow` does by itself.
        _in_background("sources", driftward.followers.run_until if with_worker else None),
        _outliving_signals(),
    ):
        scheme = "https" if encryption else "http"
        sys.stderr.write(
            f"Driftward serves {_address(listener, scheme)}; stop it with Ctrl-C\n"
        )
        if not private and not encryption and driftward.settings.public_url is None:
            sys.stderr.write(
                "passwords and tokens cross the network as they are: set DRIFTWARD_TLS_CERTIFICATE "
                "and DRIFTWARD_TLS_KEY, or put a proxy that encrypts before it\n"
            )
        sys.stderr.flush()
        server.run(sockets=[listener])
    driftward.database.dispose()


def is_loopback(host: str) -> bool:
    """Return whether nobody but this machine reaches a host.

    Raises
    ------
    SetupError
        If there is no such host.
    """
    return all(
        ipaddress.ip_address(address[0]).is_loopback for *_, address in _addresses(host, 0)
    )


def require_sign_in(driftward: Driftward, host: str) -> None:
    """Refuse to serve where others reach it, and nobody could sign in.

    Raises
    ------
    NotPermittedError
    """
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        active = {row.name: row for row in all_rows(session) if row.disabled_at is None}
        by_password = any(row.password is not None for row in active.values())
        by_token = any(
            token.identity in active and token.revoked_at is None and token.expires_at > now
            for token in tokens.all_tokens(session)
        )
    if not (by_password or by_token):
        raise NotPermittedError(
            f"{host} can be reached from other machines, and nobody could sign in there: choose a "
            "password (`driftward user password`) or add users (`driftward user add`) first, or "
            "serve on 127.0.0.1"
        )


def _addresses(host: str, port: int) -> list[tuple[Any, Any, int, str, Any]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SetupError(f"the host {host} is not known: use 127.0.0.1") from error


def _names(settings: Settings, host: str, *, private: bool) -> list[str]:
    """Return the names besides loopback's by which a request may call us."""
    public = urlsplit(settings.public_url).hostname if settings.public_url else None
    if public is not None:
        return [public, host]
    return [host] if private else ["*"]


def _encryption(settings: Settings) -> dict[str, Any]:
    """Return what uvicorn needs to encrypt; nothing where no certificate is set.

    Raises
    ------
    SetupError
        If certificate or key lack, or cannot be used.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return {}
    if certificate is None or key is None:
        raise SetupError(
            "DRIFTWARD_TLS_CERTIFICATE and DRIFTWARD_TLS_KEY belong together: set both, or none"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:
        raise SetupError(
            f"{certificate} with {key} cannot be used to encrypt: both are to be PEM, the key "
            "without a password, and of one another"
        ) from error
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises
    ------
    PortInUseError
        If another process listens there.
    SetupError
        If the address cannot be had for another reason.
    """
    found = _addresses(host, port)
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


def _address(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"


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
