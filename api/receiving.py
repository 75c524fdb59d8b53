"""The receiver, put together: its settings, and in each process an intake of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
) -> None:
    """Receive until SIGTERM or SIGINT.

    Parameters
    ----------
    listening : told the port once senders may come
    """
    # SQLite's connections must not be carried into other processes.
    driftward.database.dispose()

    def intake() -> ScanIntake:
        return Driftward.open(driftward.settings, clock=driftward.clock).intake

    supervisor.run(
        settings,
        intake=intake,
        listening=listening,
        counters=Counters(supervisor.process_count(settings)),
    )
