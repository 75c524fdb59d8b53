"""Measure what gates let through and refuse, or what still lacks, and write the tables.

    python tests/benchmarks/gates/run.py [SECTION ...]

Each section is a program of its own, which goes on where it stopped and prints its tables; its
docstring says how.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sections import measure_and_write  # noqa: E402

#: the title of each section, and the program that prints it
SECTIONS = {
    "levels": ("Levels and power", "levels.py"),
    "subgroups": ("Subgroups", "subgroup_gate.py"),
    "weights": ("Weights", "weights.py"),
    "requested": ("Requested labels", "requested.py"),
    "watches": ("Watches", "watches.py"),
}

if __name__ == "__main__":
    measure_and_write(HERE, SECTIONS, description=__doc__)
