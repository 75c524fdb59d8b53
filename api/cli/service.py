"""`driftward init | up | serve | work | doctor`: the installation and its processes."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.options import HomeOption, JsonOption, opened, show

HostOption = Annotated[str, typer.Option("--host", help="Address to listen on.")]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
]
DEFAULT_PORT = 8321


def add_to(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("init")(init)
    app.command("up")(up)
    app.command("serve")(serve)
    app.command("work")(work)
    app.command("doctor")(doctor)


def init(
    home: HomeOption = None,
    as_json: JsonOption = False,
    name: Annotated[
        str | None,
        typer.Option(help="Your name in the ledger; by default the operating system's user."),
    ] = None,
) -> None:
    """Make a home: keys, database, ledger; and bind you to it, with every role."""
    from api.initialising import initialise
    from api.settings import chosen

    settings = chosen(home)
    identity = initialise(settings, name=name)
    document = {"home": str(settings.home), "identity": identity.name}
    lines = [
        f"{settings.home} is ready; you act in it as {identity.name}",
        "next: `driftward model import`, `driftward monitor apply`, `driftward up`",
    ]
    show(document, as_json=as_json, lines=lines)


def up(
    host: HostOption = "127.0.0.1", port: PortOption = DEFAULT_PORT, home: HomeOption = None
) -> None:
    """Run everything on this machine: pages, API, metrics, scheduler, a worker, the DICOM port.

    The port is opened where the home has a receiver.yaml that says who may send.
    """
    from api.http.serving import serve as serving

    serving(opened(home), host=host, port=port, with_worker=True)


def serve(
    host: HostOption = "127.0.0.1", port: PortOption = DEFAULT_PORT, home: HomeOption = None
) -> None:
    """Serve pages, API and metrics, and tick; workers run by themselves (`driftward work`)."""
    from api.http.serving import serve as serving

    serving(opened(home), host=host, port=port, with_worker=False)


def work(
    home: HomeOption = None,
    drain: Annotated[bool, typer.Option(help="Stop when no job waits.")] = False,
) -> None:
    """Do jobs: embed, evaluate, train, validate."""
    import signal
    import threading

    driftward = opened(home)
    worker = driftward.worker()
    if drain:
        typer.echo(f"{worker.drain()} jobs done", err=True)
        return
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    typer.echo("working; stop with Ctrl-C", err=True)
    worker.run_until(stop)


def doctor(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Look at the installation and say what is wrong with it; 1 if something is."""
    from api.doctor import examine
    from api.settings import chosen

    findings = examine(chosen(home))
    document = [
        {"check": item.check, "ok": item.ok, "detail": item.detail} for item in findings
    ]
    lines = [
        f"{'ok  ' if item.ok else 'FAIL'}  {item.check}: {item.detail}" for item in findings
    ]
    show(document, as_json=as_json, lines=lines)
    if not all(item.ok for item in findings):
        raise typer.Exit(1)
