"""Taking labels in: labels, and the measurements that they allow, in one transaction."""

from __future__ import annotations

from pathlib import Path

from monitor import labels
from monitor.evaluating import ask_for_measurement
from monitor.intake.pseudonym_keys import PseudonymKeys
from monitor.intake.pseudonyms import instance_pseudonym
from monitor.labels import LabelImport
from monitor.monitors import all_monitors
from registry.clock import Clock
from registry.database import Database
from registry.identities import Identity, Role


class LabelIntake:
    """Takes label files in."""

    def __init__(self, database: Database, keys: PseudonymKeys, clock: Clock) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock

    def add(self, path: Path, *, site: str, by: Identity) -> LabelImport:
        """Take a CSV file in, whole or not at all.

        Raises
        ------
        LabelError
            Naming the file and the line.
        """
        by.require(Role.OPERATOR, "import labels")
        self._keys.reload()
        naming = self._keys.current()
        read = labels.read_csv(
            path, pseudonym=lambda uid: instance_pseudonym(uid, site=site, key=naming)
        )
        with self._database.transaction() as session:
            report = labels.attach(
                session, read, site=site, actor=by.name, at=self._clock.now()
            )
            for monitor in all_monitors(session):
                ask_for_measurement(session, monitor, report.scans)
        return report
