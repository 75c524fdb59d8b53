"""Options that many commands share, and how a command opens its installation."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from registry.errors import BadInputError
from registry.reasons import stated

if TYPE_CHECKING:
    from api.assembly import Driftward

HomeOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Where everything is kept (or DRIFTWARD_HOME; ./driftward-home by default).",
        show_default=False,
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout.")
]


def require_site(name: str) -> str:
    """Return a site's name, if it is one."""
    if not re.fullmatch(r"[^\x00-\x1f\x7f/\\]{1,64}", name):
        raise typer.BadParameter("a site has 1 to 64 characters, none of them / or \\")
    return name


SiteOption: TypeAlias = Annotated[
    str, typer.Option("--site", help="The site that sent them.", callback=require_site)
]
#: Of an episode, a run or a scan: no larger than the database counts.
NumberArgument: TypeAlias = Annotated[int, typer.Argument(min=1, max=2**63 - 1)]
SinceOption: TypeAlias = Annotated[
    datetime | None,
    typer.Option("--since", help="From this time on (UTC).", show_default=False),
]
UntilOption: TypeAlias = Annotated[
    datetime | None,
    typer.Option("--until", help="Before this time (UTC).", show_default=False),
]


def require_reason(reason: str) -> str:
    """Return a reason as the ledger keeps it, if it is one."""
    try:
        return stated(reason)
    except BadInputError as error:
        raise typer.BadParameter(str(error), param_hint="--reason") from None


ReasonOption: TypeAlias = Annotated[
    str, typer.Option("--reason", help="Why, for the ledger.", callback=require_reason)
]


def opened(home: Path | None) -> Driftward:
    """Open the installation that `--home` or the environment names."""
    from api.assembly import Driftward
    from api.logs import configure_logs
    from api.settings import chosen

    configure_logs()
    settings = chosen(home)
    return Driftward.open(settings)


def text_of(file: Path) -> str:
    """Read a file that the command line names.

    Raises
    ------
    BadInputError
        If it cannot be read, or is not UTF-8 text.
    """
    try:
        return bytes_of(file).decode()
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file} is not UTF-8 text: save it as UTF-8") from error


def bytes_of(file: Path) -> bytes:
    """Read a file that the command line names, whatever it holds.

    Raises
    ------
    BadInputError
        If it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"{file} cannot be read ({error.strerror}): give a file that can"
        ) from error


def as_utc(moment: datetime | None) -> datetime | None:
    """Read a time of the command line as UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def show(document: Any, *, as_json: bool, lines: Iterable[str]) -> None:
    """Print a document for machines, or its lines for people."""
    if as_json:
        json.dump(document, sys.stdout, indent=2, default=_plain)
        sys.stdout.write("\n")
    else:
        for line in lines:
            typer.echo(line)


def _plain(value: object) -> str:
    """Return what JSON has no type for: times as all other documents have them."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def table(rows: Iterable[Iterable[object]], *, header: Iterable[str]) -> list[str]:
    """Return rows as aligned text, each column as wide as its widest cell."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
