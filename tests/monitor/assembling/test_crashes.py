"""What is left when whoever assembles is killed: nothing half, and nothing twice."""

from __future__ import annotations

import pytest
from crashed_assembling import ASSEMBLE_POINTS, assemble_and_be_killed, crash_while_assembling
from series_home import SeriesHome, ct_series

from monitor.assembling.tables import AssembledScanRow, ScanMemberRow


@pytest.mark.parametrize(("series", "replacing"), [(2, False), (1, True)])
@pytest.mark.parametrize("point", ASSEMBLE_POINTS)
def test_killed_on_the_way_each_series_is_one_whole_scan_in_the_end(
    ct: SeriesHome, point: str, series: int, replacing: bool
) -> None:
    crash = crash_while_assembling(ct, point=point, series=series, replacing=replacing)
    assert crash.sound, crash


def test_killed_on_the_way_nothing_counts_that_did_not_before(ct: SeriesHome) -> None:
    ct.receive(ct_series(1, range(3)))
    ct.wait(minutes=3)
    assemble_and_be_killed(ct, "assemble: before the commit")
    assert ct.scans() == []
    assert ct.count(AssembledScanRow) == ct.count(ScanMemberRow) == 0
    ct.assembler.assemble()
    (first,) = ct.scans()
    ct.receive(ct_series(1, range(3, 5)))
    ct.wait(minutes=3)
    assemble_and_be_killed(ct, "assemble: before the commit")
    assert [scan.id for scan in ct.scans()] == [first.id]
