"""Odd files that others published: what becomes of each, and what it costs.

    python tests/benchmarks/intake/odd_file_costs.py

They are those that pydicom installs, and an archive beside the tests, so that nothing else is
needed; every fate is compared with what was written down (`tests/monitor/intake/odd_files`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[3]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests" / "builders")]

from odd_files import OddFile, costs, odd_files  # noqa: E402


def table(files: Sequence[OddFile], found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table in Markdown."""
    as_written = sum(
        (found[file.name]["fate"], found[file.name]["denied"]) == (file.fate, file.denied)
        for file in files
    )
    lines = [
        f"{len(files)} files; {as_written} became what was written down of each before. Seconds "
        "are of a processor, for reading, checking and decoding it twice: as it came, and on a "
        "person's word that no text is burned in. Memory is the most that the process, or that "
        "which decodes, had by then. Goal for any: 5 s and 1,024 MiB.",
        "",
        "| fate | what it is | files | fate if text is denied | most seconds | most MiB |",
        "|---|---|---|---|---|---|",
    ]
    for fate, because, denied in dict.fromkeys(
        (file.fate, file.because, file.denied) for file in files
    ):
        of = [
            found[file.name]
            for file in files
            if (file.fate, file.because, file.denied) == (fate, because, denied)
        ]
        lines.append(
            f"| {fate} | {because} | {len(of)} | {denied} | "
            f"{max(cost['seconds'] for cost in of):.2f} | {max(cost['mib'] for cost in of)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(odd_files(), {cost["name"]: cost for cost in costs()}))
