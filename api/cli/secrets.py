"""Secrets at the command line: asked for without echo, or read from a file; never an argument."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from registry.errors import BadInputError

if TYPE_CHECKING:
    from pathlib import Path

    from api.settings import Settings


def new_password(settings: Settings, *, whose: str) -> str:
    """Ask twice for a password to set; or read DRIFTWARD_NEW_PASSWORD_FILE.

    Raises
    ------
    BadInputError
        If there is nobody to ask.
    """
    if settings.new_password_file is not None:
        return _of_file(settings.new_password_file)
    _require_a_person("DRIFTWARD_NEW_PASSWORD_FILE")
    found: str = typer.prompt(
        f"new password of {whose}", hide_input=True, confirmation_prompt=True, err=True
    )
    return found


def shown_secret(settings: Settings, what: str) -> str:
    """Ask for a password or token that proves who acts; or read DRIFTWARD_SIGNING_PASSWORD_FILE.

    Raises
    ------
    BadInputError
        If there is nobody to ask.
    """
    if settings.signing_password_file is not None:
        return _of_file(settings.signing_password_file)
    _require_a_person("DRIFTWARD_SIGNING_PASSWORD_FILE")
    found: str = typer.prompt(what, hide_input=True, err=True)
    return found


def _of_file(file: Path) -> str:
    from api.settings import secret_of

    return secret_of(file)


def _require_a_person(variable: str) -> None:
    if not sys.stdin.isatty():
        raise BadInputError(
            f"a secret is asked for, and nobody is at the terminal: name a file in {variable}"
        )
