"""A real Orthanc, followed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from crashed_sources import crash_on_an_orthanc
from running_orthanc import PASSWORD, USER, RunningOrthanc, encrypted, own_certificate
from sources_home import SourcesHome, followers_of, instance, running, until
from sqlalchemy import select
from structlog.testing import capture_logs

import monitor.sources.orthanc as orthanc_road
from monitor.intake.limits import Limits
from monitor.intake.reasons import Reason
from monitor.sources import following
from monitor.sources.orthanc_server import Fetched, OrthancServer
from monitor.sources.progress import Hold, Step, take_hold
from monitor.tables import ScanRow
from registry import ledger
from registry.errors import ConflictError, LeaseLostError, SourceError

NAME = "archive"
REPORT = "1.2.840.10008.5.1.4.1.1.88.11"


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[RunningOrthanc]:
    server = RunningOrthanc(tmp_path / "orthanc")
    server.start()
    yield server
    server.close()


def password_file(folder: Path, password: str = PASSWORD, mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_text(password + "\n")
    path.chmod(mode)
    return path


@pytest.fixture
def followed(home: SourcesHome, orthanc: RunningOrthanc, tmp_path: Path) -> SourcesHome:
    home.apply(
        name=NAME,
        kind="orthanc",
        url=orthanc.url,
        site="north",
        username=USER,
        password_file=str(password_file(tmp_path)),
    )
    return home


def test_what_is_there_and_what_comes_later_arrives_once(
    followed: SourcesHome, orthanc: RunningOrthanc
) -> None:
    for number in range(4):
        orthanc.store(instance(number))
    followed.follow_once()
    assert followed.scans == 4
    for number in range(3, 7):  # one of them is there already
        orthanc.store(instance(number))
    followed.follow_once()
    followed.follow_once()
    assert followed.scans == 7
    standing = followed.standing(NAME)
    assert dict(standing.counts) == {"added": 7}
    assert standing.backlog == 0
    assert standing.last_success_at is not None
    assert standing.failing_since is standing.began_anew_at is None
    assert followed.ledger_is_valid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "by_feed"),
    [
        ("source: fetched", False),
        ("source: fetched", True),
        ("scans: in the vault", True),
        ("scans: before the commit", False),
        ("scans: committed", True),
        ("source: position kept", False),
        ("source: position kept", True),
    ],
)
def test_a_follower_that_is_killed_anywhere_loses_nothing_and_doubles_nothing(
    followed: SourcesHome, orthanc: RunningOrthanc, point: str, by_feed: bool
) -> None:
    crash = crash_on_an_orthanc(followed, orthanc, point=point, by_feed=by_feed)
    assert crash.sound, crash


def test_instances_that_were_deleted_meanwhile_are_skipped_and_counted(
    followed: SourcesHome, orthanc: RunningOrthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = [orthanc.store(instance(number)) for number in range(3)]
    ask = OrthancServer.file

    def late(server: OrthancServer, one: str, *, limit: int) -> Fetched:
        if one == stored[1]:
            orthanc.delete(one)  # after it was listed, before it is fetched
        return ask(server, one, limit=limit)

    monkeypatch.setattr(OrthancServer, "file", late)
    followed.follow_once()
    assert dict(followed.standing(NAME).counts) == {"added": 2, "gone": 1}
    assert followed.standing(NAME).backlog == 0


def test_deleting_what_was_read_does_not_make_the_feed_another_one(
    followed: SourcesHome, orthanc: RunningOrthanc
) -> None:
    followed.follow_once()
    stored = []
    for number in range(0, 24, 3):  # each in a study of its own
        stored.append(orthanc.store(instance(number)))
        followed.follow_once()
    for one in stored[-3:]:
        orthanc.delete(one)
    orthanc.store(instance(30))
    followed.follow_once()
    assert followed.scans == 9
    assert followed.standing(NAME).began_anew_at is None
    assert dict(followed.standing(NAME).counts) == {"added": 9}


def test_a_cleared_feed_loses_nothing(followed: SourcesHome, orthanc: RunningOrthanc) -> None:
    orthanc.store(instance(0))
    followed.follow_once()
    orthanc.store(instance(3))  # its change is never read
    orthanc.clear_changes()
    orthanc.store(instance(6))
    followed.follow_once()
    assert followed.scans == 3
    assert followed.standing(NAME).began_anew_at is not None
    orthanc.store(instance(9))
    followed.follow_once()
    assert followed.scans == 4


@pytest.mark.parametrize("more", [1, 6])
def test_a_server_that_was_set_up_anew_is_read_from_its_beginning(
    followed: SourcesHome, orthanc: RunningOrthanc, more: int
) -> None:
    for number in range(0, 12, 3):
        orthanc.store(instance(number))
    followed.follow_once()
    orthanc.stop()
    orthanc.forget_everything()
    orthanc.start()
    for number in range(100, 100 + 3 * more, 3):
        orthanc.store(instance(number))
    followed.follow_once()
    assert followed.scans == 4 + more
    assert followed.standing(NAME).began_anew_at is not None
    orthanc.store(instance(200))
    followed.follow_once()
    assert followed.scans == 5 + more


def test_what_the_server_cannot_hand_over_holds_nothing_up_and_is_asked_for_again(
    followed: SourcesHome, orthanc: RunningOrthanc
) -> None:
    orthanc.store(instance(0))
    broken = orthanc.damage(orthanc.store(instance(3)))
    orthanc.store(instance(6))
    followed.follow_once()
    assert followed.scans == 2
    assert followed.standing(NAME).backlog == 1
    broken.mend()
    followed.follow_once()
    assert followed.scans == 3
    assert followed.standing(NAME).backlog == 0


def test_an_instance_beyond_the_limit_is_never_held_and_stands_in_quarantine(
    followed: SourcesHome, orthanc: RunningOrthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = instance(0)
    monkeypatch.setattr(orthanc_road, "DEFAULT_LIMITS", Limits(file_bytes=len(large) - 10))
    orthanc.store(large)
    followed.follow_once()
    followed.follow_once()
    [item] = followed.driftward.quarantine.items()
    assert (item.reason, item.kept) == (Reason.TOO_LARGE, False)
    assert dict(followed.standing(NAME).counts) == {"quarantined": 1}


def test_wrong_credentials_are_named_and_never_shown(
    home: SourcesHome, orthanc: RunningOrthanc, tmp_path: Path
) -> None:
    wrong = "battery staple"
    home.apply(
        name=NAME,
        kind="orthanc",
        url=orthanc.url,
        site="north",
        username=USER,
        password_file=str(password_file(tmp_path, wrong)),
    )
    with pytest.raises(SourceError, match=r"refuses the credentials \(401\)") as caught:
        home.follow_once()
    standing = home.standing(NAME)
    assert standing.failing_since is not None
    assert standing.last_error == str(caught.value)
    with home.driftward.database.reading() as session:
        everything = repr(ledger.entries(session)) + str(standing)
    assert wrong not in everything
    password_file(tmp_path)
    home.follow_once()
    assert home.standing(NAME).failing_since is None


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_password_that_others_may_read_is_not_used(
    home: SourcesHome, tmp_path: Path, mode: int
) -> None:
    home.apply(
        name=NAME,
        kind="orthanc",
        url="http://127.0.0.1:1",
        site="north",
        username=USER,
        password_file=str(password_file(tmp_path, mode=mode)),
    )
    with pytest.raises(SourceError, match=rf"mode {mode:04o}.*chmod 600"):
        home.follow_once()


def test_a_server_that_is_down_is_tried_again_and_said_once(
    followed: SourcesHome, orthanc: RunningOrthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(following, "_LONGEST_WAIT_SECONDS", 0.1)
    orthanc.store(instance(0))
    orthanc.stop()
    asked = Event()
    tries = itertools.count(1)
    fail = Hold.failed

    def failed(hold: Hold, error: str) -> None:
        fail(hold, error)
        if next(tries) == 3:
            asked.set()

    monkeypatch.setattr(Hold, "failed", failed)
    with capture_logs() as logs, running(followed):
        assert asked.wait(60)
        assert "cannot be reached" in (followed.standing(NAME).last_error or "")
        orthanc.start()
        until(lambda: followed.scans == 1)
        until(lambda: followed.standing(NAME).failing_since is None)
    said = [entry["event"] for entry in logs]
    assert said == ["source fails; it is tried again", "source answers again"]


def test_sources_that_come_and_go_are_followed_without_a_restart(
    home: SourcesHome, orthanc: RunningOrthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_SOURCES_SECONDS", 0.05)
    keys = {
        "name": NAME,
        "kind": "orthanc",
        "url": orthanc.url,
        "site": "north",
        "username": USER,
        "password_file": str(password_file(tmp_path)),
        "every_seconds": 0.1,
    }

    def all_is_read() -> bool:
        """Kept, not only stored: what is read again is read for whatever site is named then."""
        position = home.position(NAME)
        at_the_end = position.get("sequence") == orthanc.last_change
        return at_the_end and position["swept_to"] is None

    with running(home):
        home.apply(**keys)
        orthanc.store(instance(0))
        until(lambda: home.scans == 1)
        home.remove(NAME)
        until(lambda: not followers_of(NAME))
        orthanc.store(instance(3))
        home.apply(**keys)
        until(lambda: home.scans == 2 and all_is_read())
        # Its scans are another site's from now on; what came stays where it is.
        home.apply(**{**keys, "site": "south"})
        orthanc.store(instance(6))
        until(lambda: home.scans == 3)
    with home.driftward.database.reading() as session:
        sites = list(session.scalars(select(ScanRow.site).order_by(ScanRow.id)))
    assert sites == ["north", "north", "south"]


def test_what_was_fetched_for_a_replaced_specification_is_not_stored(
    home: SourcesHome, orthanc: RunningOrthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        "name": NAME,
        "kind": "orthanc",
        "url": orthanc.url,
        "username": USER,
        "password_file": str(password_file(tmp_path)),
    }
    home.apply(**keys, site="north")
    orthanc.store(instance(0))
    fetch = OrthancServer.file

    def changed_meanwhile(server: OrthancServer, one: str, *, limit: int) -> Fetched:
        found = fetch(server, one, limit=limit)
        home.apply(**keys, site="south")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(OrthancServer, "file", changed_meanwhile)
        with pytest.raises(LeaseLostError, match="changed"):
            home.follow_once()
    assert home.scans == 0
    home.follow_once()
    with home.driftward.database.reading() as session:
        assert list(session.scalars(select(ScanRow.site))) == ["south"]


def test_a_source_has_one_follower_at_a_time(
    followed: SourcesHome, orthanc: RunningOrthanc
) -> None:
    database, clock = followed.driftward.database, followed.driftward.clock
    first = take_hold(database, clock, NAME)
    assert first is not None
    with pytest.raises(ConflictError, match="another process"):
        followed.follow_once()
    first.release()
    followed.follow_once()
    with pytest.raises(LeaseLostError):
        first.keep(Step(backlog=5))


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_is_verified(
    home: SourcesHome, orthanc: RunningOrthanc, tmp_path: Path, trusted: bool
) -> None:
    both, certificate = own_certificate(tmp_path)
    orthanc.store(instance(0))
    with encrypted(orthanc.port, both) as port:
        home.apply(
            name=NAME,
            kind="orthanc",
            url=f"https://127.0.0.1:{port}",
            site="north",
            username=USER,
            password_file=str(password_file(tmp_path)),
            **({"authority": str(certificate)} if trusted else {}),
        )
        if trusted:
            home.follow_once()
            assert home.scans == 1
        else:
            with pytest.raises(SourceError, match=r"cannot be verified .*`authority`"):
                home.follow_once()
            assert home.scans == 0
