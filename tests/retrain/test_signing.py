"""Who may sign a run, by what, and that every refusal stands in the ledger with its reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from people import ADMIN, PASSWORD, add_user, disable, make_token
from retraining_rows import MODEL, Retraining, ledger_is_valid, seal
from signing_desk import TWO, Desk, two_people_sign
from sqlalchemy import select
from tampering import unguarded

from monitor.tables import ScanRow
from registry import ledger, serving
from registry.access import tokens, users
from registry.access.attempts import MOST_PER_NAME
from registry.errors import (
    BadInputError,
    NotFoundError,
    PlanRefusedError,
    RefusedError,
    SignatureRefusedError,
    TooManyAttemptsError,
)
from registry.identities import Role, require_row
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.signing import Signed
from retrain.states import RunState
from retrain.tables import ApprovalRow

pytestmark = pytest.mark.usefixtures("cheap_passwords")


@pytest.fixture
def desk(retraining: Retraining) -> Desk:
    return two_people_sign(retraining)


def test_two_people_sign_and_it_is_promoted(desk: Desk) -> None:
    token = make_token(desk.database, "ana", at=desk.now)
    assert desk.sign("mei", seen=desk.seen()).missing == 1
    signed = desk.sign("ana", token)
    assert signed.missing == 0
    row = signed.signature
    assert (row.printed_name, row.meaning, row.proof) == ("ana", "approved", "token")
    assert row.expires_at == desk.now + timedelta(days=30)
    assert set(row.parts) == {
        *("candidate", "champion", "gates", "shadow", "plan", "evidence"),
    }
    with desk.database.reading() as session:
        [first, _] = ledger.entries(session, kind="approval.approved")
        assert first.facts["printed_name"] == "mei"
        assert PASSWORD not in repr(ledger.entries(session))
        assert token not in repr(ledger.entries(session))
    desk.promote()
    with desk.database.reading() as session:
        assert runs.require_run(session, desk.run).state == RunState.PROMOTED
    assert desk.refusals() == []
    assert ledger_is_valid(desk.database)


def the_same_person_twice(desk: Desk) -> None:
    desk.sign("mei")
    desk.sign("mei")


def the_starter(desk: Desk) -> None:
    # The run's own entry names who started it: `test`, as its builder says.
    add_user(desk.database, "test", Role.APPROVER, at=desk.now)
    desk.sign("test")


def another_digest(desk: Desk) -> None:
    seen = desk.seen()
    with unguarded(desk.database) as session:
        gate = runs.gate_outcomes(session, desk.run)[0]
        gate.detail = {"estimate": 0.91}
        seal(session, "test", gate)
    desk.sign("mei", seen=seen)


def a_revoked_token(desk: Desk) -> None:
    text = make_token(desk.database, "mei", at=desk.now)
    with desk.database.transaction() as session:
        tokens.revoke(
            session, text.split("_")[1], reason="lost", by=desk.person("mei"), at=desk.now
        )
    desk.sign("mei", text)


def an_expired_token(desk: Desk) -> None:
    desk.sign("mei", make_token(desk.database, "mei", at=desk.now - timedelta(days=31)))


def another_s_token(desk: Desk) -> None:
    desk.sign("mei", make_token(desk.database, "ana", at=desk.now))


def a_token_that_an_administrator_made(desk: Desk) -> None:
    desk.sign("mei", make_token(desk.database, "mei", at=desk.now, by=ADMIN))


def a_first_password(desk: Desk) -> None:
    with desk.database.transaction() as session:
        row = require_row(session, "mei")
        users.set_password(session, row, "chosen by an admin", by=ADMIN, at=desk.now)
    desk.sign("mei", "chosen by an admin")


def a_wrong_password(desk: Desk) -> None:
    desk.sign("mei", "not the right one")


def nothing_shown_by_one_who_is_signed_in(desk: Desk) -> None:
    desk.sign("mei", None)


def nothing_shown_by_one_who_has_a_password(desk: Desk) -> None:
    desk.sign("mei", None, local=True)


def nothing_shown_where_two_people_sign(desk: Desk) -> None:
    add_user(desk.database, "local", Role.APPROVER, at=desk.now, password=None)
    desk.sign("local", None, local=True)


def a_wrong_site(desk: Desk) -> None:
    add_user(desk.database, "north", Role.APPROVER, sites=["north"], at=desk.now)
    desk.sign("north")


def no_role(desk: Desk) -> None:
    add_user(desk.database, "op", Role.OPERATOR, Role.ADMIN, at=desk.now)
    desk.sign("op")


def a_plan_that_changed(desk: Desk) -> None:
    desk.retraining.apply_plan(f"{TWO}\n# reviewed\n")
    desk.sign("mei")


def a_disabled_user(desk: Desk) -> None:
    disable(desk.database, "mei", at=desk.now)
    desk.sign("mei")


def a_run_that_has_ended(desk: Desk) -> None:
    desk.sign("mei", meaning=Meaning.REJECTED)
    desk.sign("ana")


#: What is tried, by whom, and why it is refused.
REFUSED = [
    (the_same_person_twice, "mei", "same_person"),
    (the_starter, "test", "starter"),
    (another_digest, "mei", "changed"),
    (a_revoked_token, "mei", "revoked_token"),
    (an_expired_token, "mei", "expired_token"),
    (another_s_token, "mei", "another_person"),
    (a_token_that_an_administrator_made, "mei", "shared_credential"),
    (a_first_password, "mei", "shared_credential"),
    (a_wrong_password, "mei", "wrong_password"),
    (nothing_shown_by_one_who_is_signed_in, "mei", "unproven"),
    (nothing_shown_by_one_who_has_a_password, "mei", "unproven"),
    (nothing_shown_where_two_people_sign, "local", "unproven"),
    (a_wrong_site, "north", "site"),
    (no_role, "op", "role"),
    (a_plan_that_changed, "mei", "plan_changed"),
    (a_disabled_user, "mei", "disabled_user"),
    (a_run_that_has_ended, "ana", "state"),
]
#: A rejection ends the run: nobody comes second.
ONCE = {the_same_person_twice, a_run_that_has_ended}


@pytest.mark.parametrize(
    ("attempt", "who", "why", "meaning"),
    [
        (*row, meaning)
        for row in REFUSED
        for meaning in Meaning
        if meaning is Meaning.APPROVED or row[0] not in ONCE
    ],
)
def test_what_is_refused_says_why_and_is_recorded(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    attempt: Callable[[Desk], None],
    who: str,
    why: str,
    meaning: Meaning,
) -> None:
    if meaning is Meaning.REJECTED:
        signs = desk.sign

        def reject(*arguments: object, **named: object) -> Signed:
            return signs(*arguments, **{**named, "meaning": meaning})  # type: ignore[arg-type]

        monkeypatch.setattr(desk, "sign", reject)
    with pytest.raises(SignatureRefusedError) as refused:
        attempt(desk)
    assert refused.value.why == why
    assert desk.refusals() == [(who, why)]
    with desk.database.reading() as session:
        [entry] = ledger.entries(session, kind="approval.refused")
        assert entry.facts["problem"] == str(refused.value)
        given = [row.by for row in approvals.signatures(session, desk.run)]
    assert who not in given or why == "same_person"
    assert ledger_is_valid(desk.database)


def test_an_approval_expires(desk: Desk) -> None:
    desk.sign("mei")
    desk.sign("ana")
    desk.retraining.clock.at += timedelta(days=30)
    with pytest.raises(PlanRefusedError, match=r"lacks 2 approval.*that of mei expired at"):
        desk.promote()
    assert desk.refusals("promotion.refused") == [("admin", "PlanRefusedError")]
    desk.sign("mei")  # once more, since the first no longer counts
    desk.sign("olu")
    desk.promote()


def test_the_plan_says_after_how_many_days(desk: Desk) -> None:
    desk.retraining.apply_plan(TWO.replace("people: 2", "people: 2\n  expires_days: 2"))
    desk.run = desk.retraining.run_awaiting_approval()
    assert desk.sign("mei").signature.expires_at == desk.now + timedelta(days=2)


def test_what_changed_after_the_signature_is_named_at_promotion(desk: Desk) -> None:
    desk.sign("mei")
    desk.sign("ana")
    with desk.database.transaction() as session:
        row = runs.require_run(session, desk.run)
        row.settings = {**row.settings, "epochs": 900}
        seal(session, "test", row)
    with pytest.raises(PlanRefusedError, match="that of mei saw other evidence"):
        desk.promote()


def test_signatures_of_one_who_was_disabled_or_by_a_revoked_token_count_no_more(
    desk: Desk,
) -> None:
    text = make_token(desk.database, "ana", at=desk.now)
    desk.sign("mei")
    desk.sign("ana", text)
    disable(desk.database, "mei", at=desk.now)
    with desk.database.transaction() as session:
        tokens.revoke(
            session, text.split("_")[1], reason="lost", by=desk.person("ana"), at=desk.now
        )
    with pytest.raises(PlanRefusedError, match=r"mei is of a user who was disabled.*ana was"):
        desk.promote()


def test_a_rejection_by_one_person_ends_the_run(desk: Desk) -> None:
    desk.sign("mei")
    signed = desk.sign("ana", meaning=Meaning.REJECTED, reason="the margin is too small")
    assert signed.signature.meaning == "rejected"
    with desk.database.reading() as session:
        row = runs.require_run(session, desk.run)
        assert (row.state, row.note) == ("rejected", "the margin is too small")


def test_who_has_the_role_for_every_site_that_sends_may_sign(desk: Desk) -> None:
    with desk.database.reading() as session:
        sites = sorted(set(session.scalars(select(ScanRow.site))))
        champion = serving.require_champion(session, MODEL)
    assert sites
    assert champion
    add_user(desk.database, "all", Role.APPROVER, sites=sites, at=desk.now)
    assert desk.sign("all").missing == 1


def test_one_person_without_a_password_is_enough_where_the_plan_asks_for_one(
    retraining: Retraining,
) -> None:
    add_user(retraining.database, "local", Role.APPROVER, at=retraining.now, password=None)
    desk = Desk(retraining, retraining.run_awaiting_approval())
    assert desk.sign("local", None, local=True).missing == 0


def test_under_research_the_starter_may_sign(retraining: Retraining) -> None:
    add_user(retraining.database, "test", Role.APPROVER, at=retraining.now)
    desk = Desk(retraining, retraining.run_awaiting_approval())
    assert desk.sign("test").missing == 0


def test_guesses_at_a_signature_close_the_name(desk: Desk) -> None:
    for _ in range(MOST_PER_NAME):
        with pytest.raises(SignatureRefusedError):
            desk.sign("mei", "not the right one")
    with pytest.raises(TooManyAttemptsError):
        desk.sign("mei")
    assert desk.refusals()[-1] == ("mei", "TooManyAttemptsError")


def test_a_signature_takes_a_reason_and_a_run(desk: Desk) -> None:
    with pytest.raises(BadInputError, match="say why"):
        desk.sign("mei", reason="  ")
    desk.run = 4711
    with pytest.raises(NotFoundError):
        desk.sign("mei")
    assert desk.refusals() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("by", "ana"),
        ("expires_at", None),
        ("proof", "password"),
        ("printed_name", "The Head of Radiology"),
        ("parts", {}),
    ],
)
def test_an_edited_signature_is_found(desk: Desk, column: str, value: object) -> None:
    number = desk.sign("mei", make_token(desk.database, "mei", at=desk.now)).signature.id
    assert ledger_is_valid(desk.database)
    with unguarded(desk.database) as session:
        setattr(session.get_one(ApprovalRow, number), column, value)
    assert not ledger_is_valid(desk.database)


def test_a_refusal_changes_nothing_but_the_ledger(desk: Desk) -> None:
    with pytest.raises(RefusedError):
        a_wrong_site(desk)
    with desk.database.reading() as session:
        assert approvals.signatures(session, desk.run) == []
        assert runs.require_run(session, desk.run).state == RunState.AWAITING_APPROVAL
