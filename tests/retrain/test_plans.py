from __future__ import annotations

from datetime import datetime
from importlib.resources import files

import pytest

from registry.database import Database
from registry.errors import NotFoundError, PlanError
from retrain.plans import Authority, apply_plan, in_force, parse_plan, require_plan

TEXT = (files("api.demo") / "configuration" / "plan.yaml").read_text(encoding="utf-8")


def test_the_demo_s_plan_is_valid_and_says_on_whose_authority() -> None:
    assert parse_plan(TEXT, source="plan.yaml").authority is Authority.RESEARCH


def test_a_plan_without_an_authority_gives_none() -> None:
    text = TEXT.replace("authority: research\n", "")
    assert parse_plan(text, source="plan.yaml").authority is Authority.NONE


def test_a_pccp_without_its_number_is_refused() -> None:
    text = TEXT.replace("authority: research", "authority: pccp")
    with pytest.raises(PlanError, match="authority_number"):
        parse_plan(text, source="plan.yaml")


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("autonomy: act", "autonomy: rampage", "autonomy"),
        ("  at_least: 300", "  at_least: many", "labels.at_least"),
        ("shadow_days: 0", "shadow_days: 0\nsurprise: 1", "surprise"),
        ("  people: 1", "  people: 0", "approval.people"),
        ("    superiority_alpha: 0.025", "    superiority_alhpa: 0.025", "superiority_alhpa"),
        ("  acquisition: full fine-tuning", "  aquisition: full fine-tuning", "aquisition"),
    ],
)
def test_an_error_names_file_line_and_key(before: str, after: str, key: str) -> None:
    assert before in TEXT
    text = TEXT.replace(before, after)
    wrong = after.rsplit("\n", maxsplit=1)[-1].strip().split(":")[0]
    line = 1 + next(
        n for n, row in enumerate(text.split("\n")) if row.strip().startswith(wrong)
    )
    with pytest.raises(PlanError) as error:
        parse_plan(text, source="plan.yaml")
    assert any(
        message.startswith(f"plan.yaml:{line}:") and key in message
        for message in str(error.value).split("\n")
    ), str(error.value)


def test_text_that_is_not_yaml_is_named_with_its_line() -> None:
    with pytest.raises(PlanError, match=r"plan.yaml:2: not YAML"):
        parse_plan("model: [\nauthority: }", source="plan.yaml")


def test_plans_are_numbered_and_the_same_text_is_applied_once(
    database: Database, now: datetime
) -> None:
    with database.transaction() as session:
        first = apply_plan(session, TEXT, source="p", actor="test", at=now)
        again = apply_plan(session, TEXT, source="p", actor="test", at=now)
        second = apply_plan(session, f"{TEXT}\n# reviewed", source="p", actor="test", at=now)
        assert (first.number, again.number, second.number) == (1, 1, 2)
        found = in_force(session, "pneumonia-cxr")
        assert found is not None
        assert found.digest == second.digest


def test_a_model_without_a_plan_is_locked(database: Database) -> None:
    with database.reading() as session, pytest.raises(NotFoundError, match="it is locked"):
        require_plan(session, "pneumonia-cxr")
