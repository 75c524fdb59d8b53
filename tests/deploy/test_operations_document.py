"""The operations page: a section for each alert, figures that were measured, files that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from api.cli.documentation import commands
from api.cli.main import app

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
MEASURED = (REPOSITORY / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
COMMANDS = dict(commands(typer.main.get_group(app), "driftward"))
GROUPS = {path.rpartition(" ")[0] for path in COMMANDS} - {"driftward"}


def sections(text: str, level: str) -> dict[str, str]:
    """Return what stands under each heading of one level."""
    parts = re.split(rf"^{level} (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_each_alert_has_its_section_and_each_section_its_alert(
    alerts: dict[str, dict[str, Any]],
) -> None:
    assert list(sections(PAGE, "###")) == list(alerts)


def test_each_section_says_how_urgent_its_alert_is(alerts: dict[str, dict[str, Any]]) -> None:
    for alert, text in sections(PAGE, "###").items():
        urgency = alerts[alert]["labels"]["severity"].capitalize()
        assert re.match(rf"\s+{urgency}[.,]", text), alert


def test_each_command_of_an_alert_exists(alerts: dict[str, dict[str, Any]]) -> None:
    for alert, rule in alerts.items():
        text = " ".join(rule["annotations"]["description"].split())
        for call in re.findall(r"`(driftward [^`]+)`", text):
            words = re.sub(r"{{[^}]*}}", "X", call).split()
            paths = {" ".join(words[:length]) for length in (2, 3, 4)}
            found = [COMMANDS[path] for path in paths if path in COMMANDS]
            assert found or paths & GROUPS, (alert, call)
            known = {
                name for command in found for param in command.params for name in param.opts
            }
            assert {word for word in words if word.startswith("--")} <= known, (alert, call)
        for unit in re.findall(r"\b(driftward-[a-z]+(?:\.timer)?)\b", text):
            name = unit if unit.endswith(".timer") else f"{unit}.service"
            assert (REPOSITORY / "deploy" / "systemd" / name).exists(), (alert, unit)


def test_each_figure_of_the_sizing_was_measured() -> None:
    table = re.findall(
        r"^\| ([^|]+) \| ([\d.]+[^|]*) \| ([^|]+) \|$",
        sections(PAGE, "##")["Sizing"],
        flags=re.MULTILINE,
    )
    assert len(table) == 6
    measured = {
        heading: text
        for level in ("##", "###")
        for heading, text in sections(MEASURED, level).items()
    }
    for what, figure, heading in table:
        number = re.escape(figure)
        assert re.search(rf"(?<![\d.]){number}(?![\d])", measured[heading]), (what, figure)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\bdeploy/[\w./-]*\w", PAGE))))
def test_each_file_that_it_names_exists(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_each_anchor_leads_to_a_heading() -> None:
    headings = {*sections(PAGE, "##"), *sections(PAGE, "###")}
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
