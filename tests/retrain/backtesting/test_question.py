"""What cannot be asked of a backtest says why, and what can."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from plan_texts import with_values
from shifted_history import ANCHOR, MONITOR, UNTIL, WEEK, ShiftedHistory

from registry.errors import (
    BadInputError,
    InsufficientDataError,
    NotFoundError,
    PlanError,
)
from retrain.backtesting.past import read_past
from retrain.backtesting.question import Question, ask
from retrain.change_plan import Autonomy
from retrain.gates.outcome import Gate


def asked(history: ShiftedHistory, monitor: str = MONITOR, **values: Any) -> Question:
    wanted = {"since": ANCHOR, "until": UNTIL, "text": history.plan_text(), **values}
    with history.driftward.database.reading() as session:
        question = ask(session, monitor, **wanted)
        read_past(session, question)
        return question


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"monitor": "knee"}, NotFoundError, "there is no monitor knee: chest"),
        (
            {"since": UNTIL, "until": ANCHOR},
            BadInputError,
            "is not before until 2026-03-02 00:00: nothing lies between them",
        ),
        (
            {"since": datetime(2026, 3, 2)},  # noqa: DTZ001 - what is refused
            BadInputError,
            r"since 2026-03-02T00:00:00 has no time zone: write it as .*\+00:00",
        ),
        (
            {"until": datetime(2026, 9, 2)},  # noqa: DTZ001
            BadInputError,
            "until 2026-09-02T00:00:00 has no time zone",
        ),
        (
            {"since": ANCHOR - WEEK},
            NotFoundError,
            "had no reference at 2026-02-23.*its first was accepted at 2026-03-02",
        ),
        (
            {"since": ANCHOR - 40 * WEEK},
            NotFoundError,
            "no version of pneumonia served at .*: its first serves since 2025-10-20",
        ),
        (
            {"since": UNTIL + WEEK, "until": UNTIL + 2 * WEEK},
            InsufficientDataError,
            "scans of 2026-09-07 to 2026-09-14 that pneumonia@1 has embedded",
        ),
        ({"period": timedelta(minutes=1)}, BadInputError, "too short"),
    ],
)
def test_a_span_that_cannot_be_replayed_is_refused(
    history: ShiftedHistory, values: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        asked(history, **values)


def test_a_plan_of_another_model_is_refused(history: ShiftedHistory) -> None:
    with pytest.raises(BadInputError, match=r"p\.yaml is a plan of bones, and monitor chest"):
        asked(history, text=with_values(history.plan_text(), model="bones"), source="p.yaml")


def test_a_malformed_plan_names_file_line_and_key(history: ShiftedHistory) -> None:
    text = history.plan_text().replace("shadow_days: 7", "shadow_days: soon")
    with pytest.raises(PlanError, match=r"p\.yaml:\d+: shadow_days"):
        asked(history, text=text, source="p.yaml")


def test_gates_that_need_pixels_are_left_out_of_the_rehearsed_plan_and_no_other(
    history: ShiftedHistory,
) -> None:
    question = asked(history, text=with_values(history.plan_text(), autonomy="propose"))
    assert Gate.PARITY in question.plan.gates.required
    assert question.rehearsed.gates.required == [
        gate for gate in question.plan.gates.required if gate is not Gate.PARITY
    ]
    # What is proposed, people take up at once.
    assert question.rehearsed.autonomy is Autonomy.ACT
    assert question.rehearsed.limits == question.plan.limits


def test_without_a_beginning_the_first_reference_is_one(history: ShiftedHistory) -> None:
    assert asked(history, since=None).since == ANCHOR
