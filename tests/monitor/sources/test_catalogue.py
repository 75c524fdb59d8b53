from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sources_home import ACTOR

from monitor.sources.catalogue import (
    all_sources,
    apply_source,
    dicomweb_source,
    remove_source,
    require_source,
    standing_of,
)
from monitor.sources.progress import RoadOutcome, Step, take_hold
from monitor.sources.settings import DicomwebSource, FolderSource, Source
from registry import ledger
from registry.clock import ReplayClock
from registry.database import Database
from registry.errors import BadInputError, LeaseLostError, NotFoundError

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def folder(path: str, *, site: str = "north", name: str = "ward") -> FolderSource:
    return FolderSource(name=name, kind="folder", path=Path(path), site=site, afterwards="keep")


def web(*sites: str, name: str = "web") -> DicomwebSource:
    return DicomwebSource(name=name, kind="dicomweb", sites=sites)


def apply(database: Database, *sources: Source) -> None:
    for source in sources:
        with database.transaction() as session:
            apply_source(session, source, actor=ACTOR, at=NOON)


def test_what_is_applied_and_removed_stands_in_the_ledger(database: Database) -> None:
    apply(database, folder("/a"), folder("/a"), folder("/b"))
    with database.transaction() as session:
        remove_source(session, "ward", actor=ACTOR, at=NOON)
    apply(database, folder("/b"))
    with database.reading() as session:
        kinds = [entry.kind for entry in ledger.entries(session, subject="ward")]
        assert kinds == ["source.applied", "source.applied", "source.removed", "source.applied"]
        assert ledger.verify(session).valid
        assert [source.name for source in all_sources(session)] == ["ward"]


def test_a_removed_source_is_none_and_the_others_are_named(database: Database) -> None:
    apply(database, folder("/a"), web("north"))
    with database.transaction() as session:
        remove_source(session, "ward", actor=ACTOR, at=NOON)
    with database.reading() as session, pytest.raises(NotFoundError, match="ward: web"):
        require_source(session, "ward")


def test_a_position_belongs_to_a_place(database: Database) -> None:
    apply(database, folder("/a"))
    clock = ReplayClock(NOON)
    hold = take_hold(database, clock, "ward")
    assert hold is not None
    hold.keep(Step(position={"at": 7}, counts={RoadOutcome.ADDED: 7}, files=[("f", "1")]))
    apply(database, folder("/a", site="south"))
    with pytest.raises(LeaseLostError):  # it would go on under the former site
        hold.keep(Step(position={"at": 8}))
    hold = take_hold(database, clock, "ward")
    assert hold is not None
    assert hold.position() == {"at": 7}
    assert hold.known_files(["f"]) == {"f": "1"}
    apply(database, folder("/b", site="south"))
    hold = take_hold(database, clock, "ward")
    assert hold is not None
    assert hold.position() == {}
    assert hold.known_files(["f"]) == {}
    with database.reading() as session:
        assert standing_of(session, "ward").counts == {"added": 7}


def test_a_site_is_allowed_by_one_source(database: Database) -> None:
    apply(database, web("north", "south"))
    with pytest.raises(BadInputError, match="sites south are those of source web"):
        apply(database, web("south", name="other"))
    apply(database, web("east", name="other"))
    with database.reading() as session:
        assert dicomweb_source(session, "east").name == "other"
        assert dicomweb_source(session, "south").name == "web"
        with pytest.raises(NotFoundError, match="`driftward source apply`"):
            dicomweb_source(session, "west")


def test_a_name_keeps_its_kind(database: Database) -> None:
    apply(database, web("north"))
    with pytest.raises(BadInputError, match="of the kind dicomweb, and stays so"):
        apply(database, folder("/a", name="web"))


@pytest.mark.parametrize("path", ["/srv/in", "/srv/in/deeper", "/srv", "/srv/./in/"])
def test_the_files_of_a_folder_are_those_of_one_site(database: Database, path: str) -> None:
    apply(database, folder("/srv/in"))
    with pytest.raises(BadInputError, match="ward reads /srv/in for site north already"):
        apply(database, folder(path, site="south", name="other"))
    apply(database, folder("/srv/inside", site="south", name="third"))
    with database.transaction() as session:
        remove_source(session, "third", actor=ACTOR, at=NOON)
    apply(database, folder(path, name="other"))  # of the same site they are the same scans


def test_a_link_leads_to_the_folder_that_it_names(database: Database, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    apply(database, folder(str(tmp_path / "in")))
    with pytest.raises(BadInputError, match="already"):
        apply(database, folder(str(tmp_path / "link"), site="south", name="other"))


def test_a_folder_may_change_its_site_where_no_other_source_reads_it(
    database: Database,
) -> None:
    apply(database, folder("/srv/in"), folder("/srv/in", site="south"))
