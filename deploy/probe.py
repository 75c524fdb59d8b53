"""Say whether a process of Driftward does its work: 0 if so, 1 with a reason if not.

python probe.py serve      asks /readyz
python probe.py receive    looks whether the DICOM receiver of this home lives and listens
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

READY = "http://127.0.0.1:8321/readyz"
ANSWER_SECONDS = 8


def serve() -> str | None:
    """Return why `driftward serve` is not ready, or None if it is."""
    try:
        with urlopen(READY, timeout=ANSWER_SECONDS):
            return None
    except OSError as error:
        return f"{READY}: {error}"


def receive() -> str | None:
    """Return why `driftward receive` takes nothing, or None if it does."""
    from monitor.receiving.counters import Counted, Counters

    counters = Counters.of_running(
        Path(os.environ["DRIFTWARD_HOME"]) / "work" / "receiver.counters"
    )
    if counters is None:
        return "no receiver of this home has said for 10 seconds that it runs"
    if not counters.totals().counts[Counted.LISTENING]:
        return "the receiver runs, and none of its processes listens"
    return None


PROBES: dict[str, Callable[[], str | None]] = {"serve": serve, "receive": receive}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PROBES:
        sys.exit(__doc__)
    sys.exit(PROBES[sys.argv[1]]())
