"""Shipped YAML files with other values, whatever values they ship with."""

from __future__ import annotations

from importlib.resources import files


def with_values(text: str, **values: str) -> str:
    """Return the text with the values of these keys replaced; each key stands there once."""
    lines = text.splitlines()
    for key, value in values.items():
        [place] = [n for n, line in enumerate(lines) if line.strip().startswith(f"{key}:")]
        lines[place] = f"{lines[place].partition(key)[0]}{key}: {value}"
    return "\n".join(lines) + "\n"


def one_site_plan(**values: str) -> str:
    """Return the demo's plan without its two sites and its watch, with the values of these keys."""
    text = (files("api.demo") / "configuration" / "plan.yaml").read_text(encoding="utf-8")
    kept: list[str] = []
    inside = ""
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            inside = line
        of_sites = (
            inside in {"data:", "watch:"}
            or "people_decide" in line
            or "attribute: site" in line
        )
        if not of_sites and line.strip() != "- subgroups":
            kept.append(line.replace("declared:", "declared: []"))
    return with_values("\n".join(kept), **values)
