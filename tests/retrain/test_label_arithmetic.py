from __future__ import annotations

import time

import pytest
from plan_texts import one_site_plan

from registry.errors import InsufficientDataError, PlanError
from retrain.change_plan import parse_plan
from retrain.gates.limits import GateLimits
from retrain.label_arithmetic import LabelNeeds, label_needs
from retrain.label_rules import LabelRules

LIMITS = parse_plan(one_site_plan(), source="plan.yaml").gates.limits


def rules(*, request: str) -> str:
    return one_site_plan().replace(
        "labels:\n", f"labels:\n  sample: requested\n  request: {{{request}}}\n"
    )


def needs(labels: LabelRules, limits: GateLimits, **at_most: int) -> LabelNeeds:
    assert labels.request is not None
    return label_needs(
        labels,
        limits,
        uses=10,
        prevalence=labels.request.prevalence or 0.4,
        prevalence_of="the plan's",
        **at_most,
    )


@pytest.mark.parametrize("gain", [0.05, 0.1, 0.2])
def test_what_a_plan_may_ask_for_changes_no_answer_that_fits_it(gain: float) -> None:
    text = rules(request=f"power: 0.8, gain: {gain}, discordance: 0.1, at_most: 100000")
    labels = parse_plan(text, source="plan.yaml").labels
    unbounded = needs(labels, LIMITS)
    assert needs(labels, LIMITS, at_most=unbounded.total) == unbounded
    with pytest.raises(InsufficientDataError) as error:
        needs(labels, LIMITS, at_most=unbounded.total // 20)
    # The usual formula, which promises a little more than the tests keep.
    assert unbounded.judged / 2 < error.value.needed < unbounded.judged * 1.2


@pytest.mark.parametrize(
    ("request_rules", "refused"),
    [
        ("power: 0.99, gain: 0.01, discordance: 0.3, prevalence: 0.01, at_most: 500", True),
        ("power: 0.8, gain: 0.02, discordance: 0.1, prevalence: 0.1, at_most: 500", True),
        ("power: 0.99, gain: 0.005, discordance: 0.3, at_most: 1000000", True),
        ("power: 0.8, gain: 0.008, discordance: 0.5, at_most: 1000000", True),
        ("power: 0.8, gain: 0.01, discordance: 0.1, prevalence: 0.35, at_most: 200000", False),
        (
            "power: 0.8, gain: 0.0155, discordance: 0.3, prevalence: 0.5, at_most: 1000000",
            False,
        ),
    ],
)
def test_whether_labels_can_be_requested_is_answered_at_once(
    request_rules: str, refused: bool
) -> None:
    text = rules(request=request_rules)
    started = time.process_time()
    if refused:
        with pytest.raises(PlanError, match=r"request\.at_most: .* No labels could satisfy it"):
            parse_plan(text, source="plan.yaml")
    else:
        parse_plan(text, source="plan.yaml")
    assert time.process_time() - started < 2


def test_a_plan_that_up_to_a_hundred_thousand_patients_satisfy_is_accepted() -> None:
    text = rules(
        request="power: 0.86, gain: 0.02, discordance: 0.9, prevalence: 0.3, at_most: 1000000"
    )
    found = needs(parse_plan(text, source="plan.yaml").labels, LIMITS)
    assert 65_536 < found.judged <= 100_000
