"""Runs signed from the command line: by the machine's own user, and by people with tokens."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bare_home import bare_home
from databases import name_home
from monitored_history import History, found
from people import PASSWORD, add_user
from retraining_rows import MODEL, PLAN, Retraining

from monitor.references import ProfileStore
from registry import identities, ledger, serving
from registry.database import Database
from registry.identities import Role

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("cheap_passwords")

TWO = PLAN.replace("people: 1", "people: 2").replace(
    "authority: research", "authority: in-house"
)


@pytest.fixture
def retraining(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Retraining:
    """A model whose runs the command line finds, and the user of this machine."""
    found(database)
    made = Retraining(History(database, ProfileStore(tmp_path / "profiles")))
    made.apply_plan()
    name_home(bare_home(tmp_path, database), monkeypatch)
    with database.transaction() as session:
        identities.bind(
            session,
            name="local",
            os_user=identities.operating_system_user(),
            roles=frozenset(Role),
            at=made.now,
        )
    return made


def secret(folder: Path, text: str) -> Path:
    file = folder / f"secret-{len(list(folder.glob('secret-*')))}"
    file.touch(0o600)
    file.write_text(text)
    return file


def test_the_machine_s_own_user_signs_where_one_person_is_enough(
    driftward: Run, retraining: Retraining
) -> None:
    run = retraining.run_awaiting_approval()
    shown = driftward("run", "show", run, "--json").document
    assert shown["missing_approvals"] == 1
    stale = driftward("approve", run, "--reason", "gates read", "--seen", "0" * 64)
    assert stale.code == 1
    assert "no longer what you saw" in stale.stderr
    signed = driftward(
        "approve", run, "--reason", "gates read", "--seen", shown["seen"], "--json"
    )
    assert signed.document["proof"] == "operating system"
    assert signed.document["missing"] == 0
    assert driftward("promote", shown["candidate"]).code == 0


def test_two_people_sign_by_tokens_of_their_own(
    driftward: Run,
    retraining: Retraining,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    retraining.apply_plan(TWO)
    run = retraining.run_awaiting_approval()
    alone = driftward("approve", run, "--reason", "gates read")
    assert alone.code == 1
    assert "takes 2 people" in alone.stderr
    candidate = driftward("run", "show", run, "--json").document["candidate"]
    for name, left in (("mei", 1), ("ana", 0)):
        add_user(retraining.database, name, Role.APPROVER, at=retraining.now)
        # Made by an administrator: good for the command line, and no signature.
        lent = driftward("token", "create", name, "--for", "approvals", "--json").document
        with monkeypatch.context() as patched:
            patched.setenv("DRIFTWARD_TOKEN", lent["text"])
            unasked = driftward("approve", run, "--reason", "gates read")
            assert "DRIFTWARD_SIGNING_PASSWORD_FILE" in unasked.stderr
            for text, problem in (
                (lent["text"], "known to whoever made it"),
                ("not the right one", "name or password is wrong"),
            ):
                patched.setenv("DRIFTWARD_SIGNING_PASSWORD_FILE", str(secret(tmp_path, text)))
                refused = driftward("approve", run, "--reason", "gates read")
                assert (refused.code, refused.stdout) == (1, "")
                assert problem in refused.stderr
            patched.setenv("DRIFTWARD_SIGNING_PASSWORD_FILE", str(secret(tmp_path, PASSWORD)))
            signed = driftward("approve", run, "--reason", "gates read", "--json")
            assert signed.document["missing"] == left, signed.stderr
            again = driftward("approve", run, "--reason", "gates read")
            assert f"{name} has signed run {run} already" in again.stderr
    assert driftward("promote", candidate).code == 0
    with retraining.database.reading() as session:
        assert ledger.verify(session).valid
        why = [entry.facts["why"] for entry in ledger.entries(session, kind="approval.refused")]
    each = ["shared_credential", "wrong_password", "same_person"]
    # Whoever was second found the signatures complete, and their own among them.
    assert why == ["unproven", *each, *each]


def test_a_promotion_that_is_refused_is_recorded(
    driftward: Run, retraining: Retraining
) -> None:
    run = retraining.run_awaiting_approval()
    candidate = driftward("run", "show", run, "--json").document["candidate"]
    refused = driftward("promote", candidate)
    assert refused.code == 1
    assert "lacks 1 approval(s)" in refused.stderr
    with retraining.database.reading() as session:
        [entry] = ledger.entries(session, kind="promotion.refused")
    assert (entry.actor, entry.subject) == ("local", candidate)


def test_an_approval_that_expired_promotes_nothing_and_the_ledger_says_so(
    driftward: Run, retraining: Retraining
) -> None:
    run = retraining.run_awaiting_approval()
    long_ago = datetime.now(UTC) - timedelta(days=31)
    retraining.approve(run, at=long_ago)
    candidate = driftward("run", "show", run, "--json").document["candidate"]
    refused = driftward("promote", candidate)
    assert refused.code == 1
    said = f"that of Mei expired at {long_ago + timedelta(days=30):%Y-%m-%d %H:%M}"
    assert said in " ".join(refused.stderr.split())
    with retraining.database.reading() as session:
        [entry] = ledger.entries(session, kind="promotion.refused")
        assert said in entry.facts["problem"]
        assert serving.require_champion(session, MODEL).number == 1
        assert ledger.verify(session).valid


def test_a_rejection_is_a_signature(driftward: Run, retraining: Retraining) -> None:
    run = retraining.run_awaiting_approval()
    done = driftward("reject", run, "--reason", "the margin is too small", "--json")
    assert (done.document["state"], done.document["by"]) == ("rejected", "local")
    shown = driftward("run", "show", run)
    assert "rejected by local: the margin is too small" in shown.stdout
    assert os.environ.get("DRIFTWARD_TOKEN") is None
