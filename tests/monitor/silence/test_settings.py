from __future__ import annotations

from pathlib import Path

import pytest

from monitor.monitors import parse_monitor
from monitor.silence.settings import SilenceSettings
from monitor.subgroups import Attribute
from registry.errors import MonitorSpecError

OLD = """
name: chest
model: pneumonia
task: pneumonia
monitoring_encoder: general@1
window_hours: 84
anchor: 2026-03-02T00:00:00Z
alpha_per_week: 0.005
subgroup_attributes: [site]
floor: 20
"""


def settings(text: str) -> SilenceSettings | None:
    return parse_monitor(f"{OLD}{text}", source="monitor.yaml").silence


def test_a_file_from_before_silence_was_watched_watches_it_by_default() -> None:
    found = settings("")
    assert found == SilenceSettings()
    assert found.false_alarms_per_quarter == 1.0
    assert found.attributes == (Attribute.SITE, Attribute.SCANNER_MODEL, Attribute.STATION)


def test_the_demo_s_file_is_still_valid() -> None:
    file = Path(__file__).parents[3] / "api" / "demo" / "configuration" / "monitor.yaml"
    text = f"{file.read_text(encoding='utf-8')}\nanchor: 2026-03-02T00:00:00Z\n"
    parse_monitor(text, source="monitor.yaml")


def test_silence_can_be_left_unwatched_and_set_in_plain_words() -> None:
    assert settings("silence: null") is None
    found = settings(
        "silence: {attributes: [site], false_alarms_per_quarter: 0.5, look_every_minutes: 10, "
        "learn_weeks: 12, retired_after_days: 60, time_zone: Asia/Shanghai}"
    )
    assert found is not None
    assert found.zone.key == "Asia/Shanghai"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{time_zone: Mars/Olympus}", "write one as Europe/Berlin"),
        ("{time_zone: ../etc/passwd}", "is no time zone of this machine"),
        ("{attributes: []}", "name at least one"),
        ("{attributes: [site, site]}", "each once"),
        ("{attributes: [sex]}", "sex tells no sources of scans apart; use site"),
        ("{false_alarms_per_quarter: 0}", "silence.false_alarms_per_quarter"),
        ("{look_every_minutes: 1}", "silence.look_every_minutes"),
        ("{learn_weeks: 1}", "silence.learn_weeks"),
        ("{quiet: yes}", "silence.quiet: is no key that is known here"),
    ],
)
def test_a_setting_that_cannot_be_is_named(text: str, problem: str) -> None:
    with pytest.raises(MonitorSpecError, match=problem):
        settings(f"silence: {text}")


def test_settings_survive_being_stored() -> None:
    specification = parse_monitor(OLD, source="monitor.yaml")
    document = specification.model_dump(mode="json")
    assert type(specification).model_validate(document) == specification
