"""Measure the ledger, or what still lacks, and write the tables.

    python tests/benchmarks/ledger/run.py

Delete `results/entries.jsonl` to measure anew.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sections import replaced  # noqa: E402

README = HERE.parent / "README.md"
_BEGIN, _END = "<!-- ledger: begin -->", "<!-- ledger: end -->"
TITLE = "A million entries"


def main() -> None:
    """Run the program, and put its table into the page."""
    tables = subprocess.run(
        [sys.executable, str(HERE / "entries.py")],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    sys.stdout.write(tables)
    page = replaced(
        README.read_text(encoding="utf-8"),
        f"## {TITLE}\n\n{tables.strip()}\n",
        begin=_BEGIN,
        end=_END,
        titles=[TITLE],
    )
    README.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
