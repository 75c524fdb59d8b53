"""Sections of the benchmarks' README that programs write between two markers."""

from __future__ import annotations

from collections.abc import Sequence


def replaced(page: str, section: str, *, begin: str, end: str, titles: Sequence[str]) -> str:
    """Return the page with a section in place of the one of its title, in the order of titles."""
    before, rest = page.split(begin)
    own, after = rest.split(end)
    headings = [f"## {title}" for title in titles]
    sections: dict[str, list[str]] = {}
    current = ""
    for line in own.splitlines():
        current = line if line in headings else current
        if current:
            sections.setdefault(current, []).append(line)
    sections[section.partition("\n")[0]] = section.splitlines()
    texts = ["\n".join(sections[one]).strip() for one in headings if one in sections]
    return f"{before}{begin}\n" + "\n\n".join(texts) + f"\n{end}{after}"
