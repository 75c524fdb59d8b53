"""Trying whether an image can be decoded, in a process that may die of it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref

from monitor.intake.decoding_worker import LENGTH
from monitor.intake.reasons import Reason, unreadable

#: For any image; large ones are given more.
_LEAST_SECONDS = 5.0
#: JPEG 2000 without loss, the slowest, takes half of it.
_SECONDS_PER_MEGAPIXEL = 0.8
#: For the process to load its libraries, on a machine that has other work.
_START_SECONDS = 20.0


class DecodingProcess:
    """A process beside this one that decodes one file at a time; started at its first use.

    Safe to use from several threads, which then wait for each other.
    """

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        # Ends it with this object or with the interpreter, whichever ends first.
        weakref.finalize(self, _end, self._running)

    def require_decodable(self, content: bytes, *, samples: int) -> None:
        """Decode a de-identified file and forget the image.

        Parameters
        ----------
        samples : rows x columns x samples x frames, by which time is given

        Raises
        ------
        UnreadableScanError
            If it cannot be decoded, or not within its limits of time and memory.
        """
        seconds = max(_LEAST_SECONDS, samples / 1e6 * _SECONDS_PER_MEGAPIXEL)
        with self._lock:
            try:
                answer = self._ask(content, seconds)
            except TimeoutError:
                self.close()
                raise unreadable(
                    Reason.UNDECODABLE, f"decoding takes more than {seconds:.0f} seconds"
                ) from None
            except (OSError, EOFError):
                self.close()
                raise unreadable(
                    Reason.UNDECODABLE, "the decoder broke down over the pixels"
                ) from None
        if answer:
            raise unreadable(Reason(answer["reason"]), answer["detail"])

    def close(self) -> None:
        """End the process; the next use starts another."""
        _end(self._running)

    def _ask(self, content: bytes, seconds: float) -> dict[str, str]:
        if not self._running or self._running[0].poll() is not None:
            self.close()
            self._running.append(_started())
            seconds += _START_SECONDS
        process = self._running[0]
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        process.stdin.write(LENGTH.pack(len(content)) + content)
        process.stdin.flush()
        line = b""
        readable = select.poll()
        readable.register(process.stdout, select.POLLIN | select.POLLHUP)
        latest = time.monotonic() + seconds
        while not line.endswith(b"\n"):
            left = latest - time.monotonic()
            # Not select(): it takes no descriptor beyond 1,023.
            if not readable.poll(max(0.0, left) * 1e3):
                raise TimeoutError
            read = os.read(process.stdout.fileno(), 4096)
            if not read:
                raise EOFError
            line += read
        answer: dict[str, str] = json.loads(line)
        return answer


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "monitor.intake.decoding_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    while running:
        process = running.pop()
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()
