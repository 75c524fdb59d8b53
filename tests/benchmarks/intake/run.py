"""Measure everything about intake, or what still lacks, and write the tables.

    python tests/benchmarks/intake/run.py [SECTION ...]

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
_BEGIN, _END = "<!-- intake: begin -->", "<!-- intake: end -->"
#: the title of each section, and the program that prints it
SECTIONS = {
    "receive": ("Receiving", "receive_throughput.py"),
    "mixed": ("Receiving beside compressed images", "receive_mixed.py"),
    "endurance": ("Receiving for ten minutes", "receive_endurance.py"),
    "decode": ("Decoding at reduced resolution", "decode_reduced.py"),
    "text": ("Text in pixels", "burned_in_text.py"),
    "pipeline": ("Embedding from the vault", "pipeline_embedding.py"),
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
