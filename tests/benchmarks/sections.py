"""Sections of the benchmarks' README that programs write between two markers."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

README = Path(__file__).parent / "README.md"


def measure_and_write(
    folder: Path, sections: Mapping[str, tuple[str, str]], *, description: str
) -> None:
    """Run the sections that the command line asks for, all by default, and write their tables.

    Parameters
    ----------
    folder : whose programs are run, and whose name the markers in the page carry
    sections : by name, the title of each and the program that prints it
    description : the first line says what is measured
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(sections)}")
    chosen = parser.parse_args()
    unknown = set(chosen.sections) - set(sections)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    for name in chosen.sections or sections:
        sys.stderr.write(f"{name} …\n")
        title, program = sections[name]
        tables = subprocess.run(
            [sys.executable, str(folder / program)],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        sys.stdout.write(tables)
        page = replaced(
            README.read_text(encoding="utf-8"),
            f"## {title}\n\n{tables.strip()}\n",
            begin=f"<!-- {folder.name}: begin -->",
            end=f"<!-- {folder.name}: end -->",
            titles=[one for one, _ in sections.values()],
        )
        README.write_text(page, encoding="utf-8")


def replaced(page: str, section: str, *, begin: str, end: str, titles: Sequence[str]) -> str:
    """Return the page with a section in place of the one of its title, in the order of titles."""
    before, rest = page.split(begin)
    own, after = rest.split(end)
    headings = [f"## {title}" for title in titles]
    sections: dict[str, list[str]] = {}
    current = ""
    for line in own.splitlines():
        current = line if line in headings else current
        if current:
            sections.setdefault(current, []).append(line)
    sections[section.partition("\n")[0]] = section.splitlines()
    texts = ["\n".join(sections[one]).strip() for one in headings if one in sections]
    return f"{before}{begin}\n" + "\n\n".join(texts) + f"\n{end}{after}"
