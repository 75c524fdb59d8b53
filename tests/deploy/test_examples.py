"""Each example is read by what reads it in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from api.settings import Settings
from monitor.labelling.mapping import parse_mapping
from monitor.monitors import parse_monitor
from monitor.receiving.settings import parse_receiver
from monitor.sources.settings import KINDS, parse_source
from retrain.change_plan import Authority, Strategy, parse_plan

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
PARSERS: dict[str, Callable[..., object]] = {
    "receiver.yaml": parse_receiver,
    "monitor.yaml": parse_monitor,
    "plan.yaml": parse_plan,
    "plan-pccp.yaml": parse_plan,
    "label-mapping.yaml": parse_mapping,
    **{f"source-{kind}.yaml": parse_source for kind in KINDS},
}


def text_of(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def test_there_is_one_of_each_and_no_other() -> None:
    there = {path.name for path in EXAMPLES.iterdir()}
    assert there == {*PARSERS, "driftward.env"}


@pytest.mark.parametrize("name", PARSERS)
def test_an_example_is_read(name: str) -> None:
    PARSERS[name](text_of(name), source=name)


def test_the_receiver_names_who_may_send_and_encrypts() -> None:
    settings = parse_receiver(text_of("receiver.yaml"), source="receiver.yaml")
    assert settings.peers
    assert settings.tls is not None
    assert settings.tls.authority is not None


def test_monitor_and_plan_are_of_one_model() -> None:
    monitor = parse_monitor(text_of("monitor.yaml"), source="monitor.yaml")
    plan = parse_plan(text_of("plan.yaml"), source="plan.yaml")
    assert monitor.model == plan.model


def test_the_plan_is_no_demonstration() -> None:
    plan = parse_plan(text_of("plan.yaml"), source="plan.yaml")
    assert plan.authority is Authority.IN_HOUSE
    assert plan.approval.people == 2


def test_a_manufacturer_s_plan_leaves_the_encoder_as_it_was_authorised() -> None:
    plan = parse_plan(text_of("plan-pccp.yaml"), source="plan-pccp.yaml")
    assert plan.authority_number
    permitted = {strategy for some in plan.modifications.values() for strategy in some}
    assert permitted == {Strategy.RECALIBRATION, Strategy.LINEAR_PROBE}


def test_every_setting_of_the_environment_file_exists() -> None:
    lines = [line.removeprefix("# ") for line in text_of("driftward.env").splitlines()]
    names = {line.partition("=")[0] for line in lines if line.startswith("DRIFTWARD_")} - {
        "DRIFTWARD_<NAME>."
    }
    assert names
    known = {f"DRIFTWARD_{name.upper()}" for name in Settings.model_fields}
    assert names <= known
