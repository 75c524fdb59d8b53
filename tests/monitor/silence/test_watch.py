"""Silence through the product: the real database, ticks, and a worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from scanner_history import HOUR, NORTH_A, NORTH_B, SOUTH_C, ScannerHistory, Station
from sqlalchemy import select, update

from monitor.silence.alarms import accept_alarm, require_alarm
from monitor.silence.settings import SilenceSettings
from monitor.silence.watch import WATCH_ARRIVALS
from monitor.silence.words import sentence
from monitor.tables import ScanRow, SilenceAlarmRow
from registry import ledger
from registry.database import Database
from registry.errors import ConflictError, LeaseLostError, NotFoundError
from registry.jobs import Job, JobQueue

NORTH = "site=north & scanner_model=DRX"
B2 = f"{NORTH} & station=b2"


def silence_b2(history: ScannerHistory) -> SilenceAlarmRow:
    """Let scanner b2 die on Tuesday at one, and live until its alarm."""
    history.live(25)
    for _ in range(12):
        history.live(1.5, without=[NORTH_B], looks=1.5)
        if history.alarms():
            return history.alarms()[0]
    raise AssertionError("no alarm")


def verify(history: ScannerHistory) -> ledger.Verification:
    with history.database.reading() as session:
        return ledger.verify(session)


def source(history: ScannerHistory, name: str) -> dict[str, Any]:
    (found,) = [one for one in history.seen.document["sources"] if one["subgroup"] == name]
    return dict(found)


def test_one_dead_scanner_of_three_is_one_alarm_that_ends_when_it_sends_again(
    lived: ScannerHistory,
) -> None:
    lived.live(25)
    lived.tick()
    assert lived.alarms() == []
    promised = source(lived, B2)["noticed_by"]
    died = lived.clock.now()
    while not lived.alarms():
        lived.live(0.5, without=[NORTH_B])
        lived.tick()
        assert lived.clock.now() < died + 14 * HOUR
    (alarm,) = lived.alarms()
    assert (alarm.subgroup, alarm.kind, alarm.state) == (B2, "missing", "open")
    with lived.database.reading() as session:
        last = session.scalars(
            select(ScanRow.arrived_at)
            .where(ScanRow.station == "b2")
            .order_by(ScanRow.arrived_at.desc())
        ).first()
    assert abs((alarm.since - last).total_seconds()) <= 1
    # Within what was promised before it died: it had been quiet for a while by then.
    assert alarm.opened_at.isoformat() <= promised
    assert alarm.received == 0
    assert 5 < alarm.expected < 30
    assert alarm.p_value <= alarm.alpha
    assert alarm.evidence["others_received"] > 0
    assert "nothing since" in sentence(alarm)
    assert "still sends" in " ".join(alarm.evidence["checks"])
    assert source(lived, B2)["silent"]
    assert not source(lived, NORTH)["silent"]

    lived.live(3, without=[NORTH_B], looks=1)
    assert [row.state for row in lived.alarms()] == ["open"]
    back = lived.clock.now()
    while lived.alarms()[0].state == "open":
        lived.live(0.5)
        lived.tick()
        assert lived.clock.now() < back + 8 * HOUR
    lived.live(24, looks=4)
    (alarm,) = lived.alarms()
    assert alarm.closed_reason is not None
    assert alarm.closed_reason.startswith("ordinary again")
    assert verify(lived).valid
    with lived.database.reading() as session:
        kinds = [entry.kind for entry in ledger.entries(session) if "silence" in entry.kind]
    assert kinds == ["silence.opened", "silence.closed"]


def test_a_scanner_that_dies_on_a_listed_holiday_is_noticed_and_the_day_is_said(
    lived: ScannerHistory,
) -> None:
    lived.apply(SilenceSettings.model_validate({"learn_weeks": 4, "holidays": ["2026-01-27"]}))
    lived.live(24, looks=12)
    usual = source(lived, "")["expected"]
    for _ in range(16):
        lived.live(1.5, without=[NORTH_B], factor=0.35, looks=1.5)
    (alarm,) = lived.alarms()
    assert (alarm.subgroup, alarm.kind, alarm.state) == (B2, "missing", "open")
    assert alarm.evidence["holidays"] == ["2026-01-27"]
    assert sentence(alarm).endswith("; Tue 27 Jan is listed as a holiday")
    assert "in use on this holiday" in " ".join(alarm.evidence["checks"])
    assert source(lived, "")["expected"] < 0.7 * usual


def test_a_listed_holiday_on_which_all_send_little_is_no_alarm_and_teaches_nothing(
    lived: ScannerHistory,
) -> None:
    listed = {"learn_weeks": 2, "holidays": [{"from": "2026-01-26", "to": "2026-01-28"}]}
    lived.apply(SilenceSettings.model_validate(listed))
    lived.live(1, looks=1)
    before = source(lived, "")["scans_a_week"]
    lived.live(47, factor=0.3, looks=1)
    lived.live(2, looks=1)
    assert lived.alarms() == []
    assert source(lived, "")["scans_a_week"] == before


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (["south"], "days since it began are listed as holidays now, and by what"),
        (["north"], None),
    ],
)
def test_a_site_s_holiday_that_is_listed_while_its_alarm_is_open_closes_it(
    lived: ScannerHistory, kept: list[str], reason: str | None
) -> None:
    lived.live(30, looks=30)
    while not lived.alarms():
        lived.live(1, without=[SOUTH_C], looks=1)
    holiday = {"date": "2026-01-27", "sites": kept}
    lived.apply(SilenceSettings.model_validate({"learn_weeks": 2, "holidays": [holiday]}))
    lived.live(0.5, without=[SOUTH_C], looks=0.5)
    (alarm,) = lived.alarms()
    assert (alarm.closed_reason or "").startswith(reason or "")
    assert alarm.state == ("closed" if reason else "open")


def test_a_second_scanner_s_death_makes_it_one_alarm_of_the_site(
    lived: ScannerHistory,
) -> None:
    first = silence_b2(lived)
    for _ in range(6):
        lived.live(1, without=[NORTH_A, NORTH_B], looks=1)
    states = {row.subgroup: row.state for row in lived.alarms()}
    assert states == {B2: "closed", NORTH: "open"}
    part, whole = lived.alarms()
    assert part.closed_reason == f"part of alarm {whole.id}"
    assert whole.since == first.since
    assert "all 2 sources" in " ".join(whole.evidence["checks"])


def test_a_dead_receiver_is_one_alarm_of_all(lived: ScannerHistory) -> None:
    lived.live(34)
    for _ in range(5):
        lived.live(1, without=lived.stations, looks=1)
    (alarm,) = lived.alarms()
    assert alarm.subgroup == ""
    assert "driftward doctor" in alarm.evidence["checks"][0]


def test_scanners_that_are_all_renamed_are_not_said_to_send_nothing(
    lived: ScannerHistory,
) -> None:
    lived.live(34)
    renamed = Station(site="south", model="DX-D", station="d4", daily=50)
    for _ in range(5):
        at = lived.clock.now()
        lived.live(1, without=lived.stations)
        lived.receive(renamed, [at + n * HOUR / 6 for n in range(6)])
        lived.look()
    (alarm,) = lived.alarms()
    assert alarm.subgroup == ""
    said = sentence(alarm)
    assert said.startswith("all sources that are known: nothing since ")
    assert said.endswith(
        "; scans of site south, scanner model DX-D, station d4 come since, which sent none before"
    )
    checks = " ".join(alarm.evidence["checks"])
    assert "was it replaced or renamed" in checks
    assert "this installation still receives" in checks
    assert "driftward doctor" not in checks


def test_a_station_that_is_no_longer_stated_is_not_called_silent(
    lived: ScannerHistory,
) -> None:
    lived.live(32)
    for _ in range(12):
        at = lived.clock.now()
        lived.live(1, without=[NORTH_A, NORTH_B])
        for station in (NORTH_A, NORTH_B):
            lived.receive(station, [at + n * HOUR / 6 for n in range(6)], stated=False)
        lived.look()
    kinds = {row.kind for row in lived.alarms()}
    assert kinds == {"unstated"}
    assert "no longer say which source" in sentence(lived.alarms()[0])


def test_a_new_scanner_is_said_and_a_storm_of_it_is_an_alarm(lived: ScannerHistory) -> None:
    lived.live(34)
    new = Station(site="south", model="DX-D", station="d4", daily=30)
    lived.receive(new, [lived.clock.now()])
    lived.live(2, looks=1)
    name = "site=south & scanner_model=DX-D & station=d4"
    assert [one["subgroup"] for one in lived.seen.document["new"]] == [name]
    assert lived.alarms() == []
    at = lived.clock.now()
    lived.receive(new, [at + n * timedelta(seconds=10) for n in range(250)])
    lived.live(1, looks=1)
    (alarm,) = lived.alarms()
    assert (alarm.subgroup, alarm.kind, alarm.received) == (name, "surplus", 250)


def test_a_resend_storm_is_one_alarm_that_ends_with_it(lived: ScannerHistory) -> None:
    lived.live(34)
    at = lived.clock.now()
    lived.receive(SOUTH_C, [at + n * timedelta(seconds=9) for n in range(300)])
    lived.live(1, looks=1)
    (alarm,) = lived.alarms()
    assert (alarm.kind, alarm.state) == ("surplus", "open")
    assert alarm.subgroup.endswith("station=c3")
    lived.live(30, looks=5)
    (alarm,) = lived.alarms()
    assert alarm.state == "closed"


def test_scans_from_the_future_wait_for_their_time_and_are_said(lived: ScannerHistory) -> None:
    lived.live(34)
    ahead = lived.clock.now() + 400 * HOUR
    lived.receive(SOUTH_C, [ahead + n * timedelta(seconds=9) for n in range(300)])
    lived.live(1, looks=1)
    assert lived.alarms() == []
    assert "300 scans are stamped after now" in " ".join(lived.seen.document["notes"])


def test_late_scans_count_where_they_belong_and_end_a_silence_that_was_none(
    lived: ScannerHistory,
) -> None:
    alarm = silence_b2(lived)
    hours = (lived.clock.now() - alarm.since) / HOUR
    late = lived.times(NORTH_B, alarm.since, hours)
    lived.receive(NORTH_B, late)
    lived.clock.at += HOUR / 4
    lived.look()
    (row,) = lived.alarms()
    assert row.state == "closed"
    notes = " ".join(lived.seen.document["notes"])
    assert "scans were stored since the last look under times before it" in notes
    assert len(late) > 5


def test_a_scanner_that_stays_silent_is_taken_as_retired(lived: ScannerHistory) -> None:
    lived.apply(SilenceSettings(learn_weeks=4, retired_after_days=7))
    silence_b2(lived)
    lived.live(7 * 24, without=[NORTH_B])
    lived.look()
    (alarm,) = lived.alarms()
    assert alarm.closed_reason is not None
    assert alarm.closed_reason.startswith("nothing for 7 days: taken as retired")
    lived.live(1, without=[NORTH_B], looks=1)
    assert [one["subgroup"] for one in lived.seen.document["gone"]] == [B2]
    assert len(lived.alarms()) == 1


def test_a_long_silence_is_held_against_the_weeks_before_it(lived: ScannerHistory) -> None:
    # Two weeks are learnt from: after five days of silence too few would be left of them.
    lived.apply(SilenceSettings(learn_weeks=2))
    silence_b2(lived)
    lived.live(5 * 24, without=[NORTH_B])
    lived.look()
    (alarm,) = lived.alarms()
    assert alarm.state == "open"
    lived.live(4)
    lived.look()
    (alarm,) = lived.alarms()
    assert alarm.closed_reason == "ordinary again: the newest scans came as they should"


def test_what_a_person_accepts_is_learnt_anew_and_does_not_come_back(
    lived: ScannerHistory,
) -> None:
    number = silence_b2(lived).id
    with lived.database.transaction() as session:
        row = require_alarm(session, "chest", number)
        accept_alarm(session, row, reason="moved away", actor="Mei", at=lived.clock.now())
    lived.live(6, without=[NORTH_B], looks=2)
    (alarm,) = lived.alarms()
    assert (alarm.accepted, alarm.closed_reason) == (True, "moved away")
    assert [one["subgroup"] for one in lived.seen.document["new"]] == [B2]
    assert verify(lived).valid
    with lived.database.transaction() as session, pytest.raises(ConflictError):
        row = require_alarm(session, "chest", number)
        accept_alarm(session, row, reason="again", actor="Mei", at=lived.clock.now())
    with lived.database.reading() as session, pytest.raises(NotFoundError, match="silence"):
        require_alarm(session, "chest", 99)


def test_alarms_close_when_silence_is_watched_no_longer(lived: ScannerHistory) -> None:
    silence_b2(lived)
    lived.apply(None)
    lived.clock.at += HOUR
    lived.tick()
    (alarm,) = lived.alarms()
    assert alarm.closed_reason == "the monitor watches silence no longer"
    lived.clock.at += HOUR
    lived.tick()
    assert lived.seen.document == {"state": "off"}


def test_before_two_weeks_nothing_is_judged(database: Database) -> None:
    history = ScannerHistory(database)
    history.look()
    assert history.seen.document["state"] == "learning"
    history.live(5 * 24)
    history.look()
    assert history.seen.document["learnt_days"] == 5
    assert history.alarms() == []


@pytest.mark.parametrize("weeks", [2, 4])
def test_the_change_to_summer_time_takes_no_day_from_what_is_learnt(
    database: Database, weeks: int
) -> None:
    """Of so many weeks with it one hour is missing, and they are as many weeks."""
    zone = ZoneInfo("Europe/Berlin")
    history = ScannerHistory(
        database, settings=SilenceSettings(learn_weeks=weeks, time_zone=zone.key)
    )
    # The night to 29 March had no hour from two on.
    after = datetime(2026, 3, 30, 1, tzinfo=zone)
    first = after - timedelta(days=7 * weeks, hours=1)
    history.clock.at = first.astimezone(UTC)
    history.live(7 * weeks * 24)
    history.look()
    assert history.seen.document["state"] == "watching"
    assert history.seen.document["learnt_days"] == 7 * weeks


def test_looks_that_nobody_made_are_said(lived: ScannerHistory) -> None:
    lived.live(8, looks=8)
    lived.live(6, looks=6)
    assert "nobody looked from 2026-01-26 08:00 to 2026-01-26 14:00" in " ".join(
        lived.seen.document["notes"]
    )


def test_a_clock_that_went_back_is_said_and_looking_goes_on(lived: ScannerHistory) -> None:
    lived.live(30, looks=30)
    lived.clock.at -= 3 * HOUR
    lived.tick()
    assert lived.seen.looked_at == lived.clock.now()
    assert "a clock was wrong" in " ".join(lived.seen.document["notes"])


def test_a_look_is_asked_for_once_an_interval(lived: ScannerHistory) -> None:
    lived.live(30)
    lived.tick()
    first = lived.seen.looked_at
    lived.clock.at += timedelta(minutes=14)
    lived.tick()
    assert lived.seen.looked_at == first
    lived.clock.at += timedelta(minutes=1)
    lived.tick()
    assert lived.seen.looked_at == lived.clock.now()


def test_a_fresh_worker_comes_to_the_same_as_one_that_remembers(lived: ScannerHistory) -> None:
    lived.live(30, looks=10)
    lived.live(1)
    lived.look()
    remembered = lived.seen.document
    lived.restart()
    lived.watcher.look("chest")
    again = {**lived.seen.document, "notes": remembered["notes"]}
    assert again == remembered


def test_a_look_whose_worker_died_after_it_is_not_made_twice(lived: ScannerHistory) -> None:
    silence_b2(lived)
    lived.clock.at += HOUR
    before = len(lived.alarms())
    queue = JobQueue(lived.database, lease=timedelta(0))
    _queue(lived)
    dead = queue.claim("dead", [WATCH_ARRIVALS])
    assert dead is not None
    lived.watcher.handle(dead)  # and it is killed before it can say so
    seen = lived.seen.looked_at
    lived.restart()
    lived.worker.drain()
    assert len(lived.alarms()) == before
    assert lived.seen.looked_at == seen
    with lived.database.reading() as session:
        job = session.scalars(select(Job).where(Job.kind == WATCH_ARRIVALS)).one()
    assert job.state == "done"
    assert verify(lived).valid


def test_a_worker_that_was_superseded_writes_nothing(lived: ScannerHistory) -> None:
    lived.live(30)
    queue = JobQueue(lived.database, lease=timedelta(0))
    _queue(lived)
    old = queue.claim("old", [WATCH_ARRIVALS])
    new = queue.claim("new", [WATCH_ARRIVALS])
    assert old is not None
    assert new is not None
    with pytest.raises(LeaseLostError):
        lived.watcher.handle(old)
    with pytest.raises(AssertionError):
        _ = lived.seen
    lived.watcher.handle(new)
    assert lived.seen.looked_at == lived.clock.now()


def test_an_edited_alarm_is_found(lived: ScannerHistory) -> None:
    silence_b2(lived)
    assert verify(lived).valid
    with lived.database.transaction() as session:
        session.execute(update(SilenceAlarmRow).values(expected=1.0))
    fault = verify(lived).fault
    assert fault is not None
    assert "silence_alarms/1" in fault.problem


def _queue(history: ScannerHistory) -> None:
    from retrain.scheduling import tick

    tick(history.database, history.clock)
