"""Shipped YAML files with other values, whatever values they ship with."""

from __future__ import annotations


def with_values(text: str, **values: str) -> str:
    """Return the text with the values of these keys replaced; each key stands there once."""
    lines = text.splitlines()
    for key, value in values.items():
        [place] = [n for n, line in enumerate(lines) if line.strip().startswith(f"{key}:")]
        lines[place] = f"{lines[place].partition(key)[0]}{key}: {value}"
    return "\n".join(lines) + "\n"
