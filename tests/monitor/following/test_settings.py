from __future__ import annotations

import pytest
import yaml
from followed_history import SETTINGS
from monitored_history import ANCHOR

from monitor.following.settings import StreamSettings
from monitor.following.standing import Following, StreamStanding
from monitor.monitors import MonitorSpecification, parse_monitor
from registry.errors import MonitorSpecError

MONITOR = {
    "name": "chest",
    "model": "pneumonia",
    "task": "pneumonia",
    "monitoring_encoder": "general@1",
    "window_hours": 84,
    "anchor": ANCHOR.isoformat(),
    "alpha_per_week": 0.005,
    "subgroup_attributes": ["site"],
    "floor": 20,
}


def parsed(**stream: object) -> MonitorSpecification:
    return parse_monitor(yaml.safe_dump({**MONITOR, "stream": stream}), source="chest.yaml")


def test_scans_are_followed_unless_the_file_says_no() -> None:
    assert MonitorSpecification.model_validate(MONITOR).stream == StreamSettings()
    assert MonitorSpecification.model_validate({**MONITOR, "stream": None}).stream is None


def test_a_budget_is_said_in_words() -> None:
    found = parsed(false_alarms="two a year", scans_a_day=400, burn_in_scans=0).stream
    assert found is not None
    assert (found.false_alarms, found.scans_a_day, found.burn_in_scans) == (
        "two a year",
        400,
        0,
    )
    assert SETTINGS.false_alarms == "one per month"


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        ({"false_alarms": "hardly any"}, r"chest.yaml:8: stream.false_alarms: .*'hardly any'"),
        ({"false_alarms": "0 per year"}, r"stream.false_alarms: .*no test can promise"),
        ({"scans_a_day": 0}, r"stream.scans_a_day"),
        ({"scans_a_day": float("inf")}, r"stream.scans_a_day"),
        ({"burn_in_scans": -1}, r"stream.burn_in_scans"),
        ({"burnin": 5}, r"stream.burnin"),
        (
            {"false_alarms": "one per day", "scans_a_day": 40},
            r"stream: .*false_alarms: .*in 40 scans, and fewer than 100 cannot be kept",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_by_its_key(
    stream: dict[str, object], problem: str
) -> None:
    with pytest.raises(MonitorSpecError, match=problem):
        parsed(**stream)


@pytest.mark.parametrize(
    ("asked", "each", "words"),
    [
        ("one per month", 1200, "one in 600 scans; 2 streams share it, with one in 1,200 each"),
        # As after a change of the words, while streams have not looked yet.
        (
            "two per month",
            1200,
            "one in 300 scans; it is one in 600 until the next look; 2 str",
        ),
        (
            "five per day",
            200,
            "one in 4 scans; it is one in 100 as fewer cannot be kept; 2 str",
        ),
    ],
)
def test_what_streams_keep_is_said_where_the_words_ask_for_something_else(
    asked: str, each: int, words: str
) -> None:
    streams = tuple(
        StreamStanding(
            encoder=encoder,
            version="general@1",
            started_at=ANCHOR,
            looked_at=ANCHOR,
            scans=0,
            burn_in=0,
            waiting=0,
            evidence=0.0,
            shifted=False,
            scans_between_false_alarms=each,
            seen=(),
            notes=(),
        )
        for encoder in ("monitoring", "champion")
    )
    found = Following(
        false_alarms=asked, scans_a_day=20.0, measured=True, streams=streams, lacking=None
    )
    assert found.budget.startswith(
        f"false alarms: {asked}, which at 20 scans a day (measured) is {words}"
    )
