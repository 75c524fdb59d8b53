"""A stream of series: each counts once, whatever revisions it had."""

from __future__ import annotations

import pytest
from series_home import Pair, SeriesHome, ct_series, rejection_of
from series_reference import reference_row

from monitor.following import kept
from monitor.following.budget import StreamBudget, measured_scans_a_day
from monitor.following.incoming import Arrival, Odd, next_arrivals, waiting
from monitor.monitors import require_monitor
from monitor.tables import ReferenceRow, StreamRow, StreamScan


@pytest.fixture
def stream(home: SeriesHome, bundles: Pair) -> int:
    """A stream of a model of series, by its number."""
    encoder, champion = bundles()
    version, _ = home.watch("nodules", encoder=encoder, champion=champion)
    with home.database.transaction() as session:
        reference = reference_row(session, "nodules", version, accepted_at=home.clock.at)
        budget = StreamBudget(
            scans_between_false_alarms=1000, scans_a_day=10.0, measured=False, burn_in=0
        )
        row = kept.begin(session, "nodules", reference, budget, actor="test", at=home.clock.at)
    return row.id


def see(home: SeriesHome, stream: int) -> list[Arrival]:
    """Return what a stream sees next, and let it have seen that."""
    with home.database.transaction() as session:
        row = session.get_one(StreamRow, stream)
        reference = session.get_one(ReferenceRow, row.reference)
        found = next_arrivals(session, row, reference, "nodules", most=100, now=home.clock.at)
        for one in found:
            number = None if one.vector is None else row.scans
            row.scans += one.vector is not None
            session.add(StreamScan(stream=stream, scan=one.scan, number=number))
    return found


def test_a_stream_of_series_sees_no_instance(home: SeriesHome, stream: int) -> None:
    home.receive(ct_series(1, range(4)))
    home.receive(ct_series(2, range(4)))
    assert see(home, stream) == []
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    assert [one.odd for one in see(home, stream)] == [None, None]


def test_a_later_revision_of_what_was_seen_is_passed_over(
    home: SeriesHome, stream: int
) -> None:
    home.receive(ct_series(1, range(4)))
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    assert [one.odd for one in see(home, stream)] == [None]
    for number in (4, 5):
        home.receive(ct_series(1, [number]))
        home.wait(minutes=3)
        home.embedder.embed("nodules")
        assert [one.odd for one in see(home, stream)] == [Odd.AGAIN]


def test_what_was_superseded_before_it_was_seen_holds_nothing_up(
    home: SeriesHome, stream: int
) -> None:
    home.receive(ct_series(1, range(4)))
    home.wait(minutes=3)
    home.assembler.assemble()
    home.receive(ct_series(1, [4]))
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    with home.database.reading() as session:
        assert waiting(session, session.get_one(StreamRow, stream)) == 2
    assert [one.odd for one in see(home, stream)] == [Odd.WITHDRAWN, None]


def test_scans_a_day_are_series_that_count(home: SeriesHome, stream: int) -> None:
    series = ct_series(1, range(4))
    home.receive([*series, *ct_series(2, range(4))])
    home.wait(minutes=3)
    home.embedder.embed("nodules")
    home.receive([rejection_of(series, title="113001")])
    home.embedder.embed("nodules")
    with home.database.reading() as session:
        row = session.get_one(StreamRow, stream)
        rate = measured_scans_a_day(
            session,
            require_monitor(session, "nodules"),
            session.get_one(ReferenceRow, row.reference),
            now=home.clock.at,
        )
    assert rate == 1.0
