"""`driftward scan …`: intake from folders, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import HomeOption, JsonOption, SiteOption, opened, show, table

app = typer.Typer(name="scan", help="Take scans in, and see what came of them.")


@app.command("add")
def add(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...")],
    site: SiteOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in DICOM files, or every file of a folder; a file that came before is not taken twice."""
    from api.progress import progress_bar

    driftward = opened(home)
    with progress_bar("taking scans in") as tell:
        report = driftward.intake.add(paths, site=site, tell=tell)
    document = {
        "added": report.added,
        "known": report.known,
        "quarantined": report.quarantined,
        "reasons": report.reasons,
    }
    lines = [
        f"{report.added} scans added, {report.known} known before, "
        f"{report.quarantined} quarantined",
        *[f"  {count} × {reason}" for reason, count in sorted(report.reasons.items())],
    ]
    show(document, as_json=as_json, lines=lines)


@app.command("list")
def list_(
    home: HomeOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="At most this many, newest first.", min=1)] = 20,
) -> None:
    """List the newest scans."""
    from sqlalchemy import select

    from monitor.tables import ScanRow

    driftward = opened(home)
    with driftward.database.reading() as session:
        scans = session.scalars(select(ScanRow).order_by(ScanRow.id.desc()).limit(limit)).all()
    documents = [
        {
            "scan": scan.id,
            "site": scan.site,
            "modality": scan.modality,
            "view": scan.view,
            "scanner": f"{scan.manufacturer or '?'} {scan.scanner_model or '?'}",
            "software_version": scan.software_version,
            "arrived_at": scan.arrived_at,
        }
        for scan in scans
    ]
    rows = [
        [
            document["scan"],
            document["site"],
            document["modality"],
            document["view"] or "–",
            document["scanner"],
            document["software_version"] or "–",
            f"{document['arrived_at']:%Y-%m-%d %H:%M}",
        ]
        for document in documents
    ]
    header = ["scan", "site", "modality", "view", "scanner", "software", "arrived"]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("show")
def show_(scan: int, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one scan: its attributes, who read it, and what was said of it."""
    import yaml

    from monitor.scan_history import describe_scan

    driftward = opened(home)
    with driftward.database.reading() as session:
        document = describe_scan(session, scan)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    show(document, as_json=as_json, lines=[text.rstrip()])


@app.command("quarantine")
def quarantine(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List what was quarantined, and why."""
    driftward = opened(home)
    documents = [
        {
            "item": item.id,
            "reason": item.reason,
            "bytes": item.size,
            "since": item.at,
        }
        for item in driftward.quarantine.items()
    ]
    rows = [
        [
            document["item"],
            document["reason"],
            document["bytes"],
            f"{document['since']:%Y-%m-%d %H:%M}",
        ]
        for document in documents
    ]
    lines = table(rows, header=["item", "reason", "bytes", "since"])
    show(documents, as_json=as_json, lines=lines)
