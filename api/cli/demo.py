"""`driftward demo`: the whole loop on the sample scans."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.options import HomeOption, JsonOption, show


def add_to(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command("demo")(demo)


def demo(
    home: HomeOption = None,
    as_json: JsonOption = False,
    leave: Annotated[
        bool, typer.Option("--exit", help="End after the story instead of serving the pages.")
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Which scans arrive when, and all that is drawn.")
    ] = 0,
    shift: Annotated[
        bool, typer.Option("--shift/--no-shift", help="Whether the scanner gets new software.")
    ] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the pages.")] = 8321,
) -> None:
    """Play four weeks: scans drift, a model is repaired; then serve the dashboard on loopback."""
    from api.demo.playing import play
    from api.settings import chosen

    settings = chosen(home)
    played = play(settings, seed=seed, shift=shift, port=None if leave else port)
    if as_json:
        show(played.document, as_json=True, lines=[])
    if not leave:
        from api.http.serving import serve

        serve(played.driftward, host="127.0.0.1", port=port, with_worker=True)
