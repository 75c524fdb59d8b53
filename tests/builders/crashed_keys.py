"""Whoever rotates or drops keys is killed at a crash point, and what the keys then find."""

from __future__ import annotations

from dataclasses import dataclass

from keyed_site import ADA, Site, image
from killed_processes import kill_at

from monitor.intake.keys import load_keyring
from monitor.intake.pseudonym_keys import PseudonymKeys
from monitor.scans import Outcome
from registry.clock import ReplayClock
from registry.database import Database

KEY_POINTS = (
    "keys: beside the old ones",
    "keys: known to the database",
    "keys: dropped in the database",
)
_PATIENTS = ("1", "2", "3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What one crash left."""

    newest: int  #: key in force for whoever came next
    newest_expected: int
    held: bool  #: the key file has exactly the keys that were not dropped
    resent: int  #: scans of old keys that were sent again
    known: int  #: of these, as the same scan
    verified: bool  #: the ledger, once everything was done again

    @property
    def sound(self) -> bool:
        return (
            self.newest == self.newest_expected
            and self.held
            and self.known == self.resent
            and self.verified
        )


def crash_while_changing_keys(site: Site, *, point: str, changed_before: int) -> Crash:
    """Kill who rotates or drops keys; another process then takes scans in, and rotates.

    Parameters
    ----------
    site : whose keys were never changed
    changed_before : how often the keys were rotated before
    """
    dropping = point == KEY_POINTS[2]
    if dropping:
        site.rotate()  # a key without a scan of its own comes first, which may go
    images = [
        image(patient, study=index, series=index, instance=index)
        for index, patient in enumerate(_PATIENTS, start=1)
    ]
    site.send(*images)
    for _ in range(changed_before):
        site.rotate()
    before = load_keyring(site.key_file).newest.number
    url, path, clock = site.database.url, site.key_file, ReplayClock(site.clock.at)

    def change() -> None:
        keys = PseudonymKeys(Database(url), path)
        if dropping:
            keys.drop(1, reason="no longer needed", by=ADA, clock=clock)
        else:
            keys.rotate(reason="yearly", by=ADA, clock=clock)

    kill_at(point, change)
    keys, intake = site.process()
    keys.current()
    held = load_keyring(site.key_file)
    fates = site.send(*images, intake=intake)
    expected = before + (point == KEY_POINTS[1])
    keys.rotate(reason="again", by=ADA, clock=site.clock)
    fates += site.send(*images, intake=site.process()[1])
    return Crash(
        newest=held.newest.number,
        newest_expected=expected,
        held={key.number for key in held.keys}
        == set(range(2 if dropping else 1, expected + 1)),
        resent=len(fates),
        known=fates.count(Outcome.KNOWN),
        verified=site.verified(),
    )
