from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand, TyperOption

from api.cli.documentation import commands, render
from api.cli.main import app

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
COMMANDS = dict(commands(typer.main.get_group(app), "driftward"))
ROOT_OPTIONS = {"--help", "--version"}


def shown(text: str) -> list[str]:
    """Return every command line that a document shows, in a code block or between backticks."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"(?<!`)`(driftward [^`\n]+)`", text)
    parts = [part for line in lines for part in re.split(r"&&|\|\|", line.split("  #")[0])]
    calls = [part.strip() for part in (*parts, *spans)]
    return [call for call in calls if call.startswith("driftward ")]


def called(line: str) -> tuple[TyperCommand | None, list[str]]:
    """Return the command that a line calls, and the options that it gives it."""
    words = shlex.split(line)
    options = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
    for length in (4, 3, 2):
        path = " ".join(words[:length])
        if path in COMMANDS:
            return COMMANDS[path], options
    return None, options


def test_the_reference_page_is_what_the_commands_say() -> None:
    page = (REPOSITORY / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert page == render(), "python -m api.cli.documentation > docs/command-line.md"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_says_what_it_does_in_a_sentence(path: str) -> None:
    help_text = (COMMANDS[path].help or "").strip()
    assert help_text, path
    assert help_text.endswith("."), help_text


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_is_explained_and_every_command_takes_a_home(path: str) -> None:
    options = [param for param in COMMANDS[path].params if isinstance(param, TyperOption)]
    assert [option.name for option in options if not option.help] == []
    assert "--home" in {name for option in options for name in option.opts}


def test_who_acts_is_never_an_option() -> None:
    for path, command in COMMANDS.items():
        names = {name for param in command.params for name in param.opts}
        assert names.isdisjoint({"--by", "--as", "--user", "--actor"}), path


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in COMMANDS
        if path
        not in {"driftward up", "driftward serve", "driftward work", "driftward receive"}
    ],
)
def test_every_command_that_reports_does_so_for_machines_too(path: str) -> None:
    assert "--json" in {name for param in COMMANDS[path].params for name in param.opts}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_shows_only_commands_and_options_that_exist(document: Path) -> None:
    for line in shown(document.read_text(encoding="utf-8")):
        command, options = called(line)
        if command is None:
            assert set(options) & ROOT_OPTIONS or line in GROUPS, line
            continue
        known = {
            name
            for param in command.params
            for name in (*param.opts, *getattr(param, "secondary_opts", ()))
        }
        assert set(options) <= known | {"--help"}, line


#: `driftward scan`, as prose may name a group.
GROUPS = {path.rpartition(" ")[0] for path in COMMANDS}


def test_the_readme_shows_the_way_from_nothing_to_a_verified_ledger() -> None:
    lines = shown((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    first_words = [" ".join(line.split()[1:3]) for line in lines]
    for wanted in ("model import", "scan add", "reference build", "audit verify"):
        assert wanted in first_words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_within_the_documents_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [target for target in targets if not (document.parent / target).exists()] == []
