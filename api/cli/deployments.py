"""`driftward deployment …`: what should serve where, and what runtimes attest that they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

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

if TYPE_CHECKING:
    from registry.runtimes import RuntimeStanding

app = typer.Typer(
    name="deployment", help="What serves where, and what clinical runtimes attest."
)

PlaceOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--site", help="The site; without it, everywhere at once.", callback=require_site
    ),
]


@app.command("list")
def list_(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Of this model alone.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what should serve where, since when, and what the runtime there attested."""
    from sqlalchemy import select

    from registry import runtimes
    from registry.versions import ModelRow, require_model

    driftward = opened(home)
    now = driftward.clock.now()
    with driftward.database.reading() as session:
        if model is not None:
            require_model(session, model)
        names = [model] if model else session.scalars(select(ModelRow.name)).all()
        documents = [
            one.to_dict()
            for name in sorted(names)
            for one in runtimes.deployments(session, name, now=now)
        ]
    rows = [
        [
            one["deployment"],
            (one["champion"] or "–") + (", out of use" if one["out_of_use"] else ""),
            f"{one['since']:%Y-%m-%d %H:%M}" if one["since"] else "–",
            f"{one['runtime']['state']}: {one['runtime']['says']}"
            if one["runtime"]
            else "not declared",
        ]
        for one in documents
    ]
    header = ["deployment", "champion", "since", "runtime"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("declare")
def declare(
    model: str,
    site: PlaceOption = "everywhere",
    hours: Annotated[
        float,
        typer.Option(
            help="Without an attestation of a new version, after which that is an alarm."
        ),
    ] = 24,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Declare that a clinical runtime serves MODEL there: a version is pending until it attests."""
    from registry import runtimes
    from registry.refusals import attempted
    from registry.versions import require_model

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    with driftward.database.reading() as session:
        require_model(session, model)
    with attempted(
        driftward.database, "runtime.refused", subject=model, by=by, at=now
    ) as session:
        row = runtimes.declare(session, model, site, silent_after_hours=hours, by=by, at=now)
        found = runtimes.standing(session, row, now=now)
    _show(found, as_json=as_json)


@app.command("withdraw")
def withdraw(
    model: str,
    reason: ReasonOption,
    site: PlaceOption = "everywhere",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that no runtime serves MODEL there any more."""
    from registry import runtimes
    from registry.refusals import attempted
    from registry.versions import require_model

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    with driftward.database.reading() as session:
        require_model(session, model)
    with attempted(
        driftward.database, "runtime.refused", subject=model, by=by, at=now
    ) as session:
        runtimes.withdraw(session, model, site, reason=reason, by=by, at=now)
    document = {"model": model, "deployment": site, "runtime": None}
    show(document, as_json=as_json, lines=[f"{model}, {site}: no runtime is waited for"])


@app.command("attest")
def attest(
    model: str,
    digest: Annotated[str, typer.Option(help="SHA-256 of the bundle that it runs.")],
    site: PlaceOption = "everywhere",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record which bundle the runtime there runs; runtimes themselves do it over HTTP."""
    from registry import runtimes
    from registry.refusals import attempted
    from registry.versions import require_model

    driftward = opened(home)
    by, now = driftward.whoever_runs_this(), driftward.clock.now()
    with driftward.database.reading() as session:
        require_model(session, model)
    with attempted(
        driftward.database, "attestation.refused", subject=model, by=by, at=now
    ) as session:
        found = runtimes.attest(session, model, site, digest=digest, by=by, at=now)
    _show(found, as_json=as_json)


def _show(found: RuntimeStanding, *, as_json: bool) -> None:
    where = f"{found.runtime.model}, {found.runtime.deployment}"
    document = {
        "model": found.runtime.model,
        "deployment": found.runtime.deployment,
        "runtime": found.to_dict(),
    }
    show(document, as_json=as_json, lines=[f"{where}: {found.state.value}, {found.says}"])
