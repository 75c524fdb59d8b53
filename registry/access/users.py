"""Users: added, granted roles, given passwords, disabled; each change with its ledger entry."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from registry import ledger
from registry.access import passwords
from registry.canonical import Json
from registry.errors import BadInputError, ConflictError
from registry.identities import (
    SYSTEM,
    Identity,
    IdentityRow,
    Role,
    all_rows,
    identity_of,
    require_row,
)

#: Names of ours that a ledger entry has for its actor.
_RESERVED = frozenset({SYSTEM.name, "unknown", "anonymous"})
_NAME = re.compile(r"[^\W_][\w .@'-]{0,62}[^\W_]|[^\W_]")


def add(
    session: Session,
    name: str,
    *,
    full_name: str | None,
    password: str | None,
    by: Identity,
    at: datetime,
) -> IdentityRow:
    """Add a user without any role.

    Parameters
    ----------
    password : a first one, which its owner must replace; None for a program, or for one who
        acts by token alone

    Raises
    ------
    BadInputError
        If name or password cannot be used.
    ConflictError
        If the name is taken, by whatever capitals.
    """
    by.require(Role.ADMIN, "add a user")
    name = unicodedata.normalize("NFC", name.strip())
    if not _NAME.fullmatch(name) or name.casefold() in _RESERVED:
        raise BadInputError(
            "a user's name has 1 to 64 letters, digits, blanks and .@'-, and is none of "
            f"{', '.join(sorted(_RESERVED))}"
        )
    if any(row.name.casefold() == name.casefold() for row in all_rows(session)):
        raise ConflictError(f"there is a user {name} already: names are never used twice")
    row = IdentityRow(
        name=name, os_user=None, roles=[], created_at=at, full_name=full_name, site_roles={}
    )
    session.add(row)
    _record(session, row, "identity.added", by=by, at=at, facts={"full_name": full_name})
    if password is not None:
        set_password(session, row, password, by=by, at=at)
    return row


def grant(
    session: Session,
    name: str,
    roles: Iterable[Role],
    *,
    sites: Sequence[str],
    by: Identity,
    at: datetime,
) -> IdentityRow:
    """Grant roles for sites, or without sites for all; what is held already stays.

    Raises
    ------
    ConflictError
        If the user is disabled.
    """
    by.require(Role.ADMIN, "grant a role")
    row = require_row(session, name)
    if row.disabled_at is not None:
        raise ConflictError(f"{name} is disabled: enable the user first")
    everywhere, by_site = set(row.roles), {key: set(v) for key, v in row.site_roles.items()}
    given = sorted(set(roles))
    for role in given:
        if not sites:
            everywhere.add(role.value)
            by_site.pop(role.value, None)
        elif role.value not in everywhere:
            by_site.setdefault(role.value, set()).update(sites)
    _write(row, everywhere, by_site)
    _record(session, row, "identity.granted", by=by, at=at, facts=_facts(given, sites))
    return row


def revoke(
    session: Session,
    name: str,
    roles: Iterable[Role],
    *,
    sites: Sequence[str],
    reason: str,
    by: Identity,
    at: datetime,
) -> IdentityRow:
    """Take roles away, for sites or wholly.

    Raises
    ------
    ConflictError
        If a role is not held so, or nobody would be left who can administer.
    """
    by.require(Role.ADMIN, "revoke a role")
    row = require_row(session, name)
    everywhere, by_site = set(row.roles), {key: set(v) for key, v in row.site_roles.items()}
    taken = sorted(set(roles))
    for role in taken:
        held = by_site.get(role.value, set())
        if sites and role.value in everywhere:
            raise ConflictError(
                f"{name} is {role.value} for every site: revoke that, and grant the sites that "
                "remain"
            )
        if (sites and not held.issuperset(sites)) or not (held or role.value in everywhere):
            where = f" for {', '.join(sites)}" if sites else ""
            raise ConflictError(f"{name} is no {role.value}{where}: nothing was changed")
        everywhere.discard(role.value)
        by_site[role.value] = held.difference(sites) if sites else set()
    _write(row, everywhere, by_site)
    _require_an_admin(session)
    facts = {**_facts(taken, sites), "reason": reason}
    _record(session, row, "identity.revoked", by=by, at=at, facts=facts)
    return row


def disable(
    session: Session, name: str, *, reason: str, by: Identity, at: datetime
) -> IdentityRow:
    """Let a user act no more, in whatever way; what they did stays theirs.

    Raises
    ------
    ConflictError
        If they are disabled, or nobody would be left who can administer.
    """
    by.require(Role.ADMIN, "disable a user")
    row = require_row(session, name)
    if row.disabled_at is not None:
        raise ConflictError(f"{name} is disabled since {row.disabled_at:%Y-%m-%d %H:%M}")
    row.disabled_at = at
    _require_an_admin(session)
    _record(session, row, "identity.disabled", by=by, at=at, facts={"reason": reason})
    return row


def enable(
    session: Session, name: str, *, reason: str, by: Identity, at: datetime
) -> IdentityRow:
    """Let a disabled user act again.

    Raises
    ------
    ConflictError
        If they are not disabled.
    """
    by.require(Role.ADMIN, "enable a user")
    row = require_row(session, name)
    if row.disabled_at is None:
        raise ConflictError(f"{name} is not disabled: nothing was changed")
    row.disabled_at = None
    _record(session, row, "identity.enabled", by=by, at=at, facts={"reason": reason})
    return row


def set_password(
    session: Session, row: IdentityRow, password: str, *, by: Identity, at: datetime
) -> None:
    """Set a password; another's than one's own is a first one, good for choosing another.

    Who changes their own has proved the one before (`signing_in.change_password`).

    Raises
    ------
    BadInputError
        If it is too easy to guess, or the one before.
    """
    if row.name != by.name:
        by.require(Role.ADMIN, f"set the password of {row.name}")
    passwords.require_fit(password, name=row.name)
    if row.password is not None and passwords.matches(row.password, password):
        raise BadInputError("that is the password that was: choose another")
    row.password, row.password_set_at = passwords.hashed(password), at
    row.initial_password = row.name != by.name
    facts: dict[str, Json] = {"first": row.initial_password}
    _record(session, row, "identity.password_set", by=by, at=at, facts=facts)


def _write(row: IdentityRow, everywhere: set[str], by_site: dict[str, set[str]]) -> None:
    row.roles = sorted(everywhere)
    row.site_roles = {role: sorted(sites) for role, sites in sorted(by_site.items()) if sites}


def _facts(roles: Sequence[Role], sites: Sequence[str]) -> dict[str, Json]:
    return {"roles": [role.value for role in roles], "sites": [*sorted(sites)] or None}


def _record(
    session: Session,
    row: IdentityRow,
    kind: str,
    *,
    by: Identity,
    at: datetime,
    facts: dict[str, Json],
) -> None:
    ledger.append(
        session, at=at, actor=by.name, kind=kind, subject=row.name, facts=facts, seals=[row]
    )


def _require_an_admin(session: Session) -> None:
    session.flush()
    able = [row for row in all_rows(session) if row.disabled_at is None]
    if not any(Role.ADMIN in identity_of(row).roles for row in able):
        raise ConflictError("nobody would be left who can administer: grant that first")
