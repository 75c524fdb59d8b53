"""The command line's reference page: `python -m api.cli.documentation > docs/command-line.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import cast

import typer.main
from typer.core import TyperCommand, TyperGroup, TyperOption

PREFACE = """# Command line

Data go to stdout and progress to stderr. `--json` prints one JSON document instead of text.
Exit codes: 0 done, 1 refused or failed, 2 misused. `NO_COLOR` is honoured. Every command takes
`--home DIR` (or `DRIFTWARD_HOME`; by default `./driftward-home`).

Who acts is the identity to which the operating system's user was bound by `driftward init`; or,
where `DRIFTWARD_TOKEN` (or a file that `DRIFTWARD_TOKEN_FILE` names) holds a token, its user.

This page is written from the commands themselves: `python -m api.cli.documentation`.
"""


def commands(group: TyperGroup, path: str) -> Iterator[tuple[str, TyperCommand]]:
    """Yield every command below a group, with the words that call it."""
    for name in sorted(group.commands):
        command = group.commands[name]
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", cast("TyperCommand", command)


def render() -> str:
    """Return the page."""
    from api.cli.main import app

    parts = [PREFACE]
    for path, command in commands(typer.main.get_group(app), "driftward"):
        context = command.make_context(path, [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"## {path}\n\n`{path} {usage}`\n\n{_first_paragraph(command)}\n")
        options = [
            parameter
            for parameter in command.params
            if isinstance(parameter, TyperOption) and parameter.name not in {"help", "home"}
        ]
        rows = [f"- `{_names(option)}`: {_described(option)}" for option in options]
        if rows:
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _first_paragraph(command: TyperCommand) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _names(option: TyperOption) -> str:
    return ", ".join([*option.opts, *option.secondary_opts])


def _described(option: TyperOption) -> str:
    text = (option.help or "").rstrip(".")
    if option.required:
        return f"{text} (required)."
    # Not a set of these: 0, a default like any other, would be found in it as False.
    if option.show_default and not (option.default is False or option.default in {None, ""}):
        return f"{text} (default: {option.default})."
    return f"{text}."


if __name__ == "__main__":
    sys.stdout.write(render())
