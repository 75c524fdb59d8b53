"""Measure a backtest, or what still lacks of it, and write its tables.

python tests/benchmarks/backtest/run.py
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sections import measure_and_write  # noqa: E402

#: the title of each section, and the program that prints it
SECTIONS = {"half_year": ("Half a year replayed", "half_year.py")}

if __name__ == "__main__":
    measure_and_write(HERE, SECTIONS, description=__doc__)
