"""`driftward monitor …`: what is watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import HomeOption, JsonOption, opened, show, table, text_of

app = typer.Typer(name="monitor", help="Say what is watched, and how.")


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a monitor into force, or change it."""
    from monitor.monitors import apply_monitor, parse_monitor

    driftward = opened(home)
    specification = parse_monitor(text_of(file), source=file.name)
    by = driftward.whoever_runs_this()
    with driftward.database.transaction() as session:
        monitor = apply_monitor(session, specification, actor=by.name, at=driftward.clock.now())
    document = {"monitor": monitor.name, "digest": monitor.digest}
    show(document, as_json=as_json, lines=[f"{monitor.name}  {monitor.digest[:12]}"])


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the monitors and how they stand."""
    from monitor import references
    from monitor.episodes import open_episode
    from monitor.monitors import all_monitors

    driftward = opened(home)
    with driftward.database.reading() as session:
        documents = []
        for monitor in all_monitors(session):
            episode = open_episode(session, monitor.name)
            documents.append(
                {
                    "monitor": monitor.name,
                    "model": monitor.specification.model,
                    "reference": references.trend(session, monitor.name) is not None,
                    "episode": episode.id if episode else None,
                }
            )
    rows = [
        [
            document["monitor"],
            document["model"],
            "accepted" if document["reference"] else "none yet",
            document["episode"] or "none",
        ]
        for document in documents
    ]
    lines = table(rows, header=["monitor", "model", "reference", "open episode"])
    show(documents, as_json=as_json, lines=lines)


@app.command("show")
def show_(name: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a monitor's specification."""
    import yaml

    from monitor.monitors import require_monitor

    driftward = opened(home)
    with driftward.database.reading() as session:
        monitor = require_monitor(session, name)
    document = monitor.specification.model_dump(mode="json")
    show(document, as_json=as_json, lines=[yaml.safe_dump(document, sort_keys=False).rstrip()])
