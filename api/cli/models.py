"""`driftward model …`: what is registered, and how versions descend from each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import HomeOption, JsonOption, opened, show, table

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from registry.versions import VersionRow

app = typer.Typer(name="model", help="Register models, and see how they descend.")

VersionArgument = Annotated[str, typer.Argument(metavar="NAME@VERSION")]


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A bundle, a Hugging Face directory, or an ONNX file."
        ),
    ],
    name: Annotated[str, typer.Option(help="The model's name.")],
    tier: Annotated[str, typer.Option(help="general, modality, organ or task.")],
    base: Annotated[
        str | None, typer.Option(help="NAME@VERSION that it was derived from.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="card.yaml of an encoder that is no bundle yet.")
    ] = None,
    preprocessing: Annotated[
        Path | None, typer.Option(help="preprocessing.json of such an encoder.")
    ] = None,
    embedding: Annotated[
        str | None, typer.Option(help="Output of an ONNX file that is its embedding.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import a bundle, or an encoder of which one is made, as the next version of a model."""
    from registry import outbox
    from registry.bundle_import import import_bundle
    from registry.encoder_import import bundle_of
    from registry.errors import BadInputError
    from registry.versions import VersionRef, ref

    driftward = opened(home)
    with bundle_of(
        source,
        card=card,
        preprocessing=preprocessing,
        embedding=embedding,
        work=driftward.home.work,
    ) as bundle:
        stated = bundle.card.tier
        if stated != tier:
            raise BadInputError(
                f"{source}: its card states the tier {stated.value}, not {tier}: correct one of "
                "them"
            )
        version = import_bundle(
            driftward.database,
            driftward.tracking,
            bundle.root,
            model=name,
            base=VersionRef.parse(base) if base else None,
            by=driftward.whoever_runs_this(),
            at=driftward.clock.now(),
        )
    outbox.deliver(driftward.database, driftward.tracking)
    document = {"version": str(ref(version)), "digest": version.bundle_digest}
    show(document, as_json=as_json, lines=[f"{ref(version)}  {version.bundle_digest[:12]}"])


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List every version, and which of them is the champion."""
    from sqlalchemy import select

    from registry.versions import VersionRow

    driftward = opened(home)
    with driftward.database.reading() as session:
        versions = session.scalars(select(VersionRow).order_by(VersionRow.id)).all()
        documents = [_describe(session, version) for version in versions]
    header = ["version", "tier", "base", "in use", "registered"]
    rows = [
        [
            document["version"],
            document["tier"],
            document["base"] or "–",
            " ".join(
                [
                    *(["champion"] if document["champion"] else []),
                    *(["RECALLED"] if document["recalled"] else []),
                ]
            ),
            f"{document['created_at']:%Y-%m-%d %H:%M}",
        ]
        for document in documents
    ]
    lines = table(rows, header=header)
    lines += [document["recalled"] for document in documents if document["recalled"]]
    show(documents, as_json=as_json, lines=lines)


@app.command("show")
def show_(
    version: VersionArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show one version: its card, digests and origin."""
    import yaml

    from registry.versions import find

    driftward = opened(home)
    with driftward.database.reading() as session:
        document = _describe(session, find(session, version))
    text = yaml.safe_dump(
        {**document, "created_at": str(document["created_at"])},
        sort_keys=False,
        allow_unicode=True,
    )
    show(document, as_json=as_json, lines=[text.rstrip()])


@app.command("lineage")
def lineage_(
    version: VersionArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """Show what a version was made of: its bases, data and run."""
    from registry import lineage
    from registry.versions import find

    driftward = opened(home)
    with driftward.database.reading() as session:
        row = find(session, version)
        documents = [
            _describe(session, part) for part in (row, *lineage.ancestors(session, row))
        ]
    lines: list[str] = []
    for depth, document in enumerate(documents):
        arrow = "" if depth == 0 else f"{'   ' * (depth - 1)}└─ from "
        lines.append(f"{arrow}{document['version']}  {document['tier']}, {document['origin']}")
        lines += [
            f"{'   ' * depth}   data {(data['digest'] or 'not at hand')[:12]}  "
            f"{data['scans']} scans, {data['description']}"
            for data in document["card"]["training_data"]
        ]
    show(documents, as_json=as_json, lines=lines)


@app.command("descendants")
def descendants(
    version: VersionArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List every version derived from this one, at any depth."""
    from registry import lineage
    from registry.versions import find

    driftward = opened(home)
    with driftward.database.reading() as session:
        row = find(session, version)
        documents = [_describe(session, part) for part in lineage.descendants(session, row)]
    lines = [f"{document['version']}  from {document['base']}" for document in documents]
    show(documents, as_json=as_json, lines=lines or [f"nothing is derived from {version}"])


def _describe(session: Session, row: VersionRow) -> dict[str, Any]:
    from registry import recalls, serving
    from registry.versions import VersionRow, ref

    flag = recalls.flag_of(session, row)
    base = session.get(VersionRow, row.base) if row.base is not None else None
    serves = serving.deployments_of(session, row)
    return {
        "version": str(ref(row)),
        "tier": row.tier,
        "origin": row.origin,
        "base": str(ref(base)) if base else None,
        "champion": bool(serves),
        "serves": serves,
        "recalled": flag.in_words() if flag else None,
        "digest": row.bundle_digest,
        "space": row.space,
        "mlflow_run": row.mlflow_run,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "card": row.card,
    }
