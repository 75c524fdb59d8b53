"""Measure the ledger, or what still lacks, and write the tables.

    python tests/benchmarks/ledger/run.py

Delete `results/entries.jsonl` to measure anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sections import measure_and_write  # noqa: E402

#: the title of each section, and the program that prints it
SECTIONS = {"entries": ("A million entries", "entries.py")}

if __name__ == "__main__":
    measure_and_write(HERE, SECTIONS, description=__doc__)
