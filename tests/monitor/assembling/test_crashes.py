"""What is left when whoever assembles is killed: nothing half, and nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import datetime

import pytest
from series_home import SeriesHome, ct_series

from monitor.assembling.tables import AssembledScanRow, ScanMemberRow
from registry.bundles.preprocessing import Unit

_ASSEMBLING = """
import sys
from datetime import datetime
from pathlib import Path
from monitor.assembling.assembler import Assembler
from monitor.intake.vault import Vault
from registry import crash_points
from registry.clock import ReplayClock
from registry.database import Database

url, vault, now, point = sys.argv[1:]
crash_points.arm(point)
clock = ReplayClock(datetime.fromisoformat(now))
Assembler(Database(url), Vault(Path(vault)), clock).assemble()
"""


def assemble_and_be_killed(home: SeriesHome, point: str, now: datetime) -> None:
    arguments = [home.database.url, str(home.root / "vault"), now.isoformat(), point]
    done = subprocess.run([sys.executable, "-c", _ASSEMBLING, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["assemble: in the vault", "assemble: before the commit"])
def test_killed_on_the_way_it_makes_one_scan_in_the_end(ct: SeriesHome, point: str) -> None:
    ct.receive(ct_series(1, range(5)))
    ct.wait(minutes=3)
    assemble_and_be_killed(ct, point, ct.clock.at)
    assert ct.scans() == []
    assert ct.count(AssembledScanRow) == ct.count(ScanMemberRow) == 0
    assert ct.assembler.assemble() == 1
    (scan,) = ct.scans()
    assert ct.made_of(scan).revision == 1
    assert len(ct.members(scan)) == 5
    assert len(list((ct.root / "vault").rglob("*.dcm"))) == 5 + 1
    assert ct.ledger_is_valid()


def test_killed_while_it_replaces_a_scan_the_earlier_one_counts_until_it_is_replaced(
    ct: SeriesHome,
) -> None:
    ct.receive(ct_series(1, range(3)))
    ct.wait(minutes=3)
    ct.assembler.assemble()
    (first,) = ct.scans()
    ct.receive(ct_series(1, range(3, 5)))
    ct.wait(minutes=3)
    assemble_and_be_killed(ct, "assemble: before the commit", ct.clock.at)
    assert [scan.id for scan in ct.scans()] == [first.id]
    assert ct.assembler.assemble() == 1
    assert [ct.made_of(scan).revision for scan in ct.scans()] == [2]
    assert len(ct.scans(Unit.INSTANCE)) == 5
    assert ct.ledger_is_valid()
