"""Measure everything about intake, or what still lacks, and write the tables.

    python tests/benchmarks/intake/run.py [SECTION ...]

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
    "receive": ("Receiving", "receive_throughput.py"),
    "mixed": ("Receiving beside compressed images", "receive_mixed.py"),
    "endurance": ("Receiving for ten minutes", "receive_endurance.py"),
    "odd": ("Odd files", "odd_file_costs.py"),
    "decode": ("Decoding at reduced resolution", "decode_reduced.py"),
    "text": ("Text in pixels", "burned_in_text.py"),
    "pipeline": ("Embedding from the vault", "pipeline_embedding.py"),
}

if __name__ == "__main__":
    measure_and_write(HERE, SECTIONS, description=__doc__)
