from __future__ import annotations

import os
import threading
import time
import zipfile
from pathlib import Path

import pytest
from crashed_sources import crash_on_a_folder
from dicom_instances import as_file
from series_home import ct_series, rejection_of
from sources_home import SourcesHome, instance

import monitor.sources.folder as folder_road
from monitor.intake.limits import Limits
from monitor.intake.reasons import Reason
from monitor.scans import Fate, Outcome
from monitor.sources.folder import PICKED_UP
from monitor.sources.progress import RoadOutcome
from monitor.sources.taking import outcomes
from registry import crash_points
from registry.errors import SourceError

NAME = "ward"
LONG_AGO = time.time() - 3600


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


def put(path: Path, content: bytes, *, at: float = LONG_AGO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (at, at))
    return path


def follow(
    home: SourcesHome, incoming: Path, afterwards: str, settle_seconds: float = 0
) -> None:
    home.apply(
        name=NAME,
        kind="folder",
        path=str(incoming),
        site="north",
        settle_seconds=settle_seconds,
        afterwards=afterwards,
        every_seconds=0.1,
    )


def files_below(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()
    )


def in_the_way_of(afterwards: str, tmp_path: Path) -> str:
    (tmp_path / "taken").mkdir()
    return f"move to {tmp_path / 'taken'}" if afterwards == "move" else afterwards


@pytest.mark.parametrize("afterwards", ["keep", "remove", "move"])
def test_each_file_is_taken_once(
    home: SourcesHome, incoming: Path, tmp_path: Path, afterwards: str
) -> None:
    follow(home, incoming, in_the_way_of(afterwards, tmp_path))
    for number in range(4):
        put(incoming / f"day/{number}.dcm", instance(number))
    home.follow_once()
    assert home.scans == 4
    put(incoming / "day/4.dcm", instance(4))
    home.follow_once()
    home.follow_once()
    assert dict(home.standing(NAME).counts) == {"added": 5}
    names = [f"day/{number}.dcm" for number in range(5)]
    assert files_below(incoming) == (names if afterwards == "keep" else [])
    assert files_below(tmp_path / "taken") == (names if afterwards == "move" else [])
    assert not (incoming / PICKED_UP).exists()


@pytest.mark.parametrize("afterwards", ["keep", "remove", "move"])
def test_archives_and_what_is_no_image_are_set_aside_once(
    home: SourcesHome, incoming: Path, tmp_path: Path, afterwards: str
) -> None:
    follow(home, incoming, in_the_way_of(afterwards, tmp_path))
    with zipfile.ZipFile(incoming / "all.zip", "w") as archive:
        archive.writestr("1.dcm", instance(1))
    put(incoming / "notes.txt", b"Yamada Hanako, room 3")
    put(incoming / "1.dcm", instance(1))
    for _ in range(3):
        home.follow_once()
    reasons = sorted(item.reason for item in home.driftward.quarantine.items())
    assert reasons == [Reason.ARCHIVE, Reason.NOT_DICOM]
    assert dict(home.standing(NAME).counts) == {"added": 1, "quarantined": 2}


@pytest.mark.parametrize("afterwards", ["keep", "remove"])
def test_what_is_too_large_stays_where_it_is_and_is_set_aside_once(
    home: SourcesHome, incoming: Path, monkeypatch: pytest.MonkeyPatch, afterwards: str
) -> None:
    monkeypatch.setattr(folder_road, "DEFAULT_LIMITS", Limits(file_bytes=500))
    follow(home, incoming, afterwards)
    put(incoming / "large.dcm", instance(0))
    for _ in range(3):
        home.follow_once()
    [item] = home.driftward.quarantine.items()
    assert (item.reason, item.kept) == (Reason.TOO_LARGE, False)
    assert files_below(incoming) == ["large.dcm"]
    put(incoming / "large.dcm", instance(1)[:400])  # another one, that is not too large
    home.follow_once()
    assert len(home.driftward.quarantine.items()) == 2


def test_a_file_that_was_replaced_is_another_one(home: SourcesHome, incoming: Path) -> None:
    follow(home, incoming, "keep")
    put(incoming / "newest.dcm", instance(0))
    home.follow_once()
    put(incoming / "newest.dcm", instance(1), at=LONG_AGO + 60)
    home.follow_once()
    assert home.scans == 2


def test_files_that_are_not_whole_are_left_alone(home: SourcesHome, incoming: Path) -> None:
    follow(home, incoming, "remove", settle_seconds=600)
    put(incoming / "1.dcm.part", instance(1))
    put(incoming / ".2.dcm", instance(2))
    # Its time of change says an hour ago, as a copying program sets it; it is here since now.
    put(incoming / "3.dcm", instance(3)[:300])
    home.follow_once()
    assert home.scans == home.quarantined == 0
    assert files_below(incoming) == [".2.dcm", "1.dcm.part", "3.dcm"]


def test_a_file_that_grows_while_it_is_picked_up_is_taken_when_that_has_ended(
    home: SourcesHome, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(home, incoming, "remove")
    content = instance(0)
    writer = put(incoming / "slow.dcm", content[:300]).open("ab")

    def still_writing(point: str) -> None:
        if point == "folder: picked up" and not writer.closed:
            writer.write(content[300:])
            writer.close()

    monkeypatch.setattr(crash_points, "reach", still_writing)
    home.follow_once()
    assert home.scans == home.quarantined == 0
    home.follow_once()
    assert (home.scans, home.quarantined) == (1, 0)
    assert files_below(incoming) == []


def test_a_newer_file_of_the_same_name_is_not_removed_for_the_older_one(
    home: SourcesHome, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(home, incoming, "remove")
    put(incoming / "newest.dcm", instance(0))

    def delivered_meanwhile(point: str) -> None:
        if point == "scans: committed":
            put(incoming / "newest.dcm", instance(1))
            monkeypatch.setattr(crash_points, "reach", lambda _: None)

    monkeypatch.setattr(crash_points, "reach", delivered_meanwhile)
    home.follow_once()
    assert files_below(incoming) == ["newest.dcm"]
    home.follow_once()
    assert home.scans == 2


def test_what_is_moved_replaces_nothing(
    home: SourcesHome, incoming: Path, tmp_path: Path
) -> None:
    follow(home, incoming, in_the_way_of("move", tmp_path))
    put(tmp_path / "taken/1.dcm", b"older")
    put(incoming / "1.dcm", instance(1))
    home.follow_once()
    assert files_below(tmp_path / "taken") == ["1-1.dcm", "1.dcm"]
    assert (tmp_path / "taken/1.dcm").read_bytes() == b"older"
    assert (tmp_path / "taken/1-1.dcm").read_bytes() == instance(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "afterwards", "after"),
    [
        ("folder: picked up", "remove", 0),
        ("folder: picked up", "move", 2),
        ("source: fetched", "keep", 1),
        ("scans: in the vault", "move", 0),
        ("scans: before the commit", "remove", 0),
        ("scans: committed", "move", 0),
        ("source: position kept", "keep", 0),
        ("source: position kept", "remove", 0),
    ],
)
def test_a_follower_that_is_killed_anywhere_loses_nothing_and_doubles_nothing(
    home: SourcesHome, tmp_path: Path, point: str, afterwards: str, after: int
) -> None:
    crash = crash_on_a_folder(home, tmp_path, point=point, afterwards=afterwards, after=after)
    assert crash.sound, crash


@pytest.mark.parametrize("afterwards", ["keep", "remove", "move"])
def test_two_followers_that_do_not_know_of_each_other_double_nothing(
    home: SourcesHome, incoming: Path, tmp_path: Path, afterwards: str
) -> None:
    way = in_the_way_of(afterwards, tmp_path)
    for name in ("ward", "ward-again"):
        home.apply(
            name=name,
            kind="folder",
            path=str(incoming),
            site="north",
            settle_seconds=0,
            afterwards=way,
        )
    for number in range(40):
        put(incoming / f"{number:02}.dcm", instance(number))
    put(incoming / "notes.txt", b"no scan")
    together = [
        threading.Thread(target=home.follow_once, args=(name,))
        for name in ("ward", "ward-again")
    ]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    home.follow_once()
    assert (home.scans, home.quarantined) == (40, 1)
    added = [home.standing(name).counts.get("added", 0) for name in ("ward", "ward-again")]
    assert sum(added) == 40
    if afterwards == "move":
        assert len(files_below(tmp_path / "taken")) == 41
    assert len(files_below(incoming)) == (41 if afterwards == "keep" else 0)


def test_files_that_are_gone_are_forgotten(home: SourcesHome, incoming: Path) -> None:
    follow(home, incoming, "keep")
    paths = [put(incoming / f"{number}.dcm", instance(number)) for number in range(3)]
    home.follow_once()
    assert home.remembered_files == 3
    paths[0].unlink()
    home.follow_once()
    assert home.remembered_files == 2


def test_a_folder_that_is_not_there_is_named(home: SourcesHome, incoming: Path) -> None:
    follow(home, incoming, "keep")
    incoming.rmdir()
    with pytest.raises(SourceError, match=f"no folder {incoming}"):
        home.follow_once()
    assert home.standing(NAME).failing_since is not None


def test_nothing_of_a_file_s_name_is_stored_or_said(
    home: SourcesHome, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(home, incoming, "remove")
    put(incoming / "Yamada^Hanako.dcm", instance(0))

    def refused(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(SourceError, match="Permission denied") as caught:
        home.follow_once()
    monkeypatch.undo()
    assert "Yamada" not in str(caught.value)
    follow(home, incoming, "keep")
    put(incoming / "Yamada^Hanako.dcm", instance(0))
    home.follow_once()
    home.driftward.database.dispose()
    for path in home.driftward.settings.home.glob("driftward.db*"):
        assert b"Yamada" not in path.read_bytes()


def test_a_document_that_rejects_instances_is_counted_as_followed(
    home: SourcesHome, incoming: Path
) -> None:
    slices = ct_series(1, range(2))
    for number, one in enumerate(slices):
        put(incoming / f"{number}.dcm", as_file(one))
    put(incoming / "document.dcm", rejection_of(slices[:1], title="113001"))
    follow(home, incoming, "keep")
    home.follow_once()
    assert dict(home.standing(NAME).counts) == {"added": 2, "followed": 1}


def test_an_outcome_has_one_name_by_every_road() -> None:
    assert {one.value for one in Outcome} <= {one.value for one in RoadOutcome}
    fates = [Fate(outcome=one) for one in Outcome]
    assert [one.value for one in outcomes(fates)] == [one.value for one in Outcome]
