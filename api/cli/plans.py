"""`driftward plan …`: how a model may change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.backtests import backtest
from api.cli.options import (
    HomeOption,
    JsonOption,
    ReasonOption,
    bytes_of,
    opened,
    show,
    table,
    text_of,
)
from registry.canonical import Json

if TYPE_CHECKING:
    from retrain.plans import Change

app = typer.Typer(name="plan", help="Say how a model may change.")
app.command("backtest")(backtest)


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a change plan into force, and say what it changes."""
    from retrain.plans import apply_file

    driftward = opened(home)
    plan, changes = apply_file(
        driftward.database,
        bytes_of(file),
        source=file.name,
        by=driftward.whoever_runs_this(),
        at=driftward.clock.now(),
    )
    document: dict[str, Json] = {
        "model": plan.plan.model,
        "plan": plan.number,
        "digest": plan.digest,
        "changes": [change.to_dict() for change in changes],
    }
    lines = [f"plan {plan.number} of {plan.plan.model} is in force  {plan.digest[:12]}"]
    lines += [f"  {line}" for line in _change_lines(changes)] if plan.number > 1 else []
    show(document, as_json=as_json, lines=lines)


@app.command("list")
def list_(model: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the plans that MODEL has had, newest first."""
    from retrain.change_plan import parse_plan
    from retrain.plans import all_plans

    driftward = opened(home)
    with driftward.database.reading() as session:
        plans = all_plans(session, model)
    documents: list[dict[str, Json]] = [
        {
            "plan": plan.number,
            "digest": plan.digest,
            "authority": parse_plan(
                plan.text, source=f"plan {plan.number}", applied=True
            ).authority.value,
            "applied_at": plan.applied_at.isoformat(),
            "applied_by": plan.applied_by,
            "in_force": place == 0,
        }
        for place, plan in enumerate(plans)
    ]
    header = ["plan", "authority", "applied_at", "applied_by", "in_force", "digest"]
    lines = table([[one[key] for key in header] for one in documents], header=header)
    if not documents:
        lines = [f"{model} has no change plan, so it is locked"]
    show(documents, as_json=as_json, lines=lines)


@app.command("show")
def show_(
    model: str,
    number: Annotated[
        int | None, typer.Option("--number", help="Of an earlier plan.", show_default=False)
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the plan in force for MODEL, and how much of its limits is used up."""
    from retrain import allowance
    from retrain.plans import require_plan

    driftward = opened(home)
    with driftward.database.reading() as session:
        plan = require_plan(session, model, number)
        used = allowance.used(session, model, at=driftward.clock.now())
        forbidden = allowance.why_no_run(session, plan, at=driftward.clock.now())
    document: dict[str, Json] = {
        "model": model,
        "plan": plan.number,
        "digest": plan.digest,
        **plan.plan.model_dump(mode="json"),
        "used": used.to_dict(),
        "forbids_runs": forbidden,
    }
    limits = plan.plan.limits
    lines = [
        f"# plan {plan.number} of {model}, {plan.digest}",
        plan.text.rstrip(),
        "",
        f"# used: {used.runs} of {limits.runs_per_quarter} runs and {used.compute_hours:.2f} of "
        f"{limits.compute_hours_per_quarter:g} hours of training in 90 days; "
        f"{used.promotions} of {limits.promotions_since_review} promotions since the last full "
        "review",
    ]
    if forbidden is not None:
        lines.append(f"# no run is begun now: {forbidden}")
    show(document, as_json=as_json, lines=lines)


@app.command("diff")
def diff(
    model: str,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.yaml]", show_default=False)
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--from", help="Compare with this plan instead of the one in force."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what FILE.yaml, or the plan in force, changes in MODEL's plan; nothing is applied."""
    from registry.errors import BadInputError
    from retrain.change_plan import parse_plan
    from retrain.plans import changes_between, require_plan

    driftward = opened(home)
    with driftward.database.reading() as session:
        newest = require_plan(session, model)
        before = newest if number is None else require_plan(session, model, number)
    if file is None and number is None:
        raise BadInputError("name a FILE.yaml, or an earlier plan by --from")
    after = newest.plan if file is None else parse_plan(text_of(file), source=file.name)
    if after.model != model:
        raise BadInputError(f"{file} is a plan of {after.model}, not of {model}")
    changes = changes_between(before.plan, after)
    document: dict[str, Json] = {
        "model": model,
        "from": before.number,
        "changes": [change.to_dict() for change in changes],
    }
    show(document, as_json=as_json, lines=_change_lines(changes))


@app.command("review")
def review(
    model: str,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a full review of MODEL: its changes, failures and rollbacks count anew from here."""
    from registry.refusals import attempted
    from registry.versions import VersionRow, ref, require_model
    from retrain import reviews

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    with driftward.database.reading() as session:
        require_model(session, model)
    with attempted(
        driftward.database, "review.refused", subject=model, by=by, at=now
    ) as session:
        row = reviews.review(session, model, reason=reason, by=by, at=now)
        version = str(ref(session.get_one(VersionRow, row.version)))
    document: dict[str, Json] = {"model": model, "version": version, "by": by.name}
    show(
        document,
        as_json=as_json,
        lines=[f"{version} is reviewed: changes to {model} count anew from here"],
    )


def _change_lines(changes: Sequence[Change]) -> list[str]:
    if not changes:
        return ["nothing that the plan says is changed"]
    return [change.in_words() for change in changes]
