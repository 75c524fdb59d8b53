"""The process that decodes what came from outside: `python -m monitor.intake.decoding_worker`.

Codecs are large bodies of C, and what they are fed here was written by
strangers. So they run where a crash, an endless loop or a huge allocation
ends nothing but this process. It reads a length of eight bytes and a file,
and answers with a line of JSON, again and again.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
from typing import BinaryIO

LENGTH = struct.Struct(">Q")
#: Beyond what one file may take, the libraries themselves need some.
MEMORY_BYTES = 1 << 30


def main() -> None:
    """Decode files until the input ends."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    # A crash is expected now and then, and is worth no core file: it would hold pixels.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while header := source.read(LENGTH.size):
        (length,) = LENGTH.unpack(header)
        answer = _answer(source, length)
        sink.write(json.dumps(answer).encode() + b"\n")
        sink.flush()


def _answer(source: BinaryIO, length: int) -> dict[str, str]:
    from pydicom import dcmread

    from monitor.pixels import require_decodable
    from registry.errors import UnreadableScanError

    content = source.read(length)
    try:
        require_decodable(dcmread(io.BytesIO(content)))
    except UnreadableScanError as error:
        return {"reason": error.reason, "detail": error.detail}
    except MemoryError:
        return {"reason": "undecodable", "detail": "decoding takes more memory than it may"}
    return {}


if __name__ == "__main__":
    main()
