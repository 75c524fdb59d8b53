"""Who may do what: users with their roles, and tokens by number; never a secret."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from api.http.access import KNOWN, READ_PEOPLE, KnownCaller
from api.http.installation import Installation
from registry.access import tokens
from registry.identities import Role, all_rows

router = APIRouter(prefix="/api/v1", tags=["people"])


class User(BaseModel):
    """One who acts."""

    name: str
    full_name: str | None
    #: held for every site
    roles: list[Role]
    #: role -> the sites that it is held for
    site_roles: dict[Role, list[str]]
    #: acts as a user of the operating system, on the machine that has the home
    os_user_bound: bool
    has_password: bool
    created_at: AwareDatetime
    disabled_at: AwareDatetime | None


class Token(BaseModel):
    """One token, without what is secret of it."""

    id: str
    user: str
    purpose: str
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime
    revoked_at: AwareDatetime | None


class Me(BaseModel):
    """Who the caller is."""

    name: str
    roles: list[Role]
    site_roles: dict[Role, list[str]]
    #: token, session or local
    known_by: str


@router.get("/me", summary="Show who you are", dependencies=[KNOWN])
def show_me(caller: KnownCaller) -> Me:
    """Return who the caller is here, and what they may."""
    return Me(
        name=caller.name,
        roles=sorted(caller.identity.roles),
        site_roles={
            role: sorted(sites) for role, sites in sorted(caller.identity.site_roles.items())
        },
        known_by=caller.road.value,
    )


@router.get("/users", summary="List users", dependencies=[READ_PEOPLE])
def list_users(driftward: Installation) -> list[User]:
    """Return users, by name."""
    with driftward.database.reading() as session:
        return [
            User(
                name=row.name,
                full_name=row.full_name,
                roles=list(map(Role, row.roles)),
                site_roles={Role(role): sites for role, sites in row.site_roles.items()},
                os_user_bound=row.os_user is not None,
                has_password=row.password is not None,
                created_at=row.created_at,
                disabled_at=row.disabled_at,
            )
            for row in all_rows(session)
        ]


@router.get("/tokens", summary="List tokens", dependencies=[READ_PEOPLE])
def list_tokens(
    driftward: Installation,
    user: Annotated[str | None, Query(description="Only this user's.")] = None,
) -> list[Token]:
    """Return tokens, newest first."""
    with driftward.database.reading() as session:
        return [
            Token(
                id=row.id,
                user=row.identity,
                purpose=row.purpose,
                created_at=row.created_at,
                created_by=row.created_by,
                expires_at=row.expires_at,
                revoked_at=row.revoked_at,
            )
            for row in tokens.all_tokens(session, user)
        ]
