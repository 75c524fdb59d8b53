"""`driftward user …`: who may act, in which roles, for which sites."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from api.cli.options import (
    HomeOption,
    JsonOption,
    ReasonOption,
    opened,
    require_site,
    show,
    table,
)
from registry.roles import Role

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from api.assembly import Driftward
    from registry.identities import Identity, IdentityRow

app = typer.Typer(name="user", help="Users, their roles, and the sites they hold them for.")

NameArgument: TypeAlias = Annotated[str, typer.Argument(metavar="NAME")]
RolesArgument: TypeAlias = Annotated[list[Role], typer.Argument(metavar="ROLE...")]
RolesOption: TypeAlias = Annotated[
    list[Role] | None, typer.Option("--role", help="A role to grant; may be given often.")
]


def _sites(names: list[str] | None) -> list[str]:
    return [require_site(name) for name in names or []]


SitesOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--site",
        help="A site that the roles are limited to; may be given often. Without it, every site.",
        callback=_sites,
    ),
]


@app.command("add")
def add(
    name: NameArgument,
    full_name: Annotated[
        str | None, typer.Option("--full-name", help="As signatures print it.")
    ] = None,
    roles: RolesOption = None,
    sites: SitesOption = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="For a program, which acts by token alone.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a user; the password that you give is a first one, which its owner replaces."""
    from api.cli.secrets import new_password
    from registry.access import users

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    with _attempted(driftward, name, by):
        by.require(Role.ADMIN, "add a user")
    password = None if no_password else new_password(driftward.settings, whose=name)
    with driftward.database.transaction() as session:
        row = users.add(
            session,
            name,
            full_name=full_name,
            password=password,
            by=by,
            at=driftward.clock.now(),
        )
        if roles:
            users.grant(
                session, row.name, roles, sites=sites or [], by=by, at=driftward.clock.now()
            )
    _show(row, as_json=as_json, line=f"{row.name} was added: {_words(row)}")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List users, their roles, and how they are known."""
    from registry.identities import all_rows

    driftward = opened(home)
    with driftward.database.reading() as session:
        documents = [_describe(row) for row in all_rows(session)]
    rows = [
        [
            document["name"],
            "disabled" if document["disabled_at"] else "active",
            ", ".join(document["grants"]) or "–",
            ", ".join(document["known_by"]) or "–",
            document["full_name"] or "–",
        ]
        for document in documents
    ]
    header = ["user", "state", "roles", "known by", "full name"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("show")
def show_(name: NameArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one user: roles, sites, tokens, and what changed them."""
    from registry import ledger
    from registry.access import tokens
    from registry.identities import require_row

    driftward = opened(home)
    with driftward.database.reading() as session:
        row = require_row(session, name)
        document = _describe(row)
        document["tokens"] = [
            {"token": token.id, "purpose": token.purpose, "expires_at": token.expires_at}
            for token in tokens.all_tokens(session, name)
            if token.revoked_at is None
        ]
        document["changes"] = [
            {"at": entry.recorded_at, "kind": entry.kind, "by": entry.actor, **entry.facts}
            for entry in ledger.entries(session, subject=name)
            if entry.kind.startswith("identity.")
        ]
    lines = [
        f"{name}: {'disabled' if row.disabled_at else 'active'}, {_words(row)}",
        f"full name  {row.full_name or '–'}",
        f"known by   {', '.join(document['known_by']) or 'nothing yet'}",
        *(f"token      {one['token']}: {one['purpose']}" for one in document["tokens"]),
        *(
            f"  {one['at']:%Y-%m-%d %H:%M}  {one['kind']} by {one['by']}"
            for one in document["changes"]
        ),
    ]
    show(document, as_json=as_json, lines=lines)


@app.command("grant")
def grant(
    name: NameArgument,
    roles: RolesArgument,
    sites: SitesOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grant roles, for every site or for those named."""
    from registry.access import users

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    with _attempted(driftward, name, by) as session:
        row = users.grant(
            session, name, roles, sites=sites or [], by=by, at=driftward.clock.now()
        )
    _show(row, as_json=as_json, line=f"{name}: {_words(row)}")


@app.command("revoke")
def revoke(
    name: NameArgument,
    roles: RolesArgument,
    reason: ReasonOption,
    sites: SitesOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take roles away, wholly or for the sites named."""
    from registry.access import users

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    with _attempted(driftward, name, by) as session:
        row = users.revoke(
            session,
            name,
            roles,
            sites=sites or [],
            reason=reason,
            by=by,
            at=driftward.clock.now(),
        )
    _show(row, as_json=as_json, line=f"{name}: {_words(row)}")


@app.command("disable")
def disable(
    name: NameArgument,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a user act no more: passwords, tokens and sessions end; what they did stays theirs."""
    from registry.access import users

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    with _attempted(driftward, name, by) as session:
        row = users.disable(session, name, reason=reason, by=by, at=driftward.clock.now())
    _show(row, as_json=as_json, line=f"{name} is disabled")


@app.command("enable")
def enable(
    name: NameArgument,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a disabled user act again."""
    from registry.access import users

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    with _attempted(driftward, name, by) as session:
        row = users.enable(session, name, reason=reason, by=by, at=driftward.clock.now())
    _show(row, as_json=as_json, line=f"{name} is active again: {_words(row)}")


@app.command("password")
def password(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Another's; by default your own.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set your own password; or as an administrator another's, which they replace."""
    from api.cli.secrets import new_password, shown_secret
    from registry.access import signing_in, users
    from registry.identities import require_row

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now
    whose = name or by.name
    with driftward.database.reading() as session:
        has_one = require_row(session, whose).password is not None
    if whose == by.name:
        before = shown_secret(driftward.settings, "password until now") if has_one else None
        signing_in.change_password(
            driftward.database,
            whose,
            before=before,
            after=new_password(driftward.settings, whose=whose),
            address=None,
            at=now(),
        )
    else:
        with _attempted(driftward, whose, by):
            by.require(Role.ADMIN, f"set the password of {whose}")
        chosen = new_password(driftward.settings, whose=whose)
        with driftward.database.transaction() as session:
            users.set_password(session, require_row(session, whose), chosen, by=by, at=now())
    _show(_row(driftward, whose), as_json=as_json, line=f"{whose} has a new password")


@contextmanager
def _attempted(driftward: Driftward, whose: str, by: Identity) -> Iterator[Session]:
    """Open a transaction of whose refusal the ledger tells; nobody's name is not kept."""
    from registry.errors import RefusedError
    from registry.identities import IdentityRow
    from registry.refusals import attempted

    with driftward.database.reading() as session:
        known = session.get(IdentityRow, whose) is not None
    with attempted(
        driftward.database,
        "access.refused",
        subject=whose if known else by.name,
        by=by,
        at=driftward.clock.now(),
        of=(RefusedError,),
    ) as session:
        yield session


def _row(driftward: Driftward, name: str) -> IdentityRow:
    from registry.identities import require_row

    with driftward.database.reading() as session:
        return require_row(session, name)


def _show(row: IdentityRow, *, as_json: bool, line: str) -> None:
    show(_describe(row), as_json=as_json, lines=[line])


def _words(row: IdentityRow) -> str:
    from registry.identities import identity_of

    return ", ".join(identity_of(row).grants()) or "no role yet"


def _describe(row: IdentityRow) -> dict[str, Any]:
    from registry.identities import identity_of

    known_by = []
    if row.os_user is not None:
        known_by.append("operating system")
    if row.password is not None:
        known_by.append("first password" if row.initial_password else "password")
    return {
        "name": row.name,
        "full_name": row.full_name,
        "roles": row.roles,
        "site_roles": row.site_roles,
        "grants": identity_of(row).grants(),
        "known_by": known_by,
        "password_set_at": row.password_set_at,
        "created_at": row.created_at,
        "disabled_at": row.disabled_at,
    }
