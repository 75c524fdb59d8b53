"""Whoever assembles series is killed at a crash point, and what is left once another goes on."""

from __future__ import annotations

from dataclasses import dataclass

from killed_processes import kill_at
from series_home import SeriesHome, ct_series

from monitor.assembling.assembler import Assembler
from monitor.assembling.tables import AssembledScanRow
from monitor.intake.vault import Vault
from registry.bundles.preprocessing import Unit
from registry.clock import ReplayClock
from registry.database import Database

ASSEMBLE_POINTS = ("assemble: in the vault", "assemble: before the commit")
SLICES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """What one crash left, before and after another assembled."""

    series: int
    counted_before: int  #: scans of the crash's own revision, which must not be there
    scans: int
    complete: int  #: of the newest revision, with every slice
    whole: bool  #: one file for each slice and each revision, and the ledger verifies

    @property
    def sound(self) -> bool:
        return (
            self.counted_before == 0
            and self.scans == self.complete == self.series
            and self.whole
        )


def assemble_and_be_killed(home: SeriesHome, point: str) -> None:
    """Assemble in a process that is killed at a point."""
    url, vault, clock = home.database.url, home.root / "vault", ReplayClock(home.clock.at)

    def assemble() -> None:
        Assembler(Database(url), Vault(vault), clock).assemble()

    kill_at(point, assemble)


def crash_while_assembling(
    home: SeriesHome, *, point: str, series: int, replacing: bool
) -> Crash:
    """Kill whoever makes scans of some series, and have another go on.

    Parameters
    ----------
    home : empty, with a monitored model that reads series
    replacing : the series were scans before, and late slices joined them
    """
    patients = range(1, series + 1)
    home.receive(slice_ for patient in patients for slice_ in ct_series(patient, range(SLICES)))
    home.wait(minutes=3)
    slices, revision = SLICES, 1
    if replacing:
        home.assembler.assemble()
        late = range(SLICES, SLICES + 2)
        home.receive(slice_ for patient in patients for slice_ in ct_series(patient, late))
        home.wait(minutes=3)
        slices, revision = SLICES + 2, 2
    assemble_and_be_killed(home, point)
    before = sum(home.made_of(scan).revision == revision for scan in home.scans())
    home.assembler.assemble()
    home.assembler.assemble()
    scans = home.scans()
    files = len(list((home.root / "vault").rglob("*.dcm")))
    return Crash(
        series=series,
        counted_before=before,
        scans=len(scans),
        complete=sum(
            home.made_of(scan).revision == revision and len(home.members(scan)) == slices
            for scan in scans
        ),
        whole=files == series * (slices + revision)
        and home.count(AssembledScanRow) == series * revision
        and len(home.scans(Unit.INSTANCE)) == series * slices
        and home.ledger_is_valid(),
    )
