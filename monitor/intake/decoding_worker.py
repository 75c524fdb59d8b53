"""The process that decodes what came from outside: `python -m monitor.intake.decoding_worker`.

Codecs are large bodies of C, and what they are fed here was written by
strangers. So they run where a crash, an endless loop or a huge allocation
ends nothing but this process. It reads what is asked (one byte), a length of
eight bytes and a file, and answers with a line of JSON, again and again.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.intake.burned_in_text import Reader

#: What is asked, and the length of the file.
HEADER = struct.Struct(">BQ")
#: Beyond what one file may take, the libraries themselves need some.
MEMORY_BYTES = 1 << 30
#: What recognises text takes half a gigabyte more.
MEMORY_BYTES_WITH_TEXT = MEMORY_BYTES + (1 << 29)


class Asked(IntEnum):
    """What is to be done with a file."""

    DECODE = 0
    LOOK_FOR_TEXT = 1


def main() -> None:
    """Do what is asked with files until the input ends."""
    memory = MEMORY_BYTES_WITH_TEXT if "--text" in sys.argv[1:] else MEMORY_BYTES
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        memory = min(memory, most)  # whoever started this may have less
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # A crash is expected now and then, and is worth no core file: it would hold pixels.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(HEADER.size):
        asked, length = HEADER.unpack(header)
        content = source.read(length)
        answer = _text(content) if asked == Asked.LOOK_FOR_TEXT else _decoded(content)
        sink.write(json.dumps(answer).encode() + b"\n")
        sink.flush()


def _decoded(content: bytes) -> dict[str, str]:
    from pydicom import dcmread

    from monitor.imaging.pixels import require_decodable
    from registry.errors import UnreadableScanError

    try:
        require_decodable(dcmread(io.BytesIO(content)))
    except UnreadableScanError as error:
        return {"reason": error.reason, "detail": error.detail}
    except MemoryError:
        return {"reason": "undecodable", "detail": "decoding takes more memory than it may"}
    return {}


def _text(content: bytes) -> dict[str, str]:
    """Say whether there is text, never what it says."""
    from pydicom import dcmread

    from monitor.intake.burned_in_text import holds_text

    try:
        found = holds_text(dcmread(io.BytesIO(content)), _reader())
    except Exception as error:  # noqa: BLE001 - the engine raises anything, and may quote
        return {
            "reason": "text_not_looked_for",
            "detail": f"text could not be looked for in the pixels ({type(error).__name__})",
        }
    if not found:
        return {}
    return {
        "reason": "text_found",
        "detail": "text was recognised in the pixels, more than markers have",
    }


@cache
def _reader() -> Reader:
    from monitor.intake.burned_in_text import load_reader

    return load_reader()


if __name__ == "__main__":
    main()
