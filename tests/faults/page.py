"""The page that shows what was counted: each table stands between its two marks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

README = Path(__file__).parent / "README.md"


def put_table(name: str, header: str, rows: Sequence[Sequence[object]]) -> None:
    """Print a table, and put it into the page in place of what stood there."""
    columns = header.count("|") + 1
    lines = [f"| {header} |", f"|{' --- |' * columns}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    table = "\n".join(lines) + "\n"
    sys.stdout.write(table)
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = README.read_text(encoding="utf-8")
    before, _, rest = page.partition(begin)
    README.write_text(f"{before}{begin}\n{table}{end}{rest.partition(end)[2]}")
