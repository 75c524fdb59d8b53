from __future__ import annotations

from collections.abc import Callable

import pytest
from retraining_rows import MODEL, PLAN, Retraining, advance, ledger_is_valid, person, seal
from sqlalchemy.orm import Session
from tampering import unguarded

from registry.access.signing_in import Proof
from registry.errors import SignatureRefusedError
from registry.identities import Identity, Role
from registry.versions import VersionRow
from retrain import approvals, runs
from retrain.approvals import Meaning
from retrain.states import RunState
from retrain.tables import ApprovalRow, RunRow

MEI, ANA = person("Mei"), person("Ana")


def sign(
    retraining: Retraining, run: int, by: Identity, meaning: Meaning = Meaning.APPROVED
) -> ApprovalRow:
    with retraining.database.transaction() as session:
        return approvals.sign(
            session,
            runs.require_run(session, run),
            meaning,
            by=by,
            reason="seen",
            at=retraining.now,
            proof=Proof.PASSWORD,
        )


def missing(retraining: Retraining, run: int) -> int:
    with retraining.database.reading() as session:
        row = runs.require_run(session, run)
        return approvals.approval_of(session, row, at=retraining.now).missing


def test_a_signature_counts_and_is_sealed(retraining: Retraining) -> None:
    run = retraining.run_awaiting_approval()
    assert missing(retraining, run) == 1
    row = sign(retraining, run, MEI)
    assert missing(retraining, run) == 0
    assert ledger_is_valid(retraining.database)
    with unguarded(retraining.database) as session:
        session.get_one(ApprovalRow, row.id).by = "Ana"
    assert not ledger_is_valid(retraining.database)


def test_two_people_means_two_and_not_the_same_person_twice(retraining: Retraining) -> None:
    retraining.apply_plan(PLAN.replace("people: 1", "people: 2"))
    run = retraining.run_awaiting_approval()
    sign(retraining, run, MEI)
    with pytest.raises(SignatureRefusedError, match="Mei has signed run"):
        sign(retraining, run, MEI)
    assert missing(retraining, run) == 1
    sign(retraining, run, ANA)
    assert missing(retraining, run) == 0


def test_a_signature_takes_the_role_that_the_plan_names(retraining: Retraining) -> None:
    run = retraining.run_awaiting_approval()
    with pytest.raises(SignatureRefusedError, match="takes the role approver"):
        sign(retraining, run, person("Vi", Role.OPERATOR, Role.ADMIN))
    assert missing(retraining, run) == 1


def test_a_rejection_is_no_approval(retraining: Retraining) -> None:
    run = retraining.run_awaiting_approval()
    sign(retraining, run, MEI, Meaning.REJECTED)
    assert missing(retraining, run) == 1


@pytest.mark.parametrize("state", [RunState.PROMOTED, RunState.REJECTED])
def test_only_a_run_that_awaits_approval_is_signed(
    retraining: Retraining, state: RunState
) -> None:
    run = retraining.run_awaiting_approval()
    with retraining.database.transaction() as session:
        advance(session, runs.require_run(session, run), state, retraining.now)
    with pytest.raises(SignatureRefusedError, match="only one awaiting approval is signed"):
        sign(retraining, run, MEI)


def edit_outcome(session: Session, run: RunRow) -> None:
    gate = runs.gate_outcomes(session, run.id)[0]
    gate.outcome = "failed"
    seal(session, "test", gate)


def edit_detail(session: Session, run: RunRow) -> None:
    gate = runs.gate_outcomes(session, run.id)[0]
    gate.detail = {"estimate": 0.91}
    seal(session, "test", gate)


def remove_gate(session: Session, run: RunRow) -> None:
    session.delete(runs.gate_outcomes(session, run.id)[0])


def swap_candidate(session: Session, run: RunRow) -> None:
    candidate = session.get_one(VersionRow, run.candidate)
    candidate.bundle_digest = "another bundle"
    seal(session, "test", candidate)


def compare_with_another(session: Session, run: RunRow) -> None:
    run.champion_before = run.candidate
    seal(session, "test", run)


@pytest.mark.parametrize(
    "edit", [edit_outcome, edit_detail, remove_gate, swap_candidate, compare_with_another]
)
def test_a_signature_is_bound_to_what_was_seen(
    retraining: Retraining, edit: Callable[[Session, RunRow], None]
) -> None:
    run = retraining.run_awaiting_approval()
    sign(retraining, run, MEI)
    assert missing(retraining, run) == 0
    with unguarded(retraining.database) as session:
        edit(session, runs.require_run(session, run))
    assert missing(retraining, run) == 1


def test_what_is_seen_of_two_runs_differs(retraining: Retraining) -> None:
    first, second = retraining.run_awaiting_approval(), retraining.run_awaiting_approval()
    with retraining.database.reading() as session:
        seen = {
            approvals.approval_of(session, row, at=retraining.now).seen
            for row in runs.all_runs(session, MODEL)
            if row.id in {first, second}
        }
    assert len(seen) == 2
