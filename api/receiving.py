"""The receiver, put together: its settings, and in each process an intake of its own."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml

from api.assembly import Driftward
from monitor.receiving import supervisor
from monitor.receiving.counters import Counters
from monitor.receiving.settings import ReceiverSettings, parse_receiver
from monitor.scans import ScanIntake
from registry.errors import BadInputError, ConflictError
from registry.yaml_files import read_yaml


def receiver_settings(config: Path | None, given: Mapping[str, object]) -> ReceiverSettings:
    """Return the settings in a file, changed by what was given on the command line.

    Raises
    ------
    BadInputError
        Naming the file, the line and the key.
    """
    if config is None:
        return parse_receiver(yaml.safe_dump(dict(given)), source="options")
    try:
        text = config.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"{config} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{config} cannot be read: it is no UTF-8 text") from error
    document = _mapping(text) if given else None
    if document is None:
        return parse_receiver(text, source=str(config))
    # Lines are those of what both say together.
    both = yaml.safe_dump(document | dict(given), sort_keys=False)
    return parse_receiver(both, source=f"{config} with the options")


def _mapping(text: str) -> dict[str, object] | None:
    try:
        _, document = read_yaml(text)
    except yaml.YAMLError:
        return None  # reading it says what is wrong
    return document if isinstance(document, dict) else None


def receive_until_stopped(
    driftward: Driftward,
    settings: ReceiverSettings,
    *,
    listening: Callable[[int], None],
    metrics_port: int | None = None,
) -> None:
    """Receive until SIGTERM or SIGINT.

    Parameters
    ----------
    listening : told the port once senders may come
    metrics_port : of loopback, where the receiver's own figures are served besides
    """
    if driftward.settings.parent is not None:
        supervisor.end_with(driftward.settings.parent)
    # What is wrong with keys or quarantine is said here, before a sender finds out.
    driftward.pseudonym_keys.current()
    _ = driftward.quarantine
    # SQLite's connections must not be carried into other processes.
    driftward.database.dispose()

    def intake() -> ScanIntake:
        return Driftward.open(driftward.settings, clock=driftward.clock).intake

    with _alone(driftward.home.receiver_lock):
        counters = Counters.create(
            driftward.home.receiver_counters, processes=supervisor.process_count(settings)
        )
        metrics: list[supervisor.Work] = []
        if metrics_port is not None:
            metrics.append(partial(_serve_metrics, counters, metrics_port))
        supervisor.run(
            settings, intake=intake, listening=listening, counters=counters, beside=metrics
        )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold what only one receiver of a home can hold, for as long as its parent lives."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                "a receiver of this home runs already: stop it first, or name its other peers "
                "in the one receiver.yaml"
            ) from None
        yield


def _serve_metrics(counters: Counters, port: int) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    from api.receiver_metrics import ReceiverCollector

    registry = CollectorRegistry()
    registry.register(ReceiverCollector(lambda: counters))
    _, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    thread.join()
