"""`driftward source …`: where scans come from, beside the DICOM port."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import HomeOption, JsonOption, opened, show, table, text_of

if TYPE_CHECKING:
    from api.assembly import Driftward
    from monitor.sources.catalogue import AppliedSource, SourceStanding

app = typer.Typer(name="source", help="Say where scans come from: Orthanc, folders, DICOMweb.")


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a source into force, or change it."""
    from monitor.sources.catalogue import apply_source
    from monitor.sources.checking import require_usable
    from monitor.sources.settings import parse_source
    from registry.identities import Role

    driftward = opened(home)
    specification = parse_source(text_of(file), source=file.name)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "say where scans come from")
    require_usable(specification)
    with driftward.database.transaction() as session:
        source = apply_source(session, specification, actor=by.name, at=driftward.clock.now())
    document = {"source": source.name, "digest": source.digest}
    show(document, as_json=as_json, lines=[f"{source.name}  {source.digest[:12]}"])


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the sources, how far each was read, and what is wrong with it."""
    _show_all(opened(home), as_json=as_json)


@app.command("show")
def show_(name: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a source's specification, and what came by it."""
    import yaml

    from monitor.sources.catalogue import require_source, standing_of

    driftward = opened(home)
    with driftward.database.reading() as session:
        source = require_source(session, name)
        standing = standing_of(session, name)
    specification = source.specification.model_dump(mode="json")
    document = {**document_of(source, standing), "specification": specification}
    lines = [yaml.safe_dump(specification, sort_keys=False).rstrip(), ""]
    lines += [f"{outcome:<12} {number:,}" for outcome, number in standing.counts.items()]
    if standing.backlog is not None:
        lines.append(f"{'backlog':<12} {standing.backlog:,}")
    lines.append(f"last success {_minute(standing.last_success_at)} UTC")
    if standing.began_anew_at is not None:
        lines.append(
            f"began anew   {_minute(standing.began_anew_at)} UTC: its feed was cleared, or the "
            "server is another one"
        )
    if standing.failing_since is not None:
        lines.append(
            f"FAILS since  {_minute(standing.failing_since)} UTC: {standing.last_error}"
        )
    show(document, as_json=as_json, lines=lines)


@app.command("remove")
def remove(name: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Take a source out of force; its scans stay, and so does how far it was read."""
    from monitor.sources.catalogue import remove_source
    from registry.identities import Role

    driftward = opened(home)
    by = driftward.whoever_runs_this()
    by.require(Role.OPERATOR, "say where scans come from")
    with driftward.database.transaction() as session:
        remove_source(session, name, actor=by.name, at=driftward.clock.now())
    show({"removed": name}, as_json=as_json, lines=[f"{name} is no longer a source"])


@app.command("follow")
def follow(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)
    ] = None,
    home: HomeOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="Read what is there, and stop; 1 if one fails.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Follow sources, by default all of them, until told to stop; then say how they stand."""
    import signal
    import threading

    driftward = opened(home)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if once:
        driftward.followers.follow_once(names or (), stop=stop)
    else:
        typer.echo("following; stop with Ctrl-C", err=True)
        driftward.followers.run_until(stop, names or ())
    _show_all(driftward, as_json=as_json)


def _show_all(driftward: Driftward, *, as_json: bool) -> None:
    from monitor.sources.catalogue import all_sources, standing_of

    with driftward.database.reading() as session:
        found = [(source, standing_of(session, source.name)) for source in all_sources(session)]
    documents = [document_of(source, standing) for source, standing in found]
    rows = [
        [
            document["source"],
            document["kind"],
            ", ".join(document["sites"]),
            document["counts"].get("added", 0),
            "-" if document["backlog"] is None else document["backlog"],
            _minute(standing.last_success_at),
            "ok" if standing.failing_since is None else "FAILS",
        ]
        for document, (_, standing) in zip(documents, found, strict=True)
    ]
    header = ["source", "kind", "site", "added", "backlog", "last success (UTC)", ""]
    lines = table(rows, header=header) if rows else ["no source was applied yet"]
    lines += [
        f"{source.name} fails since {_minute(standing.failing_since)} UTC: {standing.last_error}"
        for source, standing in found
        if standing.failing_since is not None
    ]
    show(documents, as_json=as_json, lines=lines)


def document_of(source: AppliedSource, standing: SourceStanding) -> dict[str, Any]:
    """Return how a source stands, as JSON."""
    return {
        "source": source.name,
        "kind": source.specification.kind,
        "sites": list(source.specification.of_sites),
        "applied_at": source.applied_at,
        "counts": dict(standing.counts),
        "backlog": standing.backlog,
        "oldest_unread_at": standing.oldest_unread_at,
        "began_anew_at": standing.began_anew_at,
        "last_success_at": standing.last_success_at,
        "failing_since": standing.failing_since,
        "last_error": standing.last_error,
    }


def _minute(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
