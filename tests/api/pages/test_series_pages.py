"""What the pages say of a series that is one scan."""

from __future__ import annotations

from pathlib import Path

import pytest
from series_home import SeriesHome, ct_series
from tiny_bundles import tiny_bundle

from api.pages.scan_pages import scan_page, scans_page
from monitor.assembling.composition import pictured
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading
from registry.database import Database


@pytest.fixture
def home(database: Database, tmp_path: Path) -> SeriesHome:
    home = SeriesHome(database=database, root=tmp_path)
    bundles = [
        tiny_bundle(tmp_path / str(seed), seed=seed, unit=Unit.SERIES, reading=Reading())
        for seed in (0, 1)
    ]
    home.watch("nodules", encoder=bundles[0], champion=bundles[1])
    return home


def test_a_scan_says_what_it_is_made_of_and_why_it_counts_no_more(home: SeriesHome) -> None:
    home.receive(ct_series(1, range(4), NumberOfSeriesRelatedInstances=5))
    home.wait(minutes=3)
    home.assembler.assemble()
    (first,) = home.scans()
    home.receive(ct_series(1, [4]))
    home.wait(minutes=3)
    home.assembler.assemble()
    (second,) = home.scans()
    with home.database.reading() as session:
        before = dict(scan_page(session, first.id).attributes)
        after = dict(scan_page(session, second.id).attributes)
        listed = scans_page(session, [], before=None, refused_only=False)
    assert before["Read as one"] == "series of 4 instances, incomplete of 5"
    assert before["Revision"] == "1 (quiet)"
    assert before["Counts no more"] == "superseded"
    assert after["Read as one"] == "series of 5 instances"
    assert after["Revision"] == "2 (expected)"
    assert "Counts no more" not in after
    assert [line.modality for line in listed.scans[:2]] == ["CT series", "CT"]


def test_its_picture_is_the_one_in_the_middle(home: SeriesHome) -> None:
    home.receive(ct_series(1, range(5)))
    home.wait(minutes=3)
    home.assembler.assemble()
    (scan,) = home.scans()
    with home.database.reading() as session:
        row = pictured(session, scan)
        assert pictured(session, row).id == row.id
    assert int(home.vault.dataset(row.vault_digest).InstanceNumber) == 2
