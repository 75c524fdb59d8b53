"""`driftward receive`: the DICOM port."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import HomeOption, opened


def add_to(app: typer.Typer) -> None:
    """Add this command to the root."""
    app.command("receive")(receive)


def receive(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE.yaml",
            help="Who may send: docs/intake.md; by default receiver.yaml in the home.",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")
    ] = None,
    aet: Annotated[str | None, typer.Option(help="The AE title that senders call.")] = None,
    site: Annotated[
        str | None, typer.Option(help="Site of senders that the file gives none.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Also serve /metrics of the receiver, on loopback."
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Receive scans over the DICOM network (C-STORE, C-ECHO) until told to stop."""
    from api.receiving import receive_until_stopped, receiver_settings

    driftward = opened(home)
    given = {"host": host, "port": port, "title": aet, "site": site}
    if config is None and driftward.home.receiver.exists():
        config = driftward.home.receiver
    settings = receiver_settings(
        config, {name: value for name, value in given.items() if value is not None}
    )

    def listening(bound: int) -> None:
        where = f"{settings.host}:{bound}"
        typer.echo(f"receiving as {settings.title} on {where}; stop with Ctrl-C", err=True)

    receive_until_stopped(driftward, settings, listening=listening, metrics_port=metrics_port)
