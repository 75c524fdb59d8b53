from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest
from retraining_rows import PLAN as RETRAINED
from retraining_rows import Retraining

from api.cli.plans import _change_lines
from registry.database import Database
from registry.errors import PlanError
from retrain.change_plan import parse_plan
from retrain.plans import apply_plan, changes_between, require_plan
from retrain.soundness import require_sound

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
PLAN = (EXAMPLES / "plan.yaml").read_text(encoding="utf-8")
SEX = "{attribute: sex, value: M}"
BOTH = f"      declared:\n        - {SEX.replace('M', 'F')}\n        - {SEX}"


def line_of(text: str, word: str) -> int:
    return 1 + next(n for n, line in enumerate(text.split("\n")) if word in line)


def test_the_examples_are_meant() -> None:
    for name in ("plan.yaml", "plan-pccp.yaml"):
        parse_plan((EXAMPLES / name).read_text(encoding="utf-8"), source=name)


@pytest.mark.parametrize(
    ("key", "before", "after", "word", "message"),
    [
        (
            "labels.at_least",
            "at_least: 600",
            "at_least: 99999999999999999999999",
            "",
            "1,000,000",
        ),
        ("approval.people", "people: 2", "people: 1000", "", "at most 20 can be meant"),
        ("shadow_days", "shadow_days: 14", "shadow_days: 100000000000", "", "at most 366"),
        ("shadow_days", "shadow_days: 14", "shadow_days: .inf", "", "at most 366"),
        ("gates.locked_set_uses", "uses: 5", "uses: 1000000000", "", "at most 1,000"),
        ("training.head_rate", "head_rate: 1.0e-3", "head_rate: .inf", "", "at most 10 "),
        (
            "gates.limits.calibration.resamples",
            "resamples: 500",
            "resamples: 1000000000",
            "",
            "at most 100,000",
        ),
        (
            "gates.limits.subgroups.declared",
            BOTH,
            "      declared: []",
            "declared: []",
            "none is declared, and the gate subgroups is required",
        ),
        (
            "gates.limits.subgroups.declared.1",
            SEX,
            "{attribute: sex, value: Q}",
            "",
            "no scan has the sex 'Q': name one of F, M, O",
        ),
        (
            "gates.limits.subgroups.declared.1",
            SEX,
            "{attribute: age_band, value: 10-20}",
            "",
            "no scan has the age_band '10-20': name one of 0-17, 18-39, 40-64, 65+",
        ),
        (
            "gates.limits.subgroups.declared.1",
            SEX,
            "{attribute: gender, value: M}",
            "",
            "gender is no attribute of a scan",
        ),
        (
            "gates.people_decide.0",
            "people_decide: [subgroups]",
            "people_decide: [every_class]",
            "",
            "every_class is not required",
        ),
        (
            "gates.required.8",
            "    - parity\n",
            "    - parity\n    - parity \n",
            "parity ",
            "twice",
        ),
        (
            "modifications.prevalence.1",
            "prevalence: recalibration",
            "prevalence: [LoRA, LoRA]",
            "",
            "stands twice",
        ),
        (
            "training.candidates.1",
            "  patience: 3",
            "  patience: 3\n  candidates:\n    - {epochs: 2}\n    - {epochs: 2 }",
            "{epochs: 2 }",
            "stands twice",
        ),
        ("labels.provenance.1", "[report]", "[report, report]", "", "stands twice"),
        ("model", "model: pneumonia", 'model: "pneu monia/../x"', "", "is no model's name"),
        (
            "authority_number",
            "authority: in-house",
            'authority: pccp\nauthority_number: "  "',
            'number: "',
            "is blank",
        ),
        ("data.sites.0", "  within_days: 180", '  sites: [" "]', "", "is blank"),
        ("approval.role", "role: approver", "role: viewer", "", "viewer signs nothing"),
        (
            "gates.required",
            "    - label_provenance\n",
            "",
            "  required:",
            "lacks label_provenance",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line_and_key(
    key: str, before: str, after: str, word: str, message: str
) -> None:
    assert before in PLAN
    text = PLAN.replace(before, after, 1)
    with pytest.raises(PlanError) as error:
        parse_plan(text, source="plan.yaml")
    line = line_of(text, word or after)
    assert str(error.value).startswith(f"plan.yaml:{line}: {key}: ")
    assert message in str(error.value)
    if key != "authority_number":
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("people: 2", "people: 1000"),
        ("    - parity\n", "    - parity\n    - parity\n"),
        ("prevalence: recalibration", "prevalence: [LoRA, LoRA]"),
        ("authority: in-house", 'authority: pccp\nauthority_number: "  "'),
        ("role: approver", "role: viewer"),
    ],
)
def test_a_plan_in_force_is_not_held_to_what_came_later(before: str, after: str) -> None:
    parse_plan(PLAN.replace(before, after), source="plan 1", applied=True)


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ("data:\n  sites: [nowhere]\n", "data.sites"),
        ("stages:\n  - {sites: [nowhere], days: 1}\n", "stages.0.sites"),
    ],
)
def test_a_site_that_no_scan_came_from_is_named_with_its_line(
    retraining: Retraining, rules: str, key: str
) -> None:
    text = RETRAINED + rules
    with retraining.database.reading() as session, pytest.raises(PlanError) as error:
        require_sound(session, parse_plan(text, source="plan.yaml"), text, source="plan.yaml")
    line = line_of(text, "[nowhere]")
    assert str(error.value).startswith(
        f"plan.yaml:{line}: {key}: no scan ever came from nowhere"
    )


def test_changes_are_said_as_a_plan_writes_them(database: Database, now: datetime) -> None:
    with database.transaction() as session:
        apply_plan(session, PLAN, source="plan.yaml", actor="test", at=now)
        before = require_plan(session, "pneumonia").plan
    changed = PLAN.replace(
        "  patience: 3",
        "  candidates:\n    - {strategy: full fine-tuning, weight_decay: 1.0e-2}\n    - {epochs: 2}",
    ).replace("shadow_days: 14", "shadow_days: 7.5")
    changed = re.sub(r"prevalence: recal\w+", "prevalence: [recalibration, LoRA]", changed)
    after = parse_plan(changed, source="plan.yaml")
    assert _change_lines(changes_between(before, after)) == [
        "modifications.prevalence: [recalibration] → [recalibration, LoRA]",
        "training.patience: 3 → not set",
        "training.candidates: [] → [{strategy: full fine-tuning, weight_decay: 0.01}, {epochs: 2}]",
        "shadow_days: 14 → 7.5",
    ]
