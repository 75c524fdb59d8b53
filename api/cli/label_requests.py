"""`driftward label request …`: which scans to read, how far that is, and what the sum was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.options import (
    HomeOption,
    JsonOption,
    NumberArgument,
    ReasonOption,
    opened,
    require_reason,
    show,
    table,
)

app = typer.Typer(name="request", help="Ask for labels, and see how far they are.")

_CODES = "unreadable, not-available or undecidable"


@app.command("make")
def make(
    run: NumberArgument,
    home: HomeOption = None,
    as_json: JsonOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the arithmetic, and draw nothing.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Of the draw; the run's own by default.", min=0)
    ] = None,
) -> None:
    """Draw the scans that RUN waits for; a run under a plan that may act does so by itself.

    While a request of the run is open, that is shown and nothing is drawn.
    """
    from monitor.episodes.episodes import require_episode
    from monitor.requests.listing import describe_request
    from registry.errors import ConflictError
    from registry.identities import Role
    from retrain import label_requesting, plans, runs
    from retrain.label_proposing import propose

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "request labels")
    at = driftward.clock.now()
    database = driftward.database
    with database.reading() if dry_run else database.transaction() as session:
        row = runs.require_run(session, run)
        if row.episode is None:
            raise ConflictError(f"run {run} makes a first version: it requests no labels")
        episode = require_episode(session, row.episode)
        plan = plans.by_id(session, row.plan)
        task = row.settings["task"]
        if dry_run:
            proposed = propose(session, row, episode, plan, task=task, at=at)
            document = {
                "run": run,
                "arithmetic": proposed.needs.as_record(),
                "patients": len(proposed.frame.patients),
                "scans": proposed.frame.scans,
                "left_out": dict(proposed.frame.left_out),
                "refusal": proposed.refusal,
            }
            show(document, as_json=as_json, lines=proposed.in_words())
            return
        request = label_requesting.request_labels(
            session, row, episode, plan, task=task, actor=by.name, at=at, seed=seed
        )
        document = describe_request(session, request)
    show(document, as_json=as_json, lines=_lines(document))


@app.command("list")
def list_(
    home: HomeOption = None,
    as_json: JsonOption = False,
    run: Annotated[
        int | None, typer.Option(help="Of this run alone.", show_default=False, min=1)
    ] = None,
) -> None:
    """List requests of labels, newest first."""
    from monitor.requests.listing import describe_request
    from monitor.requests.making import all_requests

    driftward = opened(home)
    with driftward.database.reading() as session:
        documents = [describe_request(session, row) for row in all_requests(session, run)]
    rows = [
        [
            one["request"],
            one["run"],
            one["model"],
            one["task"],
            one["state"],
            f"{one['scans'] - one['waiting']} of {one['scans']}",
            f"{one['made_at']:%Y-%m-%d %H:%M}",
        ]
        for one in documents
    ]
    header = ["request", "run", "model", "task", "state", "scans", "made"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("show")
def show_(
    request: NumberArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show a request: its arithmetic, how far each part is, its strata, and verification bias."""
    from monitor.episodes.episodes import require_episode
    from monitor.requests.listing import describe_request
    from monitor.requests.making import require_request
    from monitor.requests.resolving import progress_of
    from retrain import label_requesting, plans, runs

    driftward = opened(home)
    with driftward.database.reading() as session:
        row = require_request(session, request)
        run = runs.require_run(session, row.run)
        document = describe_request(session, row)
        outside = label_requesting.outside_labels(
            session, run, require_episode(session, row.episode)
        )
        progress = progress_of(session, row)
        document["power"] = label_requesting.achieved_power(
            progress, plans.by_id(session, run.plan).plan
        )
    document["outside"] = outside.to_dict()
    lines = [*_lines(document), "", "Labels that nobody requested", *outside.in_words()]
    show(document, as_json=as_json, lines=lines)


@app.command("export")
def export(
    request: NumberArgument,
    home: HomeOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", help="Write it there; by default to stdout.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
    form: Annotated[str, typer.Option("--format", help="csv, or fhir (R4).")] = "csv",
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is read already, or cannot be.")
    ] = False,
    private_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="X25519 private key in PEM: names originals in place of surrogates.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Why originals are named, for the ledger.", show_default=False),
    ] = None,
) -> None:
    """Export what is still to be read as a worklist, in a random order that says nothing else.

    With originals a filled-in CSV is a table of labels for `driftward label import`.
    """
    import json
    from dataclasses import asdict

    from monitor.requests import worklist
    from monitor.requests.making import require_request

    if form not in {"csv", "fhir"}:
        raise typer.BadParameter("csv or fhir", param_hint="--format")
    why = require_reason(reason or "") if private_key is not None else ""
    driftward = opened(home)
    with driftward.database.reading() as session:
        row = require_request(session, request)
        entries = worklist.worklist(session, row, everything=everything)
        instances = worklist.instances_of(session, [one.scan for one in entries])
    if private_key is not None:
        from monitor.intake.reidentifying import originals_of_scans

        originals = originals_of_scans(
            driftward.database,
            instances,
            private_key=private_key,
            subject=f"label request {request}",
            reason=why,
            by=driftward.whoever_runs_this(),
            clock=driftward.clock,
        )
        entries = worklist.named(entries, originals)
    elif entries:
        typer.echo(
            "these are surrogates, which an archive does not know: --private-key names originals",
            err=True,
        )
    if as_json:
        text = json.dumps([asdict(one) for one in entries], indent=2) + "\n"
    else:
        text = worklist.as_fhir(row, entries) if form == "fhir" else worklist.as_csv(entries)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
        typer.echo(f"{len(entries)} scans are written to {output}", err=True)


@app.command("unread")
def unread(
    request: NumberArgument,
    scans: Annotated[list[int], typer.Argument(metavar="SCAN...", min=1)],
    reason: Annotated[str, typer.Option("--reason", help=f"{_CODES}.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """State that SCANs of a request cannot be labelled; others may be called up for them."""
    from monitor.requests.making import require_request
    from monitor.requests.resolving import Unread, state_unread
    from registry.identities import Role

    if reason not in set(Unread):
        raise typer.BadParameter(f"one of {_CODES}", param_hint="--reason")
    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "state that scans cannot be labelled")
    with driftward.database.transaction() as session:
        stated = state_unread(
            session,
            require_request(session, request),
            scans,
            reason=Unread(reason),
            actor=by.name,
            at=driftward.clock.now(),
        )
    show(
        {"request": request, "stated": stated, "known": len(set(scans)) - stated},
        as_json=as_json,
        lines=[f"{stated} scans are no longer waited for"],
    )


@app.command("close")
def close(
    request: NumberArgument,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take what has come for all that will: the rest counts as not read."""
    from monitor.requests.making import require_request
    from registry.identities import Role
    from retrain import label_requesting

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "close a request of labels")
    with driftward.database.transaction() as session:
        row = require_request(session, request)
        rest = label_requesting.close(
            session, row, reason=reason, actor=by.name, at=driftward.clock.now()
        )
        ended = row.ended_reason
    show(
        {"request": request, "state": "complete", "not_read": rest, "ended_reason": ended},
        as_json=as_json,
        lines=[f"label request {request} is complete, {rest} scans were not read: {ended}"],
    )


@app.command("cancel")
def cancel(
    request: NumberArgument,
    reason: ReasonOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a request up: its run asks anew when it is decided about next."""
    from monitor.requests.making import require_request
    from registry.identities import Role
    from retrain import label_requesting

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "cancel a request of labels")
    with driftward.database.transaction() as session:
        row = require_request(session, request)
        label_requesting.cancel(
            session, row, reason=reason, actor=by.name, at=driftward.clock.now()
        )
    show(
        {"request": request, "state": "cancelled"},
        as_json=as_json,
        lines=[f"label request {request} is cancelled"],
    )


def _lines(document: dict[str, Any]) -> list[str]:
    frame = document["frame"]
    lines = [
        f"label request {document['request']} of run {document['run']} ({document['model']}, "
        f"{document['task']}): {document['state']}, {document['scans'] - document['waiting']} of "
        f"{document['scans']} scans resolved"
    ]
    if document["ended_reason"]:
        lines.append(document["ended_reason"])
    lines += ["", *document["arithmetic"]["sentences"]]
    lines += [
        f"Drawn from {frame['patients']} patients with {frame['scans']} scans, seed "
        f"{document['seed']}."
    ]
    lines += [f"{count} scans left out: {why}." for why, count in frame["left_out"].items()]
    if "power" in document:
        lines.append(
            f"What has come for the gates so far has a power of {document['power']:.2f}."
        )
    lines += [""]
    lines += table(
        [
            [
                part["part"],
                part["patients"],
                part["scans"],
                part["patients_labelled"],
                part["with_finding"],
                part["patients_not_read"],
                ", ".join(f"{n} {what}" for what, n in part["became"].items() if n),
            ]
            for part in document["parts"]
        ],
        header=[
            "part",
            "patients",
            "scans",
            "labelled",
            "with finding",
            "not read",
            "scans are",
        ],
    )
    lines += [""]
    lines += table(
        [
            [
                one["name"],
                one["patients"],
                one["drawn"],
                f"{one['chance']:.4f}",
                one["reserve"],
                one["read"],
                f"{one['weight']:.2f}" if one["weight"] else "–",
            ]
            for one in document["strata"]
        ],
        header=["stratum (gate)", "patients", "drawn", "chance", "reserve", "read", "weight"],
    )
    return lines


def _write(path: Path, text: str) -> None:
    from registry.errors import BadInputError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be written ({error.strerror}): give another --output"
        ) from error
