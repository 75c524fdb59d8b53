"""The receiver, put together: its settings, and in each process an intake of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import yaml

from api.assembly import Driftward
from monitor.receiving import supervisor
from monitor.receiving.counters import Counters
from monitor.receiving.settings import ReceiverSettings, parse_receiver
from monitor.scans import ScanIntake
from registry.errors import BadInputError


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
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{config} cannot be read: {error}") from error
    settings = parse_receiver(text, source=str(config))
    changed = settings.model_dump(exclude_unset=True, mode="json") | dict(given)
    return parse_receiver(yaml.safe_dump(changed), source=str(config)) if given else settings


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
    # What is wrong with keys or quarantine is said here, before a sender finds out.
    driftward.pseudonym_keys.current()
    _ = driftward.quarantine
    # SQLite's connections must not be carried into other processes.
    driftward.database.dispose()

    def intake() -> ScanIntake:
        return Driftward.open(driftward.settings, clock=driftward.clock).intake

    counters = Counters.create(
        driftward.home.receiver_counters, processes=supervisor.process_count(settings)
    )
    metrics: list[supervisor.Work] = []
    if metrics_port is not None:
        metrics.append(partial(_serve_metrics, counters, metrics_port))
    supervisor.run(
        settings, intake=intake, listening=listening, counters=counters, beside=metrics
    )


def _serve_metrics(counters: Counters, port: int) -> None:
    from prometheus_client import CollectorRegistry, start_http_server

    from api.receiver_metrics import ReceiverCollector

    registry = CollectorRegistry()
    registry.register(ReceiverCollector(lambda: counters))
    _, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    thread.join()
