"""Measure what gates let through and refuse, or what still lacks, and write the tables.

    python tests/benchmarks/gates/run.py [SECTION ...]

Each section is a program of its own, which goes on where it stopped and prints its tables; its
docstring says how.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from sections import replaced  # noqa: E402

README = HERE.parent / "README.md"
_BEGIN, _END = "<!-- gates: begin -->", "<!-- gates: end -->"
#: the title of each section, and the program that prints it
SECTIONS = {
    "levels": ("Levels and power", "levels.py"),
    "subgroups": ("Subgroups", "subgroup_gate.py"),
    "weights": ("Weights", "weights.py"),
    "requested": ("Requested labels", "requested.py"),
}


def main() -> None:
    """Run the sections that are asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}")
    chosen = parser.parse_args()
    unknown = set(chosen.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    for name in chosen.sections or SECTIONS:
        sys.stderr.write(f"{name} …\n")
        title, program = SECTIONS[name]
        tables = subprocess.run(
            [sys.executable, str(HERE / program)], stdout=subprocess.PIPE, check=True, text=True
        ).stdout
        sys.stdout.write(tables)
        page = replaced(
            README.read_text(encoding="utf-8"),
            f"## {title}\n\n{tables.strip()}\n",
            begin=_BEGIN,
            end=_END,
            titles=[one for one, _ in SECTIONS.values()],
        )
        README.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
