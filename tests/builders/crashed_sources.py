"""A follower of a source that is killed at a crash point, and what is left once others go on."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from running_orthanc import RunningOrthanc
from sources_home import SourcesHome, instance
from sqlalchemy import select

from monitor.tables import ScanRow

#: The crash points that a file of a watched folder passes; those of a rename only where files
#: are taken away.
FOLDER_POINTS = (
    "folder: picked up",
    "source: fetched",
    "scans: in the vault",
    "scans: before the commit",
    "scans: committed",
    "source: position kept",
)
#: Those that an instance of an Orthanc passes.
ORTHANC_POINTS = FOLDER_POINTS[1:]
#: Of these the follower passes one for each file; the others for each group.
EACH_FILE = ("folder: picked up", "source: fetched")

FILES = 4
_REPORT = "1.2.840.10008.5.1.4.1.1.88.11"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What one crash left, once the source was followed to its end."""

    delivered: int  #: scans that lay there, or came while nobody followed
    stored: int
    quarantined: int  #: beside them, one that is no scan was delivered
    left_as_set: bool  #: what was taken is where the source's settings put it
    whole: bool  #: rows, files and ledger agree

    @property
    def sound(self) -> bool:
        counts = (self.stored, self.quarantined)
        return counts == (self.delivered, 1) and self.left_as_set and self.whole


def crash_on_a_folder(
    home: SourcesHome, folder: Path, *, point: str, afterwards: str, after: int = 0
) -> Crash:
    """Kill who follows a folder at a point, deliver one file more, and follow on.

    Parameters
    ----------
    folder : an empty one, for what is delivered and for where it is moved
    afterwards : keep, remove or move
    after : how often the point is passed unharmed before
    """
    incoming, taken = folder / "incoming", folder / "taken"
    incoming.mkdir()
    taken.mkdir()
    home.apply(
        name="ward",
        kind="folder",
        path=str(incoming),
        site="north",
        settle_seconds=0,
        afterwards=f"move to {taken}" if afterwards == "move" else afterwards,
    )
    names = [f"{number}.dcm" for number in range(FILES)]
    for number, name in enumerate(names):
        _deliver(incoming / name, instance(number))
    _deliver(incoming / "none.txt", b"no scan")
    home.follow_and_be_killed(point, after=after)
    _deliver(incoming / "late.dcm", instance(FILES))
    for _ in range(2):
        home.follow_once()
    everything = sorted([*names, "none.txt", "late.dcm"])
    left = {
        incoming: everything if afterwards == "keep" else [],
        taken: everything if afterwards == "move" else [],
    }
    return _found(
        home,
        delivered=FILES + 1,
        left_as_set=all(_files_below(place) == there for place, there in left.items()),
    )


def crash_on_an_orthanc(
    home: SourcesHome, orthanc: RunningOrthanc, *, point: str, by_feed: bool, after: int = 0
) -> Crash:
    """Kill who follows an Orthanc at a point, store one instance more, and follow on.

    Parameters
    ----------
    home : with the Orthanc as its only source
    by_feed : it is followed to its end before, and so by its feed of changes from then on
    after : how often the point is passed unharmed before
    """
    if by_feed:
        home.follow_once()
    for number in range(FILES):
        orthanc.store(instance(number))
    orthanc.store(instance(FILES, SOPClassUID=_REPORT, Modality="SR"))
    home.follow_and_be_killed(point, after=after)
    orthanc.store(instance(FILES + 1))
    for _ in range(2):
        home.follow_once()
    (standing,) = home.standings()
    return _found(home, delivered=FILES + 1, left_as_set=standing.backlog == 0)


def _deliver(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))


def _files_below(folder: Path) -> Sequence[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()
    )


def _found(home: SourcesHome, *, delivered: int, left_as_set: bool) -> Crash:
    with home.driftward.database.reading() as session:
        digests = list(session.scalars(select(ScanRow.vault_digest)))
    vault = home.driftward.settings.home / "vault"
    files = {path.stem for path in vault.rglob("*") if path.is_file()}
    return Crash(
        delivered=delivered,
        stored=len(digests),
        quarantined=home.quarantined,
        left_as_set=left_as_set,
        whole=files == set(digests) and home.ledger_is_valid,
    )
