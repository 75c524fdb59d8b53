"""Measure everything about episodes, or what still lacks, and write the tables.

    python tests/benchmarks/episodes/run.py [SECTION ...]

Each section is a program of its own, which goes on where it stopped and prints its tables; its
docstring says how. What the sections on causes and on performance without labels look at is
embedded by `cause_embeddings.py` and `cause_evidence.py`, an hour or two of work that is done
only where their results lack.
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
_BEGIN, _END = "<!-- episodes: begin -->", "<!-- episodes: end -->"
#: the title of each section, the program that prints it, and what that needs where its
#: results lack
SECTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "streams": ("Streams", "stream_alarms.py", ()),
    "recoveries": ("Recovery", "recoveries.py", ()),
    "causes": ("Causes", "cause_tables.py", ("cause_embeddings.py", "cause_evidence.py")),
    "places": (
        "Cause and place",
        "cause_places.py",
        ("cause_embeddings.py", "cause_evidence.py"),
    ),
    "parts": ("Subgroup named", "subgroup_places.py", ()),
    "estimates": (
        "Performance without labels",
        "estimated_performance.py",
        ("cause_embeddings.py",),
    ),
    "falls": ("Falls that labels show", "labelled_falls.py", ()),
    "silence": ("Silence", "silence.py", ()),
    "subgroups": ("Subgroups", "subgroup_cost.py", ()),
    "simulation": ("Half a year of three sites", "simulation.py", ()),
}
_RESULTS = {
    "causes": "causes.json",
    "places": "cause_places.json",
    "estimates": "estimated_performance.jsonl",
}


def main() -> None:
    """Run the sections that are asked for, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}")
    chosen = parser.parse_args()
    unknown = set(chosen.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    page = README.read_text(encoding="utf-8")
    for name in chosen.sections or SECTIONS:
        sys.stderr.write(f"{name} …\n")
        title, program, needed = SECTIONS[name]
        if not (HERE / "results" / _RESULTS.get(name, "")).exists():
            for one in needed:
                _run(one)
        tables = _run(program)
        sys.stdout.write(tables)
        page = replaced(
            page,
            f"## {title}\n\n{tables.strip()}\n",
            begin=_BEGIN,
            end=_END,
            titles=[one for one, _, _ in SECTIONS.values()],
        )
        README.write_text(page, encoding="utf-8")


def _run(program: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(HERE / program)], stdout=subprocess.PIPE, check=True, text=True
    )
    return ran.stdout


if __name__ == "__main__":
    main()
