"""JSON Lines: entries as they were hashed, to be verified again without the database.

The first line says which entries follow; each line after it holds one entry's
digest and its canonical bytes, which are JSON themselves and stand there as
they are: `{"digest":"…","entry":BYTES}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy.orm import Session

from registry.canonical import jcs_bytes, to_json
from registry.errors import BadInputError
from registry.ledger.checkpoints import Checkpoint, origin_of
from registry.ledger.exports.part import Part
from registry.ledger.fault import LedgerFault
from registry.ledger.record import GENESIS
from registry.ledger.verification import (
    ChainWalk,
    Verification,
    stored_entries,
)

FORMAT = "driftward-ledger-1"
#: No entry of ours comes near it; a line beyond it is not read into memory.
LONGEST_LINE = 1 << 26
_LINE = re.compile(rb'\{"digest":"([0-9a-f]{64})","entry":(.*)\}\n', re.DOTALL)


def lines(session: Session, part: Part, *, at: datetime) -> Iterator[bytes]:
    """Yield the lines of an export, without their ends."""
    yield jcs_bytes(
        {
            "format": FORMAT,
            "origin": part.origin,
            "first": part.first,
            "last": part.last,
            "previous": part.previous,
            "head": part.head,
            "exported_at": to_json(at),
        }
    )
    for *_, canonical, digest in stored_entries(session, first=part.first, last=part.last):
        yield b'{"digest":"' + digest.encode() + b'","entry":' + canonical + b"}"


def verify_export(path: Path, *, checkpoints: Sequence[Checkpoint] = ()) -> Verification:
    """Verify an export by itself: its chain, that it is whole, and checkpoints if there are any.

    A part that does not begin with entry 1 continues a digest that nothing in
    the file vouches for; what a checkpoint says of it cannot be told.

    Raises
    ------
    BadInputError
        If it cannot be read or is no such export, or a checkpoint cannot be held against it.
    """
    try:
        with path.open("rb") as file:
            return _verify(file, path, checkpoints)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror})") from error


def _verify(file: BinaryIO, path: Path, checkpoints: Sequence[Checkpoint]) -> Verification:
    header = _header(file, path)
    first, last = header["first"], header["last"]
    if checkpoints and first != 1:
        raise BadInputError(
            f"{path} begins with entry {first}: only an export from the first entry on can be "
            "held against a checkpoint"
        )
    walk = ChainWalk(checkpoints=checkpoints, start=first - 1, previous=header["previous"])
    fault = _follow(file, walk, origin=header["origin"], last=last)
    if fault is None and (walk.count, walk.previous) != (last, header["head"]):
        missing = walk.count < last
        fault = LedgerFault(
            sequence=walk.count + 1 if missing else walk.count,
            problem=f"entries {walk.count + 1} to {last} are missing from the file"
            if missing
            else "the newest entry is not the one that the first line names",
        )
    faults = [fault, walk.rewritten, walk.missing()]
    return Verification(
        entries=walk.count - first + 1,
        head=walk.previous,
        fault=min(filter(None, faults), key=lambda one: one.sequence, default=None),
        checkpoints=len(checkpoints),
    )


def _follow(file: BinaryIO, walk: ChainWalk, *, origin: str, last: int) -> LedgerFault | None:
    while line := file.readline(LONGEST_LINE):
        expected = walk.count + 1
        matched = _LINE.fullmatch(line)
        if matched is None:
            return LedgerFault(
                sequence=expected, problem="the line is cut off, or not as it was written"
            )
        if expected > last:
            return LedgerFault(
                sequence=expected, problem="the file has more entries than its first line says"
            )
        canonical = matched[2]
        try:
            sequence = int(json.loads(canonical)["sequence"])
        except (ValueError, KeyError, TypeError):
            return LedgerFault(sequence=expected, problem="the entry is not JSON")
        digest = matched[1].decode()
        if sequence > expected:
            return LedgerFault(sequence=expected, problem=f"entry {expected} is missing")
        problem = walk.follow(sequence, canonical, digest)
        if problem is None and sequence == 1 and origin_of(digest) != origin:
            problem = "it is not the first entry of the ledger that the first line names"
        if problem is not None:
            return LedgerFault(sequence=min(sequence, expected), problem=problem)
    return None


def _header(file: BinaryIO, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(file.readline(1 << 16))
        whole = (
            header["format"] == FORMAT
            and isinstance(header["origin"], str)
            and 1 <= header["first"] <= header["last"]
            and all(re.fullmatch(r"[0-9a-f]{64}", header[key]) for key in ("previous", "head"))
            and (header["first"] > 1 or header["previous"] == GENESIS)
        )
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise BadInputError(
            f"{path} is no export of a ledger: give a file that `driftward audit export --format "
            "jsonl` wrote"
        )
    found: dict[str, Any] = header
    return found
