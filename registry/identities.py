"""Who acts: identities, the roles that were granted to them, and by what they are known.

A person or a program is one row. A role is granted everywhere, or for named sites. What
proves who asks (a password, a token, a session) stands in `registry.access`.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger
from registry.database import Base
from registry.errors import NotFoundError, NotPermittedError
from registry.roles import Role as Role  # noqa: PLC0414 - whoever acts has roles: found here, too


class IdentityRow(ledger.Kept, ledger.Sealed, Base):
    """One who acts; never deleted, since the ledger names them for good."""

    __tablename__ = "identities"
    __added__ = MappingProxyType(
        {
            "full_name": None,
            "site_roles": {},
            "password": None,
            "password_set_at": None,
            "initial_password": False,
            "disabled_at": None,
        }
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    #: the operating system's user that acts under this name on this machine
    os_user: Mapped[str | None] = mapped_column(unique=True)
    #: granted for every site
    roles: Mapped[list[str]]
    created_at: Mapped[datetime]
    #: as signatures print it (21 CFR 11.50); by default the name
    full_name: Mapped[str | None]
    #: role -> the sites that it was granted for
    site_roles: Mapped[dict[str, Any]] = mapped_column(default=dict)
    #: argon2id, with salt and parameters; None for those who have none
    password: Mapped[str | None]
    password_set_at: Mapped[datetime | None]
    #: somebody else knows it: good for nothing but choosing another
    initial_password: Mapped[bool] = mapped_column(default=False)
    disabled_at: Mapped[datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One who acts, and what they may."""

    name: str
    #: held for every site
    roles: frozenset[Role]
    #: held for the sites named alone
    site_roles: Mapping[Role, frozenset[str]] = field(default_factory=dict)

    def require(self, role: Role, action: str, *, site: str | None = None) -> None:
        """Refuse an action that this identity's roles do not cover.

        Parameters
        ----------
        site : the one site that the action concerns; without it a role for some sites is
            not enough

        Raises
        ------
        NotPermittedError
        """
        if self.may(role, site=site):
            return
        held = ", ".join(self.grants()) or "none"
        where = f" for the site {site}" if site is not None else ""
        if role in self.site_roles and site is None:
            where = " for every site"
        raise NotPermittedError(
            f"{self.name} may not {action}: it takes the role {role.value}{where}; "
            f"{self.name} has {held}"
        )

    def may(self, role: Role, *, site: str | None = None) -> bool:
        """Return whether a role is held for a site, or without one for every site."""
        return role in self.roles or (
            site is not None and site in self.site_roles.get(role, frozenset())
        )

    def holds(self, role: Role) -> bool:
        """Return whether a role is held for any site at all."""
        return role in self.roles or bool(self.site_roles.get(role))

    def sites(self, *roles: Role) -> frozenset[str] | None:
        """Return the sites for which one of the roles is held; None for every site."""
        if self.roles.intersection(roles):
            return None
        return frozenset().union(*(self.site_roles.get(role, frozenset()) for role in roles))

    def grants(self) -> list[str]:
        """Return what was granted, in words.

        >>> Identity(name="mei", roles=frozenset({Role.VIEWER}),
        ...          site_roles={Role.APPROVER: frozenset({"north"})}).grants()
        ['viewer', 'approver for north']
        """
        return [
            *sorted(role.value for role in self.roles),
            *(
                f"{role.value} for {', '.join(sorted(sites))}"
                for role, sites in sorted(self.site_roles.items())
            ),
        ]


#: Acts where no person does: ticks, workers, what a plan lets happen by itself.
SYSTEM = Identity(name="driftward", roles=frozenset({Role.OPERATOR}))


def operating_system_user() -> str:
    """Return the name, or failing that the number, of the user that runs this process.

    The kernel says who that is: LOGNAME and its like may be set to anybody's name.
    """
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid-{number}"


def bind(
    session: Session, *, name: str, os_user: str | None, roles: frozenset[Role], at: datetime
) -> Identity:
    """Create an identity, bound to an operating system's user."""
    row = IdentityRow(
        name=name, os_user=os_user, roles=[role.value for role in sorted(roles)], created_at=at
    )
    session.add(row)
    ledger.append(
        session,
        at=at,
        actor=SYSTEM.name,
        kind="identity.bound",
        subject=name,
        facts={
            "roles": [role.value for role in sorted(roles)],
            "os_user_bound": os_user is not None,
        },
        seals=[row],
    )
    return Identity(name=name, roles=roles)


def identity_of(row: IdentityRow) -> Identity:
    """Return what a row grants."""
    return Identity(
        name=row.name,
        roles=frozenset(map(Role, row.roles)),
        site_roles={Role(role): frozenset(sites) for role, sites in row.site_roles.items()},
    )


def require_row(session: Session, name: str) -> IdentityRow:
    """Return the row of an identity.

    Raises
    ------
    NotFoundError
    """
    row = session.get(IdentityRow, name)
    if row is None:
        raise NotFoundError(f"there is no user {name}: see `driftward user list`")
    return row


def all_rows(session: Session) -> list[IdentityRow]:
    """Return every identity, by name."""
    return list(session.scalars(select(IdentityRow).order_by(IdentityRow.name)))


def bound_to(session: Session, user: str) -> IdentityRow:
    """Return the row of the identity that acts for an operating system's user, disabled or not.

    Raises
    ------
    NotPermittedError
        If that user is bound to no identity of this home.
    """
    row = session.scalars(select(IdentityRow).where(IdentityRow.os_user == user)).first()
    if row is None:
        raise NotPermittedError(
            f"the user {user} is bound to no identity here: run as the user that ran "
            "`driftward init`, act by a token in DRIFTWARD_TOKEN, or ask an admin"
        )
    return row
