"""`driftward monitor …`: what is watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.options import HomeOption, JsonOption, opened, show, table, text_of
from api.cli.silence import alarm_lines, silence
from api.cli.stream import stream

app = typer.Typer(name="monitor", help="Say what is watched, and how.")


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a monitor into force, or change it."""
    from monitor.monitors import apply_file

    driftward = opened(home)
    text = text_of(file)
    by = driftward.whoever_runs_this()
    with driftward.database.transaction() as session:
        monitor = apply_file(
            session, text, source=file.name, actor=by.name, at=driftward.clock.now()
        )
    document = {"monitor": monitor.name, "digest": monitor.digest}
    show(document, as_json=as_json, lines=[f"{monitor.name}  {monitor.digest[:12]}"])


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the monitors and how they stand."""
    from monitor import references
    from monitor.episodes.episodes import open_episodes
    from monitor.monitors import all_monitors

    driftward = opened(home)
    with driftward.database.reading() as session:
        documents: list[dict[str, Any]] = [
            {
                "monitor": monitor.name,
                "model": monitor.specification.model,
                "reference": references.trend(session, monitor.name) is not None,
                "episodes": [row.id for row in open_episodes(session, monitor.name)],
            }
            for monitor in all_monitors(session)
        ]
    rows = [
        [
            document["monitor"],
            document["model"],
            "accepted" if document["reference"] else "none yet",
            ", ".join(str(one) for one in document["episodes"]) or "none",
        ]
        for document in documents
    ]
    lines = table(rows, header=["monitor", "model", "reference", "open episode"])
    show(documents, as_json=as_json, lines=lines)


@app.command("show")
def show_(name: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a monitor's specification, and which of its sources are silent."""
    import yaml

    from monitor.monitors import require_monitor
    from monitor.silence.standing import describe_alarm, silence_standing

    driftward = opened(home)
    with driftward.database.reading() as session:
        monitor = require_monitor(session, name)
        standing = silence_standing(session, monitor, now=driftward.clock.now())
    document = monitor.specification.model_dump(mode="json")
    text = yaml.safe_dump(document, sort_keys=False).rstrip()
    document["silence_alarms"] = [describe_alarm(row) for row in standing.open]
    show(document, as_json=as_json, lines=[text, "", *alarm_lines(standing)])


app.command("silence")(silence)
app.command("stream")(stream)
