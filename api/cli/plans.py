"""`driftward plan …`: how a model may change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import HomeOption, JsonOption, opened, show, text_of

app = typer.Typer(name="plan", help="Say how a model may change.")


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a change plan into force."""
    from registry.identities import Role
    from retrain.plans import apply_plan

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.ADMIN, "apply a change plan")
    with driftward.database.transaction() as session:
        plan = apply_plan(
            session,
            text_of(file),
            source=file.name,
            actor=by.name,
            at=driftward.clock.now(),
        )
    document = {"model": plan.plan.model, "plan": plan.number, "digest": plan.digest}
    show(
        document,
        as_json=as_json,
        lines=[f"plan {plan.number} of {plan.plan.model} is in force  {plan.digest[:12]}"],
    )


@app.command("show")
def show_(model: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the plan in force for MODEL."""
    from retrain.plans import require_plan

    driftward = opened(home)
    with driftward.database.reading() as session:
        plan = require_plan(session, model)
    document = {
        "model": model,
        "plan": plan.number,
        "digest": plan.digest,
        **plan.plan.model_dump(mode="json"),
    }
    lines = [f"# plan {plan.number} of {model}, {plan.digest}", plan.text.rstrip()]
    show(document, as_json=as_json, lines=lines)
