"""`driftward token …`: what programs, and people at a command line, show instead of a password."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import HomeOption, JsonOption, ReasonOption, opened, show, table

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime

    from sqlalchemy.orm import Session

    from api.assembly import Driftward
    from registry.access.tokens import TokenRow
    from registry.identities import Identity

app = typer.Typer(name="token", help="Tokens: shown once, expiring, revocable.")


@app.command("create")
def create(
    purpose: Annotated[str, typer.Option("--for", help="What it is for: a router, a script.")],
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Whose; by default your own."),
    ] = None,
    days: Annotated[float, typer.Option("--days", help="After which it expires.")] = 90,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, this once; one made for a person by another signs nothing."""
    from registry.access import tokens

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    now = driftward.clock.now()
    with _attempted(driftward, by, now) as session:
        made = tokens.create(
            session, identity=name or by.name, purpose=purpose, days=days, by=by, at=now
        )
    if not as_json:
        typer.echo(
            f"token {made.row.id} of {made.row.identity}, until "
            f"{made.row.expires_at:%Y-%m-%d %H:%M} UTC; it is not shown again:",
            err=True,
        )
    show(
        {**_describe(made.row, now), "text": made.text},
        as_json=as_json,
        lines=[made.text],
    )


@app.command("list")
def list_(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of this user alone.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List tokens by number, never by text: whose, what for, until when."""
    from registry.access import tokens

    driftward = opened(home)
    with driftward.database.reading() as session:
        rows = tokens.all_tokens(session, name)
    documents = [_describe(row, driftward.clock.now()) for row in rows]
    lines = table(
        [
            [
                document["token"],
                document["user"],
                document["state"],
                f"{document['expires_at']:%Y-%m-%d %H:%M}",
                document["purpose"],
            ]
            for document in documents
        ],
        header=["token", "user", "state", "expires", "for"],
    )
    show(documents, as_json=as_json, lines=lines)


@app.command("revoke")
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its number.")],
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a token at once."""
    from registry.access import tokens

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    now = driftward.clock.now()
    with _attempted(driftward, by, now) as session:
        row = tokens.revoke(session, token, reason=reason, by=by, at=now)
    show(_describe(row, now), as_json=as_json, lines=[f"token {token} is revoked"])


def _attempted(
    driftward: Driftward, by: Identity, now: datetime
) -> AbstractContextManager[Session]:
    """Open a transaction of whose refusal the ledger tells."""
    from registry.errors import RefusedError
    from registry.refusals import attempted

    return attempted(
        driftward.database,
        "access.refused",
        subject=by.name,
        by=by,
        at=now,
        of=(RefusedError,),
    )


def _describe(row: TokenRow, now: datetime) -> dict[str, Any]:
    if row.revoked_at is not None:
        state = "revoked"
    else:
        state = "expired" if now >= row.expires_at else "valid"
    return {
        "token": row.id,
        "user": row.identity,
        "state": state,
        "purpose": row.purpose,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }
