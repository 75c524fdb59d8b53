from __future__ import annotations

from typing import Any

import pytest
from plan_texts import one_site_plan

from monitor.episodes.causes import Cause
from monitor.episodes.episodes import Impact
from retrain.change_plan import Strategy, parse_plan
from retrain.decisions import Action, serving, steps_for
from retrain.plans import AppliedPlan

TEXT = one_site_plan()


def applied(text: str = TEXT) -> AppliedPlan:
    return AppliedPlan(
        id=1, number=1, digest="d", plan=parse_plan(text, source="plan.yaml"), text=text
    )


def actions(cause: Cause, impact: Impact, plan: AppliedPlan | None) -> list[Action]:
    steps = steps_for(cause=cause, subgroup="software_version=2.1", impact=impact, plan=plan)
    return [step.action for step in steps]


@pytest.mark.parametrize(
    ("cause", "impact", "expected"),
    [
        (Cause.ACQUISITION, Impact.SUSPECTED, [Action.RESTRICT, Action.LABEL_REQUEST]),
        (Cause.ACQUISITION, Impact.MEASURED, [Action.RESTRICT, Action.RUN]),
        (Cause.ACQUISITION, Impact.NONE_SHOWN, [Action.LABEL_REQUEST]),
        (Cause.PREVALENCE, Impact.MEASURED, [Action.TICKET]),
        (Cause.ROUTING, Impact.SUSPECTED, [Action.TICKET]),
        (Cause.UNKNOWN, Impact.MEASURED, [Action.TICKET]),
    ],
)
def test_cause_and_impact_decide_by_the_plan(
    cause: Cause, impact: Impact, expected: list[Action]
) -> None:
    assert actions(cause, impact, applied()) == expected


@pytest.mark.parametrize("cause", list(Cause))
@pytest.mark.parametrize("impact", [Impact.NONE_SHOWN, Impact.SUSPECTED])
def test_drift_without_a_measured_impact_starts_no_run(cause: Cause, impact: Impact) -> None:
    assert Action.RUN not in actions(cause, impact, applied())


@pytest.mark.parametrize("cause", list(Cause))
def test_a_plan_without_authority_only_asks_for_a_person(cause: Cause) -> None:
    locked = applied(TEXT.replace("authority: research", "authority: none"))
    assert actions(cause, Impact.MEASURED, locked)[-1] is Action.TICKET
    assert Action.RUN not in actions(cause, Impact.MEASURED, locked)


def measured(*fell: str, after: float) -> dict[str, Any]:
    return {
        "falls": [{"measure": name} for name in fell],
        "before": {"auc": [0.95, 0.93, 0.97]},
        "after": {"auc": [after, after - 0.02, after + 0.02]},
    }


@pytest.mark.parametrize(
    ("evidence", "strategies"),
    [
        (measured("specificity", after=0.945), [Strategy.RECALIBRATION]),
        (measured("AUC", "specificity", after=0.80), [Strategy.LORA, Strategy.FULL]),
        (
            measured("specificity", after=0.90),
            [Strategy.RECALIBRATION, Strategy.LORA, Strategy.FULL],
        ),
        (None, [Strategy.RECALIBRATION, Strategy.LORA, Strategy.FULL]),
    ],
)
def test_what_fell_decides_whether_recalibration_or_training_can_repair_it(
    evidence: dict[str, Any] | None, strategies: list[Strategy]
) -> None:
    permitted = (Strategy.FULL, Strategy.LORA, Strategy.RECALIBRATION)
    assert list(serving(permitted, evidence)) == strategies


def test_a_plan_that_permits_recalibration_alone_tries_it_whatever_fell() -> None:
    evidence = measured("AUC", after=0.8)
    assert serving((Strategy.RECALIBRATION,), evidence) == (Strategy.RECALIBRATION,)


def test_without_a_plan_the_model_is_locked() -> None:
    [step] = steps_for(
        cause=Cause.ACQUISITION, subgroup=None, impact=Impact.MEASURED, plan=None
    )
    assert (step.action, "locked" in step.reason) == (Action.TICKET, True)


def test_the_run_takes_the_strategy_that_the_plan_names() -> None:
    text = TEXT.replace("acquisition: full fine-tuning", "acquisition: linear probe")
    steps = steps_for(
        cause=Cause.ACQUISITION, subgroup=None, impact=Impact.MEASURED, plan=applied(text)
    )
    assert [step.strategies for step in steps] == [(Strategy.LINEAR_PROBE,)]


def test_one_finding_whose_ranking_fell_asks_for_training_of_the_whole_task() -> None:
    kept, lost = measured(after=0.94), measured("AUC", after=0.6)
    # The gravest fall is of the finding whose ranking stayed.
    evidence = {
        **measured("sensitivity", after=0.94),
        "findings": {"fluid": kept, "mass": {"before": lost["before"], "after": lost["after"]}},
    }
    permitted = (Strategy.LORA, Strategy.RECALIBRATION)
    assert list(serving(permitted, evidence)) == [Strategy.RECALIBRATION, Strategy.LORA]
    without = {**evidence, "findings": {"fluid": kept}}
    assert serving(permitted, without) == (Strategy.RECALIBRATION,)
