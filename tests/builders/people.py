"""Users with passwords and tokens, as an administrator and they themselves make them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from registry.access import tokens, users
from registry.database import Database
from registry.identities import Identity, IdentityRow, Role, identity_of

ADMIN = Identity(name="admin", roles=frozenset(Role))
PASSWORD = "seven blue kettles sing"


def add_user(
    database: Database,
    name: str,
    *roles: Role,
    at: datetime,
    sites: Sequence[str] = (),
    password: str | None = PASSWORD,
) -> Identity:
    """Add a user with roles, who has replaced their first password by `password`."""
    with database.transaction() as session:
        row = users.add(session, name, full_name=None, password=None, by=ADMIN, at=at)
        if roles:
            row = users.grant(session, name, roles, sites=sites, by=ADMIN, at=at)
        if password is not None:
            users.set_password(session, row, password, by=identity_of(row), at=at)
        return identity_of(row)


def make_token(
    database: Database,
    name: str,
    *,
    at: datetime,
    by: Identity | None = None,
    days: float = 30,
) -> str:
    """Return the text of a token that its owner, or another, made."""
    with database.transaction() as session:
        owner = identity_of(session.get_one(IdentityRow, name))
        made = tokens.create(
            session, identity=name, purpose="a test", days=days, by=by or owner, at=at
        )
        return made.text


def disable(database: Database, name: str, *, at: datetime) -> None:
    with database.transaction() as session:
        users.disable(session, name, reason="left", by=ADMIN, at=at)
