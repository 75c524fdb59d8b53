"""Users and tokens from the command line, and the command line under a token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api.cli.conftest import Run

PASSWORD = "seven blue kettles sing"


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file from which new passwords are read."""
    file = tmp_path / "secret"
    file.touch(0o600)
    file.write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("DRIFTWARD_NEW_PASSWORD_FILE", str(file))
    return file


def test_a_user_from_the_first_day_to_the_last(
    driftward: Run, home: Path, secret: Path
) -> None:
    added = driftward(
        *("user", "add", "mei", "--full-name", "Mei Tanaka"),
        *("--role", "operator", "--site", "north", "--json"),
    )
    assert added.document["site_roles"] == {"operator": ["north"]}
    assert added.document["known_by"] == ["first password"]
    assert driftward("user", "grant", "mei", "approver", "viewer").stdout == (
        "mei: approver, viewer, operator for north\n"
    )
    driftward("user", "revoke", "mei", "viewer", "--reason", "not needed")
    shown = driftward("user", "show", "mei", "--json").document
    assert [change["kind"] for change in shown["changes"]] == [
        *("identity.added", "identity.password_set", "identity.granted"),
        *("identity.granted", "identity.revoked"),
    ]
    assert "mei" in driftward("user", "list").stdout
    assert driftward("user", "disable", "mei", "--reason", "left").code == 0
    listed = {one["name"]: one for one in driftward("user", "list", "--json").document}
    assert listed["mei"]["disabled_at"]
    assert driftward("user", "enable", "mei", "--reason", "back").code == 0
    assert driftward("audit", "verify").code == 0


def test_a_token_acts_as_its_user_and_ends_when_revoked(
    driftward: Run, home: Path, secret: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driftward("user", "add", "router", "--no-password", "--role", "operator")
    made = driftward("token", "create", "router", "--for", "the router", "--json").document
    [listed] = driftward("token", "list", "router", "--json").document
    assert (listed["state"], listed["purpose"]) == ("valid", "the router")
    assert made["text"] not in driftward("token", "list").stdout
    kept = tmp_path / "token"
    kept.touch(0o600)
    kept.write_text(made["text"])
    for variable, value in (
        ("DRIFTWARD_TOKEN", made["text"]),
        ("DRIFTWARD_TOKEN_FILE", str(kept)),
    ):
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            refused = driftward("user", "add", "x", "--no-password")
        assert refused.code == 1
        assert "router may not add a user: it takes the role admin" in refused.stderr
    driftward("token", "revoke", made["token"], "--reason", "lost")
    monkeypatch.setenv("DRIFTWARD_TOKEN", made["text"])
    refused = driftward("run", "cancel", 1, "--reason", "late")
    assert (refused.code, refused.stdout) == (1, "")
    assert f"the token {made['token']} was revoked" in refused.stderr
    assert made["text"] not in refused.stderr


def test_one_s_own_password_is_replaced_by_showing_it(
    driftward: Run, home: Path, secret: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert driftward("user", "password").code == 0
    secret.write_text("eight green kettles hum\n")
    unasked = driftward("user", "password")
    assert unasked.code == 1
    assert "DRIFTWARD_SIGNING_PASSWORD_FILE" in unasked.stderr
    before = tmp_path / "before"
    before.touch(0o600)
    monkeypatch.setenv("DRIFTWARD_SIGNING_PASSWORD_FILE", str(before))
    before.write_text("not this one, though")
    assert "name or password is wrong" in driftward("user", "password").stderr
    before.write_text(PASSWORD)
    changed = driftward("user", "password", "--json")
    assert changed.document["known_by"] == ["operating system", "password"]


def test_a_file_with_a_secret_that_others_can_read_is_refused(
    driftward: Run, home: Path, secret: Path
) -> None:
    secret.chmod(0o644)
    refused = driftward("user", "add", "mei")
    assert refused.code == 1
    assert f"chmod 600 {secret}" in refused.stderr
    assert driftward("user", "show", "mei").code == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("user", "show", "ghost"), "there is no user ghost: see `driftward user list`"),
        (("token", "revoke", "0", "--reason", "x"), "there is no token 0"),
        (("token", "create", "--for", "x", "--days", "9999"), "up to 366 days"),
    ],
)
def test_what_cannot_be_is_said(
    driftward: Run, home: Path, words: tuple[object, ...], problem: str
) -> None:
    refused = driftward(*words)
    assert refused.code == 1
    assert problem in refused.stderr


def test_a_role_that_does_not_exist_is_misuse(driftward: Run, home: Path) -> None:
    assert driftward("user", "grant", "mei", "chief").code == 2
