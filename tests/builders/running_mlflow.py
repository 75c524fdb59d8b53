"""A server of MLflow's as a process of its own, and a line to it that can be cut."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SECONDS = 300.0


class Line(Enum):
    """How the line to the server is."""

    OPEN = auto()
    #: nobody listens
    CUT = auto()
    #: what is asked is never answered
    STALLED = auto()
    #: every answer is 500
    FAILING = auto()


class MlflowLine:
    """An HTTP proxy before a server, under one address for as long as it lives."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._state = Line.OPEN
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        self._released = threading.Event()
        self._listener: ThreadingHTTPServer | None = None
        self.become(Line.OPEN)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def server_uri(self) -> str:
        """Where the server itself is, whatever becomes of the line."""
        return f"http://127.0.0.1:{self._server_port}"

    def become(self, state: Line) -> None:
        """Change how the line is, for whatever is asked from now on."""
        self._state = state
        if state is not Line.STALLED:
            self._released.set()
            self._released = threading.Event()
        if state is Line.CUT:
            self.close()
        elif self._listener is None:
            self._listener = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
            self._listener.daemon_threads = True
            threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        line = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                line._pass_on(self)

            do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _pass_on(self, request: BaseHTTPRequestHandler) -> None:
        with suppress(BrokenPipeError):  # who asked has gone
            self._answer(request)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if self._state is Line.STALLED:
            self._released.wait(_SECONDS)
            request.close_connection = True
            return
        if self._state is Line.FAILING:
            request.send_error(500)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self._server_port, timeout=60)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in {"host", "connection"}
        }
        connection.request(request.command, request.path, body=body, headers=headers)
        answer = connection.getresponse()
        content = answer.read()
        request.send_response(answer.status)
        request.send_header("content-type", answer.getheader("content-type", "text/plain"))
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)
        connection.close()


@contextmanager
def running_mlflow(store: Path, artifacts: Path) -> Iterator[MlflowLine]:
    """Serve an MLflow store, made before, over a line that a test can cut."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    process = _SERVER.Process(target=_serve, args=(str(store), str(artifacts), port))
    process.start()
    line = None
    try:
        _wait_until_it_answers(port, process)
        line = MlflowLine(port)
        yield line
    finally:
        if line is not None:
            line.become(Line.OPEN)
            line.close()
        process.kill()
        process.join(_SECONDS)


def _serve(store: str, artifacts: str, port: int) -> None:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{store}"
    os.environ["_MLFLOW_SERVER_REGISTRY_STORE"] = f"sqlite:///{store}"
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = artifacts
    from mlflow.server import app
    from werkzeug.serving import make_server

    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


def _wait_until_it_answers(port: int, process: multiprocessing.process.BaseProcess) -> None:
    latest = time.monotonic() + _SECONDS
    while time.monotonic() < latest:
        assert process.exitcode is None, "the server ended"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server does not answer")
