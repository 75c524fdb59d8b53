from __future__ import annotations

import re
from datetime import datetime

import pytest
from plan_texts import one_site_plan
from sqlalchemy import select

from monitor.episodes.causes import Cause
from registry import ledger
from registry.database import Database
from registry.errors import NotFoundError, NotPermittedError, PlanError
from registry.identities import Identity, Role
from registry.ledger import LedgerEntry
from retrain import plans
from retrain.change_plan import (
    Authority,
    Plan,
    Strategy,
    attempts,
    labels_train,
    parse_plan,
)
from retrain.plans import apply_file, apply_plan, in_force, require_plan
from retrain.workspace import Attempt

ADAPTING = Strategy.SELF_SUPERVISED.value
TEXT = one_site_plan()


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
        ("  at_least: 300", "  at_least: 100", "no candidate could ever pass"),
        ("  locked_share: 0.45", "  locked_share: 0.9", "leaves no patient to train on"),
        ("  provenance: [dataset]", "  provenance: [hearsay]", "labels.provenance"),
        (
            "  replay_ratio: 1.5",
            "  replay_ratio: 1.5\n  candidates: [{strategy: LoRA}]",
            "training.candidates",
        ),
        ("  days_between_promotions: 7", "  days_between_promotions: -1", "limits.days"),
        # A number is written as one.
        ("  at_least: 300", '  at_least: "300"', "labels.at_least: '300' was read as 300"),
        ("  people: 1", "  people: true", "approval.people: True was read as 1"),
        (
            "    superiority_alpha: 0.025",
            '    superiority_alpha: "0.025"',
            "gates.limits.superiority_alpha",
        ),
        (
            "authority: research\n",
            "authority: research\nauthority_number: K1\n",
            "authority_number: a number is of an authorised plan",
        ),
    ],
)
def test_an_error_names_file_line_and_key(before: str, after: str, key: str) -> None:
    assert before in TEXT
    text = TEXT.replace(before, after)
    wrong = after.strip().rsplit("\n", maxsplit=1)[-1].strip().split(":")[0]
    line = 1 + next(
        n for n, row in enumerate(text.split("\n")) if row.strip().startswith(wrong)
    )
    with pytest.raises(PlanError) as error:
        parse_plan(text, source="plan.yaml")
    assert any(
        message.startswith(f"plan.yaml:{line}:") and key in message
        for message in str(error.value).split("\n")
    ), str(error.value)


def test_a_limit_that_is_none_is_named_with_its_line() -> None:
    text = re.sub(r"(non_inferiority_alpha: )[0-9.]+", r"\g<1>0.9", TEXT)
    assert text != TEXT
    with pytest.raises(PlanError, match=r"^plan.yaml:\d+: gates.limits: .*0.9"):
        parse_plan(text, source="plan.yaml")


def test_a_plan_in_force_stays_readable_where_the_rules_became_stricter() -> None:
    text = TEXT.replace("  at_least: 300", '  at_least: "300"')
    assert parse_plan(text, source="plan 1", applied=True).labels.at_least == 300
    with pytest.raises(PlanError):
        parse_plan(text, source="plan.yaml")


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


ADMIN = Identity(name="Ada", roles=frozenset({Role.ADMIN}))


def test_a_plan_that_is_applied_says_what_it_changes(database: Database, now: datetime) -> None:
    _, first = apply_file(database, TEXT.encode(), source="plan.yaml", by=ADMIN, at=now)
    stricter = TEXT.replace("  people: 1", "  people: 2").replace(
        "acquisition: full fine-tuning", "acquisition: [recalibration, full fine-tuning]"
    )
    applied, changes = apply_file(
        database, stricter.encode(), source="plan.yaml", by=ADMIN, at=now
    )
    assert applied.number == 2
    assert {change.key for change in first} >= {"model", "authority", "approval.people"}
    assert [(change.key, change.before, change.after) for change in changes] == [
        (
            "modifications.acquisition",
            ["full fine-tuning"],
            ["recalibration", "full fine-tuning"],
        ),
        ("approval.people", 1, 2),
    ]


@pytest.mark.parametrize(
    ("content", "by", "error"),
    [
        (TEXT.replace("autonomy: act", "autonomy: rampage").encode(), ADMIN, PlanError),
        (f"{TEXT}# gr\xfcn\n".encode("latin-1"), ADMIN, PlanError),
        (
            TEXT.encode(),
            Identity(name="Ola", roles=frozenset({Role.OPERATOR})),
            NotPermittedError,
        ),
    ],
)
def test_a_refused_plan_changes_nothing_and_is_recorded(
    database: Database, now: datetime, content: bytes, by: Identity, error: type[Exception]
) -> None:
    with pytest.raises(error):
        apply_file(database, content, source="plan.yaml", by=by, at=now)
    with database.reading() as session:
        assert in_force(session, "pneumonia-cxr") is None
        entry = session.scalars(select(LedgerEntry)).one()
    assert (entry.kind, entry.actor) == ("plan.refused", by.name)


def test_others_can_write_while_a_plan_is_read(
    database: Database, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def read(text: str, *, source: str, applied: bool = False) -> Plan:
        with database.transaction() as session:
            ledger.append(session, at=now, actor="test", kind="test", subject="x", facts={})
        written.append(source)
        return parse_plan(text, source=source, applied=applied)

    monkeypatch.setattr(plans, "parse_plan", read)
    apply_file(database, TEXT.encode(), source="plan.yaml", by=ADMIN, at=now)
    assert written == ["plan.yaml"]


@pytest.mark.parametrize(
    ("written", "permitted"),
    [
        ("LoRA", (Strategy.LORA,)),
        ("[recalibration, LoRA]", (Strategy.RECALIBRATION, Strategy.LORA)),
        ("none", ()),
        ("[]", ()),
    ],
)
def test_a_cause_permits_one_strategy_several_or_none(
    written: str, permitted: tuple[Strategy, ...]
) -> None:
    text = TEXT.replace("acquisition: full fine-tuning", f"acquisition: {written}")
    assert parse_plan(text, source="plan.yaml").permitted(Cause.ACQUISITION) == permitted


def test_limits_that_are_left_out_are_narrow() -> None:
    start, end = TEXT.index("limits:\n  days_between"), TEXT.index("approval:")
    plan = parse_plan(TEXT[:start] + TEXT[end:], source="plan.yaml")
    assert plan.limits.days_between_promotions == 30
    assert (plan.stop_rules.rollbacks, plan.stop_rules.unsuccessful_runs) == (1, 2)


def test_a_run_tries_each_strategy_by_each_candidate_that_is_not_another_s() -> None:
    text = TEXT.replace(
        "  replay_ratio: 1.5",
        "  replay_ratio: 1.5\n"
        "  candidates: [{encoder_rate: 1.0e-4}, {strategy: LoRA, lora_rank: 4}]",
    )
    training = parse_plan(text, source="plan.yaml").training
    tried = attempts(training, [Strategy.LORA, Strategy.FULL])
    assert [(strategy, rules.encoder_rate, rules.lora_rank) for strategy, rules in tried] == [
        (Strategy.LORA, 1e-4, 8),
        (Strategy.LORA, training.encoder_rate, 4),
        (Strategy.FULL, 1e-4, 8),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("  required:\n", "  people_decide: [parity]\n  required:\n"),
            "parity must be shown, and cannot be left to people",
        ),
        (
            ("    latency_ratio: 2\n", ""),
            "latency_ratio is missing, and the gate latency_and_size",
        ),
    ],
)
def test_gates_that_cannot_be_held_are_refused_with_their_line(
    change: tuple[str, str], message: str
) -> None:
    assert change[0] in TEXT
    text = TEXT.replace("  required:\n", "  required:\n    - latency_and_size\n", 1)
    with pytest.raises(PlanError, match=rf"plan\.yaml:\d+: .*{message}"):
        parse_plan(text.replace(*change), source="plan.yaml")


#: What a candidate may say, each another value than the demo's plan or the defaults have.
OVERRIDES = {
    "epochs": 3,
    "batch_size": 64,
    "encoder_rate": 1e-5,
    "head_rate": 1e-4,
    "weight_decay": 0.01,
    "frozen_share": 0.9,
    "layer_decay": 0.7,
    "lora_rank": 4,
    "lora_alpha": 4.0,
    "lora_layers": "all",
    "adaptation_epochs": 9,
    "patience": 2,
}


def test_a_candidate_overrides_whatever_a_small_search_varies_and_keeps_the_rest() -> None:
    candidate = ", ".join(f"{key}: {value}" for key, value in OVERRIDES.items())
    text = TEXT.replace(
        "  replay_ratio: 1.5", f"  replay_ratio: 1.5\n  candidates: [{{}}, {{{candidate}}}]"
    )
    training = parse_plan(text, source="plan.yaml").training
    plain, changed = (rules for _, rules in attempts(training, [Strategy.FULL]))
    assert plain == training
    assert changed.model_dump(include=set(OVERRIDES), mode="json") == OVERRIDES
    kept = set(type(training).model_fields) - set(OVERRIDES)
    assert kept == {"replay_ratio", "mixed_precision", "candidates"}
    assert changed.model_dump(include=kept) == training.model_dump(include=kept)
    tried = Attempt.of(Strategy.LORA, changed)
    assert {key: getattr(tried, key) for key in OVERRIDES} == OVERRIDES


def test_adapting_without_labels_asks_for_a_reference_to_hold_on_to() -> None:
    text = TEXT.replace("acquisition: full fine-tuning", f"acquisition: {ADAPTING}").replace(
        "replay_ratio: 1.5", "replay_ratio: 0"
    )
    line = 1 + text.split("\n").index("  replay_ratio: 0")
    with pytest.raises(PlanError, match=f"plan.yaml:{line}: training.replay_ratio: 0 leaves"):
        parse_plan(text, source="plan.yaml")


@pytest.mark.parametrize(
    ("strategies", "needed"),
    [
        ((Strategy.SELF_SUPERVISED,), 180),  # .45 to judge and .15 to choose by
        ((Strategy.SELF_SUPERVISED, Strategy.FULL), 300),
        ((Strategy.RECALIBRATION,), 300),
    ],
)
def test_a_run_that_can_learn_from_no_label_waits_for_those_that_judge_and_choose(
    strategies: tuple[Strategy, ...], needed: int
) -> None:
    rules = parse_plan(TEXT, source="plan.yaml").labels
    assert rules.needed(labels_train=labels_train(strategies)) == needed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("    - label_provenance\n", ""), r"gates.required: lacks label_provenance"),
        (("    - no_patient_on_both_sides\n", ""), r"lacks no_patient_on_both_sides"),
        (("  role: approver", "  role: viewer"), r"approval.role: viewer signs nothing"),
        (
            ("declared: []", "declared: [{attribute: eyecolor, value: blue}]"),
            "eyecolor is no attribute of a scan",
        ),
        (
            ("autonomy: act", "autonomy: act\nautonomy: observe"),
            r"plan.yaml:\d+: autonomy: stands",
        ),
    ],
)
def test_an_unsound_plan_is_refused_and_recorded(
    database: Database, now: datetime, change: tuple[str, str], message: str
) -> None:
    assert change[0] in TEXT
    with pytest.raises(PlanError, match=message):
        apply_file(
            database, TEXT.replace(*change).encode(), source="plan.yaml", by=ADMIN, at=now
        )
    with database.reading() as session:
        assert in_force(session, "pneumonia-cxr") is None
        assert [entry.kind for entry in session.scalars(select(LedgerEntry))] == [
            "plan.refused"
        ]
