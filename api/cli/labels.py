"""`driftward label …`: delayed ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import HomeOption, JsonOption, SiteOption, opened, show

app = typer.Typer(name="label", help="Bring ground truth in.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv")],
    site: SiteOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import labels; what they change (performance, impact, runs) is queued at once."""
    driftward = opened(home)
    report = driftward.label_intake.add(file, site=site, by=driftward.whoever_runs_this())
    document = {
        "added": report.added,
        "known": report.known,
        "ai_influenced": report.ai_influenced,
    }
    show(
        document,
        as_json=as_json,
        lines=[
            f"{report.added} labels added, {report.known} known before; "
            f"{report.ai_influenced} may have been influenced by an AI and enter no gate"
        ],
    )
