"""`driftward watch show`: the first weeks of what was promoted, against what its gates promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from api.cli.options import HomeOption, JsonOption, opened, show

app = typer.Typer(
    name="watch",
    help="Promoted versions' first weeks, against what their gates promised.",
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Promoted versions' first weeks, against what their gates promised."""


@app.command("show")
def show_watches(model: str, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the watches over MODEL, newest first: state, what labels say, what was promised."""
    from registry.versions import require_model
    from retrain.watching.showing import told, watches_of

    driftward = opened(home)
    with driftward.database.reading() as session:
        require_model(session, model)
        documents: list[dict[str, Any]] = [
            told(session, row) for row in watches_of(session, model)
        ]
    lines = [line for document in documents for line in _lines(document)]
    none = [f"{model} was never watched: the plan of a promotion says whether (key `watch`)"]
    show(documents, as_json=as_json, lines=lines or none)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    from retrain.watching.showing import sentences, then

    yield (
        f"{document['version']} {document['deployment']}: {document['state']}, "
        f"{document['since']} to {document['ended_at'] or document['until']}, "
        f"{document['looks']} looks"
    )
    if document["note"]:
        yield f"  {document['note']}"
    else:
        yield from (f"  {line}" for line in sentences(document))
    if document["next_look"] is not None:
        after = then(document)
        yield f"  next look {document['next_look'][:16].replace('T', ' ')} UTC; {after}"
    if document["offered"] is not None:
        yield f"  `{document['offered']}` restores the version before it"
