"""Measure a backtest, or what still lacks of it, and write its tables.

python tests/benchmarks/backtest/run.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sections import replaced  # noqa: E402

README = HERE.parent / "README.md"
_BEGIN, _END = "<!-- backtest: begin -->", "<!-- backtest: end -->"
_TITLE = "Half a year replayed"


def main() -> None:
    """Run the benchmark, and put its tables into the page."""
    tables = subprocess.run(
        [sys.executable, str(HERE / "half_year.py")],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    sys.stdout.write(tables)
    page = replaced(
        README.read_text(encoding="utf-8"),
        f"## {_TITLE}\n\n{tables.strip()}\n",
        begin=_BEGIN,
        end=_END,
        titles=[_TITLE],
    )
    README.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
