"""What somebody tries who wants a run promoted with fewer people than the plan asks for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from people import ADMIN, add_user, disable, make_token
from retraining_rows import Retraining, seal
from signing_desk import TWO, Desk, two_people_sign
from sqlalchemy import select
from tampering import unguarded

from monitor.tables import ScanRow
from registry.access import tokens, users
from registry.access.signing_in import Proof
from registry.errors import GateRefusedError, PlanRefusedError, SignatureRefusedError
from registry.identities import Role, require_row
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.tables import RunRow

pytestmark = pytest.mark.usefixtures("cheap_passwords")


@pytest.fixture
def desk(retraining: Retraining) -> Desk:
    return two_people_sign(retraining)


def test_a_signature_counts_no_more_once_the_role_is_gone(desk: Desk) -> None:
    desk.sign("mei")
    desk.sign("ana")
    with desk.database.transaction() as session:
        users.revoke(
            session, "mei", [Role.APPROVER], sites=[], reason="moved", by=ADMIN, at=desk.now
        )
    with pytest.raises(PlanRefusedError, match="mei is of one who is no approver any more"):
        desk.promote()


def test_a_site_that_sends_for_the_first_time_takes_a_signature_that_covers_it(
    desk: Desk,
) -> None:
    with desk.database.reading() as session:
        sites = sorted(set(session.scalars(select(ScanRow.site))))
    add_user(desk.database, "all", Role.APPROVER, sites=sites, at=desk.now)
    desk.sign("all")
    desk.sign("mei")
    desk.retraining.history.add(1, at=desk.now, site="new site")
    with pytest.raises(PlanRefusedError, match="all is of one who may not sign for every site"):
        desk.promote()


def test_a_clock_that_is_set_back_makes_no_signature_young_again(desk: Desk) -> None:
    desk.sign("mei")
    desk.sign("ana")
    signed = desk.now
    desk.retraining.clock.at += timedelta(days=30)
    with pytest.raises(PlanRefusedError, match="mei expired at"):
        desk.promote()
    desk.retraining.clock.at = signed
    with pytest.raises(PlanRefusedError, match="mei expired at"):
        desk.promote()


def test_a_role_that_is_revoked_while_somebody_signs_signs_nothing(desk: Desk) -> None:
    before = desk.person("mei")
    with desk.database.transaction() as session:
        users.revoke(
            session, "mei", [Role.APPROVER], sites=[], reason="moved", by=ADMIN, at=desk.now
        )
    with (
        pytest.raises(SignatureRefusedError, match="takes the role approver"),
        desk.database.transaction() as session,
    ):
        run = runs.require_run(session, desk.run)
        approvals.sign(
            session,
            run,
            Meaning.APPROVED,
            by=before,
            reason="read",
            at=desk.now,
            proof=Proof.PASSWORD,
        )


def test_one_person_with_two_tokens_is_one_person(desk: Desk) -> None:
    first, second = (make_token(desk.database, "mei", at=desk.now) for _ in range(2))
    assert desk.sign("mei", first).missing == 1
    with pytest.raises(SignatureRefusedError, match="has signed run"):
        desk.sign("mei", second)
    assert desk.refusals() == [("mei", "same_person")]


def test_a_token_that_is_revoked_between_two_signatures_voids_the_first(desk: Desk) -> None:
    text = make_token(desk.database, "mei", at=desk.now)
    desk.sign("mei", text)
    with desk.database.transaction() as session:
        by = desk.person("mei")
        tokens.revoke(session, text.split("_")[1], reason="lost", by=by, at=desk.now)
    assert desk.sign("ana").missing == 1
    with pytest.raises(PlanRefusedError, match="mei was given with a token that was revoked"):
        desk.promote()
    # The same person signs anew, by what is theirs still.
    assert desk.sign("mei").missing == 0
    desk.promote()


def test_who_started_a_run_and_was_disabled_since_has_still_started_it(desk: Desk) -> None:
    add_user(desk.database, "test", Role.APPROVER, at=desk.now)
    disable(desk.database, "test", at=desk.now)
    with desk.database.transaction() as session:
        users.enable(session, "test", reason="back", by=ADMIN, at=desk.now)
        row = require_row(session, "test")
        row.full_name = "Somebody Else"
        seal(session, "test", row)
    with pytest.raises(SignatureRefusedError, match="test started run"):
        desk.sign("test")


def test_approvals_of_one_run_are_worth_nothing_to_another_of_the_same_digests(
    desk: Desk,
) -> None:
    desk.sign("mei")
    desk.sign("ana")
    with unguarded(desk.database) as session:
        first = runs.require_run(session, desk.run)
        twin = RunRow(
            **{
                column.key: getattr(first, column.key)
                for column in RunRow.__mapper__.column_attrs
                if column.key != "id"
            }
        )
        session.add(twin)
        session.flush()
        # By SQL: the signatures, the gates and the beginning of the one, for the other.
        for row in [
            *approvals.signatures(session, first.id),
            *runs.gate_outcomes(session, first.id),
        ]:
            table = type(row)
            session.add(
                table(
                    **{
                        column.key: getattr(row, column.key)
                        for column in table.__mapper__.column_attrs
                        if column.key not in {"id", "run"}
                    },
                    run=twin.id,
                )
            )
        session.flush()
        desk.run = twin.id
    with pytest.raises(GateRefusedError, match="not as the ledger sealed them"):
        desk.promote()
    with desk.database.reading() as session:
        found = approvals.approval_of(session, runs.require_run(session, desk.run), at=desk.now)
    assert found.missing == 2
    assert {one.why_not for one in found.standings} == {
        "is not as the ledger sealed it: `driftward audit verify`"
    }


def test_a_plan_that_was_another_in_between_takes_a_new_run(desk: Desk) -> None:
    desk.sign("mei")
    desk.sign("ana")
    desk.retraining.apply_plan(f"{TWO}\n# another\n")
    desk.retraining.apply_plan(TWO)
    with pytest.raises(PlanRefusedError, match="plan 5 is in force now: start a new run"):
        desk.promote()
    with pytest.raises(SignatureRefusedError, match="plan 5 is in force now"):
        desk.sign("olu")


def test_who_approved_may_still_reject(desk: Desk) -> None:
    desk.sign("mei")
    desk.sign("mei", meaning=Meaning.REJECTED, reason="I saw the wrong figure")
    with desk.database.reading() as session:
        row = runs.require_run(session, desk.run)
        assert (row.state, row.note) == ("rejected", "I saw the wrong figure")
    with pytest.raises(PlanRefusedError):
        desk.promote()
