"""`driftward audit …`: whether the record still stands."""

from __future__ import annotations

import typer

from api.cli import questions
from api.cli.options import HomeOption, JsonOption, opened, show

app = typer.Typer(name="audit", help="Prove what happened.")
questions.add_to(app)


@app.callback()
def group() -> None:
    """Prove what happened."""


@app.command("verify")
def verify(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Verify the ledger's chain, and every sealed row against it; 1 if something was changed."""
    from registry import ledger

    driftward = opened(home)
    with driftward.database.reading() as session:
        found = ledger.verify(session)
    document = {
        "entries": found.entries,
        "valid": found.valid,
        "head": found.head,
        "fault": None
        if found.fault is None
        else {"sequence": found.fault.sequence, "problem": found.fault.problem},
    }
    if found.fault is None:
        lines = [f"valid: {found.entries} entries, head {found.head}"]
    else:
        lines = [f"NOT VALID at entry {found.fault.sequence}: {found.fault.problem}"]
    show(document, as_json=as_json, lines=lines)
    if not found.valid:
        raise typer.Exit(1)
