"""`driftward scan …`: intake from folders, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli import quarantine
from api.cli.options import (
    HomeOption,
    JsonOption,
    NumberArgument,
    ReasonOption,
    SiteOption,
    opened,
    show,
    table,
)

app = typer.Typer(name="scan", help="Take scans in, and see what came of them.")
app.add_typer(quarantine.app)


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
        "followed": report.followed,
        "reasons": report.reasons,
    }
    lines = [
        f"{report.added} scans added, {report.known} known before, "
        f"{report.quarantined} quarantined",
        *[f"  {count} × {reason}" for reason, count in sorted(report.reasons.items())],
    ]
    if report.followed:
        lines.append(f"documents that reject instances, followed: {report.followed}")
    show(document, as_json=as_json, lines=lines)


@app.command("list")
def list_(
    home: HomeOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="At most this many, newest first.", min=1)] = 20,
) -> None:
    """List the newest scans."""
    from sqlalchemy import select

    from monitor.intake.study_time import months_until
    from monitor.tables import ScanRow

    driftward = opened(home)
    with driftward.database.reading() as session:
        scans = session.scalars(select(ScanRow).order_by(ScanRow.id.desc()).limit(limit)).all()
    documents = [
        {
            "scan": scan.id,
            "site": scan.site,
            "unit": scan.unit,
            "modality": scan.modality,
            "view": scan.view,
            "scanner": f"{scan.manufacturer or '?'} {scan.scanner_model or '?'}",
            "software_version": scan.software_version,
            "study_date": scan.study_date,
            "months_after_study": months_until(scan.study_date, scan.arrived_at),
            "arrived_at": scan.arrived_at,
        }
        for scan in scans
    ]
    rows = [
        [
            document["scan"],
            document["site"],
            document["unit"],
            document["modality"],
            document["view"] or "–",
            document["scanner"],
            document["software_version"] or "–",
            f"{document['arrived_at']:%Y-%m-%d %H:%M}",
            document["study_date"] or "–",
        ]
        for document in documents
    ]
    header = [
        "scan",
        "site",
        "unit",
        "modality",
        "view",
        "scanner",
        "software",
        "arrived",
        "study",
    ]
    show(documents, as_json=as_json, lines=table(rows, header=header))


@app.command("show")
def show_(scan: NumberArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one scan: its attributes, who read it, and what was said of it."""
    import yaml

    from monitor.scan_history import describe_scan

    driftward = opened(home)
    with driftward.database.reading() as session:
        document = describe_scan(session, scan)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    show(document, as_json=as_json, lines=[text.rstrip()])


@app.command("merge-patient")
def merge_patient(
    site: SiteOption,
    reason: ReasonOption,
    merged: Annotated[
        str | None,
        typer.Option(help="Patient ID that is no longer in use; asked for if not given."),
    ] = None,
    patient: Annotated[
        str | None,
        typer.Option(help="Patient ID of the same patient; asked for if not given."),
    ] = None,
    issuer: Annotated[
        str, typer.Option(help="Issuer of Patient ID, of both, where instances state one.")
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let two identifiers of a site name one patient from now on; neither is kept.

    Left out, they are asked for, so that none stands in a shell's history.
    """
    from monitor.assembling.stating import state_merge

    driftward = opened(home)
    changed = state_merge(
        driftward.database,
        driftward.pseudonym_keys,
        site=site,
        merged=merged or typer.prompt("Patient ID that is no longer in use", err=True),
        patient=patient or typer.prompt("Patient ID of the same patient", err=True),
        issuer=issuer,
        reason=reason,
        by=driftward.whoever_runs_this(),
        at=driftward.clock.now(),
    )
    line = "both name one patient from now on" if changed else "both named one patient before"
    show({"merged": changed}, as_json=as_json, lines=[line])


@app.command("verify")
def verify(
    home: HomeOption = None,
    as_json: JsonOption = False,
    sample: Annotated[
        int | None,
        typer.Option(help="At most this many, at random; by default all.", min=1),
    ] = None,
) -> None:
    """Read stored files anew, and look for what must not be in them; 1 if something is."""
    from api.progress import progress_bar
    from monitor.intake.study_time import StudyTime
    from monitor.intake.verifying import verify_files

    driftward = opened(home)
    with progress_bar("reading files") as tell:
        found = verify_files(
            driftward.database,
            driftward.vault,
            sample=sample,
            tell=tell,
            study_time=StudyTime(driftward.settings.study_time),
        )
    faults = sorted(
        ((fault.element, fault.finding.value, files) for fault, files in found.faults.items()),
        key=lambda line: (-line[2], line[0]),
    )
    document = {
        "checked": found.checked,
        "clean": found.clean,
        "gone": found.gone,
        "damaged": list(found.damaged),
        "faults": [
            {"element": element, "finding": finding, "files": files}
            for element, finding, files in faults
        ],
        "scans": list(found.faulty),
    }
    lines = [
        f"{found.checked:,} files checked, "
        + ("nothing is in them but what may be" if not faults else "NOT CLEAN"),
        *[
            f"  {element or 'the file'}: {finding}, in {files:,} files"
            for element, finding, files in faults
        ],
    ]
    if found.faulty:
        lines.append(f"  in scans {', '.join(map(str, found.faulty[:20]))}")
    if found.gone:
        lines.append(f"{found.gone:,} were removed by retention")
    if found.damaged:
        lines.append(
            f"{len(found.damaged):,} are damaged: restore the vault from a backup; scans "
            f"{', '.join(map(str, found.damaged[:20]))}"
        )
    show(document, as_json=as_json, lines=lines)
    if not found.clean:
        raise typer.Exit(1)
