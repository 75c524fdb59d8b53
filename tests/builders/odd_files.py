"""Odd DICOM files, and what becomes of each; as a program, what taking them in costs.

    python tests/builders/odd_files.py

prints a line of JSON for each file: its fate, also once a person denied burned-in text, the
processor time that both took together, and the most memory that the process had by then, or that
which decodes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pydicom.data
import yaml

_HERE = Path(__file__).parent
_FOLDER = _HERE.parent / "monitor" / "intake" / "odd_files"
#: What pydicom installs of test files; others it would fetch.
_INSTALLED = ("test_files", "charset_files", "palettes")
SCAN = "scan"


@dataclass(frozen=True, slots=True, kw_only=True)
class OddFile:
    """A file, and what must become of it."""

    name: str
    content: bytes
    fate: str  #: a scan, or the code of the reason why not
    because: str
    denied: str  #: its fate once a person states that no text is burned in


def odd_files() -> list[OddFile]:
    """Return every odd file, with the fate that was written down for it.

    Raises
    ------
    LookupError
        If a file has not exactly one fate, or a fate no file.
    """
    groups = yaml.safe_load((_FOLDER / "fates.yaml").read_text(encoding="utf-8"))
    unused = {pattern for group in groups for pattern in group["files"]}
    found = []
    for name, content in _contents():
        of = {
            (group["fate"], group["because"], group.get("denied", group["fate"])): pattern
            for group in groups
            for pattern in group["files"]
            if fnmatchcase(name, pattern)
        }
        if len(of) != 1:
            raise LookupError(f"{name} has {len(of)} fates")
        ((fate, because, denied),) = of
        unused -= set(of.values())
        found.append(
            OddFile(name=name, content=content, fate=fate, because=because, denied=denied)
        )
    if unused:
        raise LookupError(f"no file is {', '.join(sorted(unused))}")
    return found


@cache
def costs() -> list[dict[str, object]]:
    """Take every file in, in a process of its own, and return what came of each and its cost."""
    paths = os.pathsep.join((str(_HERE), str(_HERE.parents[1])))
    done = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=550,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def _contents() -> Iterator[tuple[str, bytes]]:
    installed = Path(pydicom.data.__file__).parent
    for folder in _INSTALLED:
        for path in sorted((installed / folder).rglob("*")):
            if path.is_file():
                name = path.relative_to(installed).as_posix()
                yield f"pydicom/{name}", path.read_bytes()
    with zipfile.ZipFile(_FOLDER / "pydicom-data.zip") as archive:
        for name in sorted(archive.namelist()):
            yield f"pydicom-data/{name}", archive.read(name)


def _main() -> None:
    from dicom_instances import KEY, SITE

    from monitor.intake.decoding import DecodingProcess
    from monitor.intake.intake import Rejected, prepare_bytes

    warnings.simplefilter("ignore")  # pydicom's, of what it mends
    decoder = DecodingProcess()

    def fate_of(content: bytes, *, denied: bool) -> str:
        prepared = prepare_bytes(
            content, site=SITE, key=KEY, decoder=decoder, annotation_denied=denied
        )
        return prepared.reason.value if isinstance(prepared, Rejected) else SCAN

    for file in odd_files():
        began, spent = time.monotonic(), time.process_time() + _spent_decoding()
        facts: dict[str, object] = {
            "name": file.name,
            "fate": fate_of(file.content, denied=False),
            "denied": fate_of(file.content, denied=True),
        }
        facts["clock"] = round(time.monotonic() - began, 3)
        facts["seconds"] = round(time.process_time() + _spent_decoding() - spent, 3)
        facts["mib"] = max(map(_peak_mib, ("self", *_children())))
        sys.stdout.write(json.dumps(facts) + "\n")


def _children() -> list[str]:
    """Return the number of the process that decodes, once there is one."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def _spent_decoding() -> float:
    """Return the processor seconds of the process that decodes, and of those before it."""
    ended = os.times()
    seconds = ended.children_user + ended.children_system
    for process in _children():
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def _peak_mib(process: str) -> int:
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


if __name__ == "__main__":
    _main()
