"""The command line's root: its groups, and the one place that maps errors to exit codes.

0 done, 1 refused or failed, 2 misused.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from api.cli import (
    audit,
    demo,
    deployments,
    episodes,
    keys,
    labels,
    models,
    monitors,
    plans,
    receive,
    references,
    runs,
    scans,
    service,
    sources,
    tokens,
    use,
    users,
    watches,
)
from registry.errors import DriftwardError

app = typer.Typer(
    name="driftward",
    help="Watch the foundation models that read a hospital's scans, and keep them fit.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
for group in (
    audit,
    deployments,
    episodes,
    keys,
    labels,
    models,
    monitors,
    plans,
    references,
    runs,
    scans,
    sources,
    tokens,
    users,
    watches,
):
    app.add_typer(group.app)
for module in (demo, service, receive, use, references, runs):
    module.add_to(app)


@app.callback(invoke_without_command=True)
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    """Watch the foundation models that read a hospital's scans, and keep them fit."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("driftward"))
        raise typer.Exit


def main() -> None:
    """Run the command line, and exit with its code; misuse is the parser's to report."""
    try:
        app()
    except DriftwardError as error:
        typer.echo(f"driftward: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read the output has gone; there is nobody left to tell.
        sys.stderr.close()
        sys.exit(1)
