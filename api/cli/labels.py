"""`driftward label …`: delayed ground truth, who influenced it, and where readers disagree."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli import label_requests
from api.cli.options import (
    HomeOption,
    JsonOption,
    NumberArgument,
    SiteOption,
    as_utc,
    opened,
    show,
    table,
    text_of,
)
from monitor.following.words import counted

if TYPE_CHECKING:
    from monitor.labelling.listing import Agreement, DisputedScan
    from monitor.labelling.truth import Dispute, Truth
    from monitor.tables import LabelRow

app = typer.Typer(name="label", help="Bring ground truth in, and see what is true by it.")
mapping_app = typer.Typer(name="mapping", help="What codes of reports mean.")
app.add_typer(mapping_app)
app.add_typer(label_requests.app)

TaskOption = Annotated[
    str | None, typer.Option("--task", help="Of this task alone.", show_default=False)
]
OfSiteOption = Annotated[
    str | None, typer.Option("--site", help="Of this site alone.", show_default=False)
]
_HEADER = ("label", "scan", "task", "value", "provenance", "reader", "signed", "AI influence")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    site: SiteOption,
    home: HomeOption = None,
    as_json: JsonOption = False,
    provenance: Annotated[
        str | None,
        typer.Option(
            help="Of what a report states: reader (of DICOM by default), report (of FHIR), "
            "adjudicated, pathology or dataset; a CSV file says it in each row.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Import labels from CSV, a DICOM SR (TID 1500) or FHIR R4 JSON, the whole file or nothing.

    What they change (performance, impact, runs) is queued at once.
    """
    from monitor.labelling.provenance import Provenance
    from monitor.labelling.worklists import sites_without_statement

    if provenance is not None and provenance not in set(Provenance):
        raise typer.BadParameter(f"one of {', '.join(Provenance)}", param_hint="--provenance")
    driftward = opened(home)
    report = driftward.label_intake.add(
        file,
        site=site,
        by=driftward.whoever_runs_this(),
        provenance=None if provenance is None else Provenance(provenance),
    )
    with driftward.database.reading() as session:
        unstated = site in sites_without_statement(session)
    document = {
        "added": report.added,
        "known": report.known,
        "ai_influenced": report.ai_influenced,
        "disputed": report.disputed,
        "passed_over": report.passed_over,
        "worklist_stated": not unstated,
    }
    lines = [
        f"{counted(report.added, 'label')} added, {report.known} known before; "
        f"{report.ai_influenced} may have been influenced by an AI and enter no gate"
    ]
    if not (report.added or report.known or report.passed_over):
        lines.insert(0, f"{file.name} holds no labels")
    if report.disputed:
        lines.append(
            f"{'1 scan is' if report.disputed == 1 else f'{report.disputed:,} scans are'} disputed, "
            "without truth until adjudicated: see `driftward label disputed`"
        )
    if report.passed_over:
        lines.append(
            f"passed over: {counted(report.passed_over, 'coded statement')} of concepts that the "
            "mapping does not name"
        )
    if unstated:
        lines.append(
            "nobody stated who orders this site's worklist: if another product does, these labels "
            f"are influenced unseen; see `driftward label worklist {site} --help`"
        )
    show(document, as_json=as_json, lines=lines)


@app.command("list")
def list_(
    task: TaskOption = None,
    site: OfSiteOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="At most this many, newest first.", min=1)] = 20,
) -> None:
    """List the newest labels, each as it was signed."""
    from monitor.labelling.listing import describe_label, newest_labels

    driftward = opened(home)
    with driftward.database.reading() as session:
        rows = newest_labels(session, task=task, site=site, limit=limit)
    show(
        [describe_label(row) for row in rows],
        as_json=as_json,
        lines=table([_cells(row) for row in rows], header=_HEADER),
    )


@app.command("show")
def show_(scan: NumberArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what is true of one scan, and every label behind it."""
    from monitor.labelling.listing import describe_label, describe_truth, labels_of_scan
    from monitor.labelling.truth import decide

    driftward = opened(home)
    with driftward.database.reading() as session:
        by_task = labels_of_scan(session, scan)
    decided = {task: decide(rows) for task, rows in by_task.items()}
    document = {
        "scan": scan,
        "truth": [describe_truth(task, found) for task, found in decided.items()],
        "labels": [describe_label(row) for rows in by_task.values() for row in rows],
    }
    cells = [_cells(row) for rows in by_task.values() for row in rows]
    lines = [f"{task}: {_truth_words(found)}" for task, found in decided.items()]
    lines += ["", *table(cells, header=_HEADER)] if cells else ["no label has come for it"]
    show(document, as_json=as_json, lines=lines)


@app.command("disputed")
def disputed(
    task: TaskOption = None,
    site: OfSiteOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List scans whose readers disagree, to be adjudicated, and how far readers agree."""
    from monitor.labelling.listing import agreements, describe_label, disputed_scans

    driftward = opened(home)
    with driftward.database.reading() as session:
        found = disputed_scans(session, task=task, site=site)
        agreeing = agreements(session, task=task, site=site)
    document = {
        "disputed": [
            {
                "scan": one.scan,
                "task": one.task,
                "site": one.site,
                "since": one.since,
                "labels": [describe_label(row) for row in one.voices],
            }
            for one in found
        ],
        "agreement": [_agreement_document(one) for one in agreeing],
    }
    lines = _dispute_lines(found) if found else ["no scan is disputed"]
    lines += [line for one in agreeing for line in _agreement_lines(one)]
    show(document, as_json=as_json, lines=lines)


@app.command("worklist")
def worklist(
    site: Annotated[
        str | None, typer.Argument(metavar="[SITE]", help="All sites if none is given.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    ordered_by: Annotated[
        str | None,
        typer.Option(help="A model of this home, or the name of another product."),
    ] = None,
    by_no_ai: Annotated[
        bool, typer.Option("--by-no-ai", help="No AI orders the worklist of the site.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(help="From this time on (UTC), until that of the next statement."),
    ] = None,
) -> None:
    """State who orders a site's worklist, or show what is stated.

    What is stated counts for labels that are here, too: it is derived anew whether an AI
    influenced them.
    """
    from monitor.labelling.worklists import all_statements

    if ordered_by is not None and by_no_ai:
        raise typer.BadParameter("either --ordered-by or --by-no-ai, not both")
    stating = ordered_by is not None or by_no_ai
    if stating != (since is not None) or (stating and site is None):
        raise typer.BadParameter("a statement takes SITE, --since, and who orders the worklist")
    driftward = opened(home)
    changed = 0
    moment = as_utc(since)
    if site is not None and moment is not None:
        changed = driftward.label_intake.state_worklist(
            site=site,
            ordered_by=ordered_by,
            since=moment,
            by=driftward.whoever_runs_this(),
        )
    with driftward.database.reading() as session:
        rows = all_statements(session, site)
    document = {
        "statements": [
            {"site": row.site, "ordered_by": row.ordered_by, "since": row.since} for row in rows
        ],
        "labels_changed": changed,
    }
    lines = table(
        [[row.site, row.ordered_by or "no AI", f"{row.since:%Y-%m-%d %H:%M}"] for row in rows],
        header=["site", "ordered by", "since"],
    )
    if not rows:
        lines = ["nothing is stated: results of our own models count as if they ordered it"]
    if stating:
        lines.append(
            f"{counted(changed, 'label')} already here changed in whether an AI influenced them"
        )
    show(document, as_json=as_json, lines=lines)


@mapping_app.command("apply")
def mapping_apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what codes of reports mean from now on, on whichever road they come."""
    from monitor.labelling.mapping import parse_mapping

    driftward = opened(home)
    mapping = parse_mapping(text_of(file), source=file.name)
    found = driftward.label_intake.apply_mapping(mapping, by=driftward.whoever_runs_this())
    applied = found.specification
    show(
        {"name": applied.name, "version": applied.version, "digest": found.digest},
        as_json=as_json,
        lines=[
            f"mapping {applied.name} {applied.version} is in force: {len(applied.concepts)} "
            f"concepts of {len(applied.tasks)} tasks"
        ],
    )


@mapping_app.command("show")
def mapping_show(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the mapping in force."""
    import yaml

    from monitor.labelling.mapping import mapping_in_force

    driftward = opened(home)
    with driftward.database.reading() as session:
        found = mapping_in_force(session)
    if found is None:
        show(None, as_json=as_json, lines=["none is in force: see docs/labels.md"])
        return
    specification = found.specification.model_dump(mode="json")
    document = {
        "digest": found.digest,
        "applied_at": found.applied_at,
        "specification": specification,
    }
    text = yaml.safe_dump(specification, sort_keys=False, allow_unicode=True)
    show(document, as_json=as_json, lines=[f"# digest {found.digest}", text.rstrip()])


def _cells(row: LabelRow) -> list[object]:
    from monitor.labelling.influence import words_of

    influenced = "yes" if row.ai_influenced else "no"
    return [
        row.id,
        row.scan,
        row.task,
        _value(row.value, row.classes),
        row.provenance,
        row.reader or "–",
        f"{row.signed_at:%Y-%m-%d %H:%M}" if row.signed_at else "unknown",
        f"{influenced}: {words_of(row.influence_reason)}",
    ]


def _value(value: int, classes: Any) -> str:
    return str(value) if classes is None else ", ".join(classes) or "no class"


def _truth_words(found: Truth | Dispute) -> str:
    from monitor.labelling.truth import Dispute

    if isinstance(found, Dispute):
        return "disputed: no truth until it is adjudicated"
    influence = "; an AI may have influenced it: it enters no gate" * found.ai_influenced
    value = _value(found.value, found.classes)
    labels = counted(len(found.labels), "label")
    return f"{value} ({found.provenance.value}, {labels} counted{influence})"


def _dispute_lines(found: list[DisputedScan]) -> list[str]:
    rows = [
        [
            one.scan,
            one.task,
            one.site,
            f"{one.since:%Y-%m-%d %H:%M}",
            "; ".join(
                f"{row.reader or row.provenance}: {_value(row.value, row.classes)}"
                for row in one.voices
            ),
        ]
        for one in found
    ]
    return table(rows, header=["scan", "task", "site", "since", "said"])


def _agreement_lines(one: Agreement) -> list[str]:
    what = one.task if one.about is None else f"{one.task}, {one.about}"
    lines = ["", f"{what}:"]
    lines += [
        f"  {pair.readers[0]} and {pair.readers[1]} agree on {pair.agreed} of {pair.scans} scans, "
        f"Cohen's kappa {_kappa(pair.kappa)}"
        for pair in one.pairs
    ]
    lines += [
        f"  {group.readers} readers agree on {group.unanimous} of {group.scans} scans, "
        f"Fleiss' kappa {_kappa(group.kappa)}"
        for group in one.groups
    ]
    return lines


def _kappa(kappa: float | None) -> str:
    return "undefined: all said the same" if kappa is None else f"{kappa:.2f}"


def _agreement_document(one: Agreement) -> dict[str, object]:
    return {
        "task": one.task,
        "about": one.about,
        "pairs": [
            {
                "readers": list(pair.readers),
                "scans": pair.scans,
                "agreed": pair.agreed,
                "cohen_kappa": pair.kappa,
            }
            for pair in one.pairs
        ],
        "groups": [
            {
                "readers": group.readers,
                "scans": group.scans,
                "unanimous": group.unanimous,
                "fleiss_kappa": group.kappa,
            }
            for group in one.groups
        ],
    }
