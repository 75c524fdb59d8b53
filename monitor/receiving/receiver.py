"""One receiving process: a port that it shares with its siblings, and what lies behind it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from monitor.receiving.admission import Admission, PendingBytes
from monitor.receiving.association import Association, Surroundings
from monitor.receiving.committer import Committer
from monitor.receiving.counters import Counted, CounterRow
from monitor.receiving.pdus import LONGEST_DATA_PDU
from monitor.receiving.settings import ReceiverSettings
from monitor.scans import ScanIntake

log = structlog.get_logger(__name__)

#: Connections that wait to be accepted.
_BACKLOG = 512
#: What messages in progress are given to end when the process is told to stop.
_GRACE_SECONDS = 10.0
#: Instances that are prepared at once: the interpreter runs one, hashing goes beside it.
_PREPARED_AT_ONCE = 2
#: Compressed ones, which are no part of those: one is decoded, and the next made ready for it.
_DECODED_AT_ONCE = 2


def listening_socket(settings: ReceiverSettings, *, port: int, joins: bool) -> socket.socket:
    """Return a socket bound to the receiver's address, whose port siblings may bind too.

    Parameters
    ----------
    joins : a sibling holds the port already; otherwise it must be free

    Raises
    ------
    OSError
        If the port is another program's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    if port and not joins:
        # SO_REUSEPORT lets any program of this user join in: whoever is first must be alone.
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((settings.host, port))
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((settings.host, port))
    except OSError:
        bound.close()
        raise
    return bound


def serve(
    settings: ReceiverSettings,
    *,
    port: int,
    intake: Callable[[], ScanIntake],
    counters: CounterRow,
) -> None:
    """Receive in this process until SIGTERM or SIGINT.

    Parameters
    ----------
    intake : opens what instances are stored with, in this process
    """
    _limit_memory(settings.limits.memory_bytes)
    _allow_many_connections()
    # The codec logs whole requests; nothing that a sender wrote belongs into our logs.
    logging.getLogger("pynetdicom").disabled = True
    opened = intake()
    committer = Committer(opened)
    gc.freeze()
    try:
        asyncio.run(_serve(settings, port, opened, committer, counters))
    finally:
        committer.close()


async def _serve(
    settings: ReceiverSettings,
    port: int,
    intake: ScanIntake,
    committer: Committer,
    counters: CounterRow,
) -> None:
    admission = Admission(settings.limits, counters)
    for_compressed = settings.limits.pending_bytes // 2
    with (
        ThreadPoolExecutor(_PREPARED_AT_ONCE, thread_name_prefix="prepare") as preparing,
        ThreadPoolExecutor(_DECODED_AT_ONCE, thread_name_prefix="decode") as decoding,
    ):
        surroundings = Surroundings(
            settings=settings,
            admission=admission,
            pending=PendingBytes(settings.limits.pending_bytes - for_compressed, counters),
            pending_compressed=PendingBytes(for_compressed, counters),
            intake=intake,
            committer=committer,
            counters=counters,
            preparing=preparing,
            decoding=decoding,
        )

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await Association(reader, writer, surroundings).serve()

        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_named_only)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await asyncio.start_server(
            connected,
            sock=listening_socket(settings, port=port, joins=True),
            backlog=_BACKLOG,
            limit=LONGEST_DATA_PDU,
            ssl=settings.tls.context() if settings.tls is not None else None,
            ssl_handshake_timeout=(
                settings.limits.request_seconds if settings.tls is not None else None
            ),
        )
        counters.add(Counted.LISTENING)
        try:
            await stop.wait()
        finally:
            counters.add(Counted.LISTENING, -1)
            server.close()
            await _leave(admission)


async def _leave(admission: Admission) -> None:
    """Let messages in progress end, for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            while admission.open:
                admission.close_all()
                await asyncio.sleep(0.05)


def _named_only(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log an error of the loop without its text, which may quote what a sender wrote."""
    log.error("error in the receiver", why=type(context.get("exception")).__name__)


def _limit_memory(limit: int) -> None:
    # Data, not address space: threads and libraries map much that they never touch.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
