"""The page that a privacy officer signs says what the code does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword

from monitor.intake.allowed import ALLOWED, ALLOWED_IN_META, ALLOWED_IN_TABLES, Rule

PAGE = Path(__file__).parents[2] / "docs" / "deidentification.md"
_BETWEEN = re.compile(r"(?<=<!-- begin: elements -->\n).*(?=<!-- end: elements -->)", re.DOTALL)


def table(rules: Mapping[str, Rule]) -> str:
    """Return rules as a table, in the order of their tags."""
    tags = {keyword: tag_for_keyword(keyword) or 0 for keyword in rules}
    rows = [
        f"| ({tags[keyword] >> 16:04X},{tags[keyword] & 0xFFFF:04X}) "
        f"| {dictionary_description(keyword)} | {dictionary_VR(keyword)} "
        f"| {rules[keyword].kept} | {rules[keyword].profile} |"
        for keyword in sorted(rules, key=tags.__getitem__)
    ]
    return "\n".join(
        ("| tag | element | VR | what is kept | PS3.15 |", "|---|---|---|---|---|", *rows)
    )


def tables() -> str:
    """Return what stands between the marks."""
    return (
        f"\n### Data set\n\n{table(ALLOWED)}\n"
        f"\n### Within a look-up table's sequence\n\n{table(ALLOWED_IN_TABLES)}\n"
        f"\n### File meta information\n\n{table(ALLOWED_IN_META)}\n\n"
    )


def test_the_page_shows_every_element_that_a_stored_file_may_have() -> None:
    page = PAGE.read_text(encoding="utf-8")
    found = _BETWEEN.search(page)
    assert found is not None
    assert found[0] == tables(), "python tests/api/test_deidentification_document.py writes it"


if __name__ == "__main__":
    PAGE.write_text(
        _BETWEEN.sub(lambda _: tables(), PAGE.read_text(encoding="utf-8")), encoding="utf-8"
    )
