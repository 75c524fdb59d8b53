from __future__ import annotations

from dataclasses import replace

import pytest
from monitored_history import ANCHOR, History
from tiny_bundles import finding

from monitor.monitors import apply_file, apply_monitor, require_monitor
from monitor.verdict_history import newest_window, unjudged_windows
from registry.database import Database
from registry.errors import MonitorSpecError, NotFoundError
from registry.versions import ModelRow, find

FILE = """
name: chest
model: pneumonia
task: pneumonia
monitoring_encoder: general@1
window_hours: 84
anchor: 2026-03-02T00:00:00Z
alpha_per_week: 0.005
subgroup_attributes: [site, view]
floor: 30
"""


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("hours: 84", "hours: 1e9", "monitor.yaml:6: window_hours: a window lasts 1 to 8,784"),
        ("hours: 84", "hours: 0.0001", "monitor.yaml:6: window_hours: a window lasts"),
        ("2026-03", "0001-03", "monitor.yaml:7: anchor: the first window starts from 1990"),
        ("2026-03", "9999-03", "monitor.yaml:7: anchor: the first window starts"),
        (
            "hours: 84\nanchor: 2026-03-02T00:00:00Z\nalpha_per_week: 0.005",
            "hours: 8784\nanchor: 2026-03-02T00:00:00Z\nalpha_per_week: 0.01",
            "monitor.yaml:8: alpha_per_week: 0.01 a week is 1 over two windows",
        ),
        ("[site, view]", "[site, site]", "monitor.yaml:9: subgroup_attributes: name each"),
    ],
)
def test_what_nobody_can_mean_is_refused_with_its_line(
    bare_history: History, before: str, after: str, words: str
) -> None:
    assert before in FILE
    text = FILE.replace(before, after)
    with (
        pytest.raises(MonitorSpecError, match=f"^{words}"),
        bare_history.database.transaction() as session,
    ):
        apply_file(session, text, source="monitor.yaml", actor="test", at=ANCHOR)
    with bare_history.database.reading() as session:
        kept = require_monitor(session, "chest")
    assert kept.specification == bare_history.monitor.specification


def test_windows_in_force_that_outlast_dates_stop_nobody(history: History) -> None:
    spec = history.monitor.specification.model_copy(update={"window_hours": 1e9})
    with history.database.reading() as session:
        monitor = replace(history.monitor, specification=spec)
        assert unjudged_windows(session, monitor, until=history.window(9).end) == []
    with pytest.raises(NotFoundError, match="no window of chest has ended: the first begins"):
        newest_window(spec, until=history.window(9).end)
    assert newest_window(history.monitor.specification, until=history.window(9).end) == (
        history.window(9)
    )


def test_the_task_is_one_that_the_champion_has(bare_history: History) -> None:
    with bare_history.database.transaction() as session:
        find(session, "pneumonia@1").tasks = [finding().to_json()]
        apply_file(session, FILE, source="monitor.yaml", actor="test", at=ANCHOR)
    text = FILE.replace("task: pneumonia", "task: cancer")
    with (
        pytest.raises(MonitorSpecError, match="pneumonia@1 has no task cancer; it has pneumon"),
        bare_history.database.transaction() as session,
    ):
        apply_file(session, text, source="monitor.yaml", actor="test", at=ANCHOR)


def _with_another_model(history: History) -> None:
    with history.database.transaction() as session:
        session.add(ModelRow(name="fracture", tier="task", created_at=ANCHOR))
        session.flush()
        spec = history.monitor.specification.model_copy(update={"model": "fracture"})
        apply_monitor(session, spec, actor="test", at=ANCHOR)


def test_a_monitor_that_has_references_keeps_its_model(history: History) -> None:
    with pytest.raises(
        MonitorSpecError, match=r"^model: .* monitor with fracture a name of its own"
    ):
        _with_another_model(history)


def test_a_monitor_that_has_references_keeps_its_encoder(history: History) -> None:
    spec = history.monitor.specification.model_copy(
        update={"monitoring_encoder": "pneumonia@1"}
    )
    words = (
        "^monitoring_encoder: monitor chest has references, verdicts and streams of general@1"
    )
    with (
        pytest.raises(MonitorSpecError, match=words),
        history.database.transaction() as session,
    ):
        apply_monitor(session, spec, actor="test", at=ANCHOR)


def test_before_its_first_reference_a_monitor_may_watch_another_model(
    bare_history: History,
) -> None:
    _with_another_model(bare_history)
    assert _model_of(bare_history.database) == "fracture"


def _model_of(database: Database) -> str:
    with database.reading() as session:
        return require_monitor(session, "chest").specification.model
