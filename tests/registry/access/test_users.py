from __future__ import annotations

from datetime import datetime

import pytest
from people import ADMIN, add_user, disable

from registry import ledger
from registry.access import tokens, users
from registry.database import Database
from registry.errors import BadInputError, ConflictError, NotFoundError, NotPermittedError
from registry.identities import Identity, Role, identity_of, require_row


@pytest.fixture
def mei(database: Database, now: datetime) -> Identity:
    add_user(database, "admin", Role.ADMIN, at=now, password=None)
    return add_user(database, "mei", at=now, password=None)


def read(database: Database, name: str) -> Identity:
    with database.reading() as session:
        assert ledger.verify(session).fault is None
        return identity_of(require_row(session, name))


def grant(database: Database, name: str, *roles: Role, sites: list[str], at: datetime) -> None:
    with database.transaction() as session:
        users.grant(session, name, roles, sites=sites, by=ADMIN, at=at)


def revoke(database: Database, name: str, *roles: Role, sites: list[str], at: datetime) -> None:
    with database.transaction() as session:
        users.revoke(session, name, roles, sites=sites, reason="moved", by=ADMIN, at=at)


def test_a_new_user_may_do_nothing(mei: Identity) -> None:
    assert mei.grants() == []
    for role in Role:
        with pytest.raises(NotPermittedError, match=f"the role {role.value}; mei has none"):
            mei.require(role, "do it")


def test_a_role_for_a_site_is_a_role_for_that_site_alone(
    database: Database, mei: Identity, now: datetime
) -> None:
    grant(database, "mei", Role.OPERATOR, sites=["north", "east"], at=now)
    operator = read(database, "mei")
    operator.require(Role.OPERATOR, "label", site="north")
    assert operator.grants() == ["operator for east, north"]
    assert operator.sites(Role.OPERATOR, Role.VIEWER) == {"east", "north"}
    for site in ("south", None):
        with pytest.raises(NotPermittedError):
            operator.require(Role.OPERATOR, "label", site=site)
    revoke(database, "mei", Role.OPERATOR, sites=["east"], at=now)
    assert read(database, "mei").sites(Role.OPERATOR) == {"north"}
    grant(database, "mei", Role.OPERATOR, sites=[], at=now)
    grant(database, "mei", Role.OPERATOR, sites=["south"], at=now)
    assert read(database, "mei").sites(Role.OPERATOR) is None
    with pytest.raises(ConflictError, match="for every site"):
        revoke(database, "mei", Role.OPERATOR, sites=["south"], at=now)
    revoke(database, "mei", Role.OPERATOR, sites=[], at=now)
    assert read(database, "mei").grants() == []
    with pytest.raises(ConflictError, match="is no operator"):
        revoke(database, "mei", Role.OPERATOR, sites=[], at=now)


def test_the_ledger_has_who_granted_what_and_why_it_was_revoked(
    database: Database, mei: Identity, now: datetime
) -> None:
    grant(database, "mei", Role.APPROVER, sites=["north"], at=now)
    revoke(database, "mei", Role.APPROVER, sites=["north"], at=now)
    with database.reading() as session:
        found = [
            (entry.kind, entry.actor, entry.facts)
            for entry in ledger.entries(session, subject="mei")
        ]
    assert found[1:] == [
        ("identity.granted", "admin", {"roles": ["approver"], "sites": ["north"]}),
        (
            "identity.revoked",
            "admin",
            {"roles": ["approver"], "sites": ["north"], "reason": "moved"},
        ),
    ]


@pytest.mark.parametrize(
    "name", ["", " ", "driftward", "Unknown", "a/b", "x" * 65, "line\nbreak", "<b>mei</b>"]
)
def test_a_name_that_cannot_be_one_is_refused(
    database: Database, now: datetime, name: str
) -> None:
    with database.transaction() as session, pytest.raises(BadInputError, match="user's name"):
        users.add(session, name, full_name=None, password=None, by=ADMIN, at=now)


def test_a_name_is_never_used_twice(database: Database, mei: Identity, now: datetime) -> None:
    disable(database, "mei", at=now)
    with database.transaction() as session, pytest.raises(ConflictError, match="never"):
        users.add(session, "MEI", full_name=None, password=None, by=ADMIN, at=now)


def test_only_an_administrator_administers(
    database: Database, mei: Identity, now: datetime
) -> None:
    grant(database, "mei", Role.OPERATOR, Role.APPROVER, Role.AUDITOR, sites=[], at=now)
    by = read(database, "mei")
    with database.transaction() as session:
        for refused in (
            lambda: users.add(session, "a", full_name=None, password=None, by=by, at=now),
            lambda: users.grant(session, "mei", [Role.ADMIN], sites=[], by=by, at=now),
            lambda: users.disable(session, "admin", reason="mine", by=by, at=now),
            lambda: users.enable(session, "admin", reason="mine", by=by, at=now),
            lambda: users.set_password(
                session, require_row(session, "admin"), "a new password it is", by=by, at=now
            ),
            lambda: tokens.create(
                session, identity="admin", purpose="mine", days=1, by=by, at=now
            ),
        ):
            with pytest.raises(NotPermittedError, match="the role admin"):
                refused()


def test_somebody_is_left_who_can_administer(
    database: Database, mei: Identity, now: datetime
) -> None:
    with pytest.raises(ConflictError, match="nobody would be left"):
        disable(database, "admin", at=now)
    with pytest.raises(ConflictError, match="nobody would be left"):
        revoke(database, "admin", Role.ADMIN, sites=[], at=now)
    grant(database, "mei", Role.ADMIN, sites=[], at=now)
    disable(database, "admin", at=now)
    with pytest.raises(ConflictError, match="is disabled"):
        grant(database, "admin", Role.VIEWER, sites=[], at=now)
    with database.transaction() as session:
        users.enable(session, "admin", reason="back", by=ADMIN, at=now)
    assert Role.ADMIN in read(database, "admin").roles


def test_who_does_not_exist_is_named(database: Database, now: datetime) -> None:
    with pytest.raises(NotFoundError, match="there is no user ghost"):
        grant(database, "ghost", Role.VIEWER, sites=[], at=now)


@pytest.mark.parametrize("days", [0, -1, 367, float("nan")])
def test_a_token_lives_for_a_bounded_time(
    database: Database, mei: Identity, now: datetime, days: float
) -> None:
    with database.transaction() as session, pytest.raises(BadInputError, match="366 days"):
        tokens.create(session, identity="mei", purpose="x", days=days, by=ADMIN, at=now)
