"""Whatever of authority is refused on the command line is in the ledger, and nothing is changed."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bare_home import bare_home
from databases import name_home
from monitored_history import History, found
from people import add_user
from retraining_rows import MODEL, Retraining, ledger_is_valid, person
from sqlalchemy import func, select

from monitor.references import ProfileStore
from registry import identities, ledger, serving
from registry.database import Database
from registry.identities import IdentityRow, Role
from registry.ledger import LedgerEntry
from retrain import runs
from retrain.promotion import promote

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("cheap_passwords")
SITE = "site"
WHY = ("--reason", "because")
ATTEST = ("deployment", "attest", MODEL, "--digest", "e" * 64)

#: What somebody tries who may only look, and by which word it is in the ledger.
BY_A_VIEWER = [
    (("promote", f"{MODEL}@2"), "promotion.refused"),
    (("rollback", MODEL, *WHY), "rollback.refused"),
    (("rollback", MODEL, "--undo", *WHY), "rollback.refused"),
    (("rollback", MODEL, "--site", SITE, *WHY), "rollback.refused"),
    (("suspend", MODEL, *WHY), "suspension.refused"),
    (("suspend", MODEL, "--site", SITE, *WHY), "suspension.refused"),
    (("restrict", MODEL, "--subgroup", "sex=F", *WHY), "restriction.refused"),
    (("lift", MODEL, *WHY), "lift.refused"),
    (("lift", MODEL, "--site", SITE, *WHY), "lift.refused"),
    (("recall", f"{MODEL}@1", *WHY), "recall.refused"),
    (("recall", f"{MODEL}@1", "--withdraw", *WHY), "recall.refused"),
    (("deployment", "declare", MODEL, "--site", SITE), "runtime.refused"),
    (("deployment", "withdraw", MODEL, "--site", SITE, *WHY), "runtime.refused"),
    ((*ATTEST, "--site", SITE), "attestation.refused"),
    (("run", "cancel", 2, *WHY), "run.refused"),
    (("approve", 2, *WHY), "approval.refused"),
    (("reject", 2, *WHY), "approval.refused"),
    (("plan", "review", MODEL, *WHY), "review.refused"),
    (("user", "grant", "local", "approver"), "access.refused"),
    (("user", "disable", "other", *WHY), "access.refused"),
    (("token", "create", "other", "--for", "a test"), "access.refused"),
]
#: What an operator may try, and what stands in the way.
BY_AN_OPERATOR = [
    (("promote", f"{MODEL}@2"), "promotion.refused", "lacks 1 approval"),
    (("promote", f"{MODEL}@1"), "promotion.refused", "plan 2 is in force now"),
    (("rollback", MODEL, *WHY), "rollback.refused", "had no champion before"),
    (("rollback", MODEL, "--undo", *WHY), "rollback.refused", "did not come by a rollback"),
    (
        ("rollback", MODEL, "--from", f"{MODEL}@2", *WHY),
        "rollback.refused",
        f"is {MODEL}@1, not {MODEL}@2 as expected",
    ),
    (("rollback", MODEL, "--site", "nowhere", *WHY), "rollback.refused", "no scan ever came"),
    (("suspend", MODEL, "--site", "nowhere", *WHY), "suspension.refused", "no scan ever came"),
    (("lift", MODEL, *WHY), "lift.refused", "is not out of use"),
    (("recall", f"{MODEL}@1", "--withdraw", *WHY), "recall.refused", "takes the role admin"),
    ((*ATTEST, "--site", SITE), "attestation.refused", "no runtime of pneumonia was declared"),
    (("approve", 1, *WHY), "approval.refused", "only one awaiting approval"),
    (("run", "cancel", 1, *WHY), "run.refused", "promoted"),
]


@pytest.fixture
def retraining(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Retraining:
    """A model whose second version awaits approval, and the user of this machine without a role."""
    found(database)
    made = Retraining(History(database, ProfileStore(tmp_path / "profiles")))
    made.apply_plan()
    name_home(bare_home(tmp_path, database), monkeypatch)
    made.run_awaiting_approval()
    add_user(database, "other", Role.VIEWER, at=made.now)
    return made


def act_as(made: Retraining, *roles: Role) -> None:
    with made.database.transaction() as session:
        identities.bind(
            session,
            name="local",
            os_user=identities.operating_system_user(),
            roles=frozenset(roles),
            at=made.now,
        )


def entries(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.max(LedgerEntry.sequence))) or 0


def test_what_a_viewer_tries_is_refused_and_recorded(
    driftward: Run, retraining: Retraining
) -> None:
    act_as(retraining, Role.VIEWER)
    for words, kind in BY_A_VIEWER:
        before = entries(retraining.database)
        refused = driftward(*words)
        said = " ".join(refused.stderr.removeprefix("driftward: ").split())
        assert (refused.code, refused.stdout) == (1, ""), words
        with retraining.database.reading() as session:
            [entry] = ledger.entries(session, after=before)
            assert serving.require_champion(session, MODEL).number == 1
        assert (entry.kind, entry.actor) == (kind, "local"), words
        assert entry.facts["problem"] == said, words
    assert ledger_is_valid(retraining.database)


def test_what_stands_in_an_operator_s_way_is_recorded(
    driftward: Run, retraining: Retraining
) -> None:
    act_as(retraining, Role.OPERATOR, Role.APPROVER)
    for words, kind, problem in BY_AN_OPERATOR:
        before = entries(retraining.database)
        refused = driftward(*words)
        assert refused.code == 1, words
        assert problem in " ".join(refused.stderr.split()), words
        with retraining.database.reading() as session:
            [entry] = ledger.entries(session, after=before)
        assert (entry.kind, entry.actor) == (kind, "local"), words
        assert problem in entry.facts["problem"]


def test_what_is_nothing_s_name_is_not_kept(driftward: Run, retraining: Retraining) -> None:
    act_as(retraining, *Role)
    before = entries(retraining.database)
    for words in (
        ("rollback", "pnuemonia", *WHY),
        ("suspend", "pnuemonia", *WHY),
        ("promote", f"{MODEL}@99"),
        ("recall", f"{MODEL}@99", *WHY),
        ("deployment", "attest", "pnuemonia", "--digest", "e" * 64),
    ):
        assert driftward(*words).code == 1
    assert entries(retraining.database) == before


def test_a_rollback_is_given_twice_and_done_once(
    driftward: Run, retraining: Retraining
) -> None:
    act_as(retraining, *Role)
    retraining.approve(2)
    with retraining.database.transaction() as session:
        run = runs.require_run(session, 2)
        promote(session, run, by=person("Mei"), at=retraining.now)
    words = ("rollback", MODEL, "--from", f"{MODEL}@2", *WHY)
    assert driftward(*words).code == 0
    again = driftward(*words)
    assert again.code == 1
    assert f"is {MODEL}@1, not {MODEL}@2" in again.stderr
    assert "this was done" in driftward("rollback", MODEL, *WHY).stderr
    assert driftward("rollback", MODEL, "--undo", "--from", f"{MODEL}@1", *WHY).code == 0
    with retraining.database.reading() as session:
        assert serving.require_champion(session, MODEL).number == 2
        assert len(ledger.entries(session, kind="rollback.refused")) == 2


class Terminal(io.StringIO):
    """What a person types."""

    def isatty(self) -> bool:
        return True


def test_in_a_terminal_a_rollback_says_what_is_champion_and_asks(
    driftward: Run, retraining: Retraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    act_as(retraining, *Role)
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert "had no champion before" in driftward("rollback", MODEL, *WHY).stderr
    retraining.approve(2)
    with retraining.database.transaction() as session:
        run = runs.require_run(session, 2)
        promote(session, run, by=person("Mei"), at=retraining.now)
    before = entries(retraining.database)
    for said, code in (("n\n", 1), ("", 1), ("y\n", 0)):
        assert entries(retraining.database) == before
        monkeypatch.setattr(sys, "stdin", Terminal(said))
        ended = driftward("rollback", MODEL, *WHY)
        assert ended.code == code
        assert f"is {MODEL}@2: roll back to {MODEL}@1?" in ended.stderr
    with retraining.database.reading() as session:
        assert serving.require_champion(session, MODEL).number == 1


def test_a_model_is_suspended_at_one_site_and_taken_back_there(
    driftward: Run, retraining: Retraining
) -> None:
    act_as(retraining, Role.OPERATOR)
    done = driftward("suspend", MODEL, "--site", SITE, "--json", *WHY)
    assert done.document == {
        "model": MODEL,
        "kind": "suspend",
        "subgroup": f"site={SITE}",
        "site": SITE,
    }
    [everywhere, there] = driftward("deployment", "list", MODEL, "--json").document
    assert (everywhere["out_of_use"], there["out_of_use"]) == (None, "because")
    assert "is not out of use" in driftward("lift", MODEL, *WHY).stderr
    assert driftward("lift", MODEL, "--site", SITE, *WHY).code == 0
    assert len(driftward("deployment", "list", MODEL, "--json").document) == 1
    assert ledger_is_valid(retraining.database)


def test_a_disabled_user_of_the_machine_is_recorded(
    driftward: Run, retraining: Retraining
) -> None:
    act_as(retraining, *Role)
    with retraining.database.transaction() as session:
        row = session.get_one(IdentityRow, "local")
        row.disabled_at = retraining.now
        ledger.append(
            session,
            at=retraining.now,
            actor="test",
            kind="identity.disabled",
            subject="local",
            facts={},
            seals=[row],
        )
    for _ in range(2):
        refused = driftward("rollback", MODEL, *WHY)
        assert (refused.code, "was disabled" in refused.stderr) == (1, True)
    with retraining.database.reading() as session:
        [entry] = ledger.entries(session, kind="sign_in.failed")
    assert (entry.actor, entry.facts["why"]) == ("local", "disabled_user")
