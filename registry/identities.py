"""Who acts: identities, their roles, and the operating system's user bound to one."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Mapped, Session, mapped_column

from registry import ledger
from registry.database import Base, Database
from registry.errors import NotPermittedError


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    AUDITOR = "auditor"
    ADMIN = "admin"


class IdentityRow(ledger.Sealed, Base):
    __tablename__ = "identities"

    name: Mapped[str] = mapped_column(primary_key=True)
    #: the operating system's user that acts under this name on this machine
    os_user: Mapped[str | None] = mapped_column(unique=True)
    roles: Mapped[list[str]]
    created_at: Mapped[datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One who acts."""

    name: str
    roles: frozenset[Role]

    def require(self, role: Role, action: str) -> None:
        """Refuse an action that this identity's roles do not cover.

        Raises
        ------
        NotPermittedError
        """
        if role not in self.roles:
            raise NotPermittedError(
                f"{self.name} may not {action}: it takes the role {role.value}; "
                f"{self.name} has {', '.join(sorted(self.roles)) or 'none'}"
            )


#: Acts where no person does: ticks, workers, what a plan lets happen by itself.
SYSTEM = Identity(name="driftward", roles=frozenset({Role.OPERATOR}))


def operating_system_user() -> str:
    """Return the name, or failing that the number, of the user that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


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


def current(database: Database) -> Identity:
    """Return the identity of the user that runs this process.

    Raises
    ------
    NotPermittedError
        If that user is bound to no identity of this home.
    """
    user = operating_system_user()
    with database.reading() as session:
        row = session.scalars(select(IdentityRow).where(IdentityRow.os_user == user)).first()
    if row is None:
        raise NotPermittedError(
            f"the user {user} is bound to no identity here: run as the user that ran "
            "`driftward init`, or ask an admin"
        )
    return Identity(name=row.name, roles=frozenset(Role(role) for role in row.roles))
