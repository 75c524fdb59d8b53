"""An Orthanc that says which series and studies are complete."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dicom_instances import KEY, as_file
from running_orthanc import PASSWORD, USER, RunningOrthanc
from series_home import SeriesHome, ct_series, ct_slice
from sources_home import until
from sqlalchemy import select
from tiny_bundles import finding, tiny_bundle

from monitor.assembling.tables import StableGroupRow
from monitor.sources.catalogue import apply_source
from monitor.sources.following import Followers
from monitor.sources.settings import parse_source
from registry.bundles.card import Tier
from registry.bundles.preprocessing import Unit
from registry.bundles.scan_units import Reading
from registry.database import Database

NAME = "archive"
#: Nobody waits so long in this file: what settles does so because Orthanc said so.
PATIENT = Reading(settle_seconds=36_000, longest_wait_hours=48.0)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[RunningOrthanc]:
    server = RunningOrthanc(tmp_path / "orthanc")
    server.start({"StableAge": 1})
    yield server
    server.close()


class Followed(SeriesHome):
    """A home that follows an Orthanc."""

    def apply(self, orthanc: RunningOrthanc) -> None:
        password = self.root / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        text = {
            "name": NAME,
            "kind": "orthanc",
            "url": orthanc.url,
            "site": "north",
            "username": USER,
            "password_file": str(password),
        }
        source = parse_source(yaml.safe_dump(text), source="archive.yaml")
        with self.database.transaction() as session:
            apply_source(session, source, actor="ops", at=self.clock.now())
        self.followers = Followers(
            database=self.database, clock=self.clock, intake=lambda: self.intake, key=KEY
        )

    def follow_once(self) -> None:
        self.followers.follow_once([NAME], stop=threading.Event())

    def said(self) -> list[StableGroupRow]:
        with self.database.reading() as session:
            return list(session.scalars(select(StableGroupRow)))

    def read_by(self, unit: Unit) -> None:
        folder = self.root / "made"
        self.watch(
            "nodules",
            encoder=tiny_bundle(folder / "encoder", unit=unit, reading=PATIENT),
            champion=tiny_bundle(
                folder / "champion",
                tier=Tier.TASK,
                tasks=[finding()],
                seed=1,
                unit=unit,
                reading=PATIENT,
            ),
        )


@pytest.fixture
def followed(database: Database, tmp_path: Path, orthanc: RunningOrthanc) -> Followed:
    home = Followed(database=database, root=tmp_path / "home")
    home.apply(orthanc)
    home.follow_once()  # the feed is followed from here on
    return home


def changes(orthanc: RunningOrthanc, kind: str) -> int:
    found = orthanc.client.get("/changes", params={"limit": 1000}).json()["Changes"]
    return sum(change["ChangeType"] == kind for change in found)


@pytest.mark.parametrize("unit", [Unit.SERIES, Unit.STUDY])
def test_what_orthanc_calls_stable_is_a_scan_without_waiting(
    followed: Followed, orthanc: RunningOrthanc, unit: Unit
) -> None:
    followed.read_by(unit)
    for one in ct_series(1, range(4)):
        orthanc.store(as_file(one))
    followed.follow_once()
    followed.assembler.assemble()
    assert followed.scans(unit) == []
    kind = f"Stable{unit.value.capitalize()}"
    until(lambda: changes(orthanc, kind) == 1)
    followed.wait(seconds=1)
    followed.follow_once()
    assert followed.assembler.assemble() == 1
    (scan,) = followed.scans(unit)
    made = followed.made_of(scan)
    assert (made.instances, made.settled_by, made.incomplete) == (4, "stated", False)
    assert scan.arrived_at == followed.clock.now()
    first = followed.scans(Unit.INSTANCE)[0]
    assert all(row.study == first.study for row in followed.said())
    assert {row.series for row in followed.said()} <= {"", first.series}


@pytest.mark.slow
def test_a_series_that_grows_again_is_not_taken_at_its_old_word(
    followed: Followed, orthanc: RunningOrthanc
) -> None:
    followed.read_by(Unit.SERIES)
    for one in ct_series(1, range(3)):
        orthanc.store(as_file(one))
    until(lambda: changes(orthanc, "StableSeries") == 1)
    orthanc.stop()
    orthanc.start({"StableAge": 3600})
    orthanc.store(as_file(ct_slice(1, 3)))  # for an hour, it is not stable any more
    followed.follow_once()
    assert followed.said() == []
    assert len(followed.scans(Unit.INSTANCE)) == 4
    orthanc.stop()
    orthanc.start({"StableAge": 1})
    orthanc.store(as_file(ct_slice(1, 4)))
    until(lambda: changes(orthanc, "StableSeries") == 2)
    followed.follow_once()
    assert followed.assembler.assemble() == 1
    assert followed.made_of(followed.scans()[0]).instances == 5


def test_where_no_model_reads_series_nothing_is_asked(
    followed: Followed, orthanc: RunningOrthanc
) -> None:
    orthanc.store(as_file(ct_slice(1, 0)))
    until(lambda: changes(orthanc, "StableSeries") == 1)
    followed.follow_once()
    assert followed.said() == []
