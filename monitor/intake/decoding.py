"""Trying whether an image can be decoded, and has text in it, in a process that may die of it."""

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

from monitor.intake.burned_in_text import looks
from monitor.intake.decoding_worker import HEADER, Asked
from monitor.intake.reasons import Reason, unreadable

#: Of a processor, for any image; large ones are given more.
_LEAST_SECONDS = 5.0
#: By the clock it may take so many times as long: a machine that has other work is no reason to
#: refuse an image, and a decoder that waits for ever uses no processor.
_PATIENCE = 6.0
#: How often the processor time is looked at.
_LOOK_SECONDS = 0.25
#: JPEG 2000 without loss, the slowest, takes half of it.
_SECONDS_PER_MEGAPIXEL = 0.8
#: For the process to load its libraries, on a machine that has other work.
_START_SECONDS = 20.0
#: For each square in which text is looked for, which takes half a second on a core of its own,
#: and for the engine to be loaded.
_SECONDS_PER_LOOK = 10.0
_ENGINE_SECONDS = 40.0
_TICKS = os.sysconf("SC_CLK_TCK")


class DecodingProcess:
    """A process beside this one that decodes one file at a time; started at its first use.

    Safe to use from several threads, which then wait for each other.

    Parameters
    ----------
    recognises_text : text is looked for, too, where that is asked; takes the extra `ocr`
    """

    def __init__(self, *, recognises_text: bool = False) -> None:
        self.recognises_text = recognises_text
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
        self._require(Asked.DECODE, content, seconds, failed=Reason.UNDECODABLE)

    def require_no_text(self, content: bytes, *, rows: int, columns: int, frames: int) -> None:
        """Look for text in a de-identified file's pixels, and forget both.

        Raises
        ------
        UnreadableScanError
            If there is text, or it could not be looked for within the limits.
        """
        samples = 3 * rows * columns * frames
        seconds = (
            max(_LEAST_SECONDS, samples / 1e6 * _SECONDS_PER_MEGAPIXEL)
            + looks(rows, columns, frames) * _SECONDS_PER_LOOK
            + _ENGINE_SECONDS
        )
        self._require(Asked.LOOK_FOR_TEXT, content, seconds, failed=Reason.TEXT_NOT_LOOKED_FOR)

    def _require(self, asked: Asked, content: bytes, seconds: float, *, failed: Reason) -> None:
        what = "decoding" if asked is Asked.DECODE else "looking for text"
        with self._lock:
            try:
                answer = self._ask(asked, content, seconds)
            except TimeoutError:
                self.close()
                raise unreadable(
                    failed, f"{what} takes more than {seconds:.0f} seconds"
                ) from None
            except (OSError, EOFError):
                self.close()
                raise unreadable(failed, f"{what} broke down over the pixels") from None
        if answer:
            raise unreadable(Reason(answer["reason"]), answer["detail"])

    def close(self) -> None:
        """End the process; the next use starts another."""
        _end(self._running)

    def _ask(self, asked: Asked, content: bytes, seconds: float) -> dict[str, str]:
        if not self._running or self._running[0].poll() is not None:
            self.close()
            self._running.append(_started(self.recognises_text))
            seconds += _START_SECONDS
        process = self._running[0]
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        process.stdin.write(HEADER.pack(asked, len(content)) + content)
        process.stdin.flush()
        line = b""
        readable = select.poll()
        readable.register(process.stdout, select.POLLIN | select.POLLHUP)
        latest = time.monotonic() + seconds * _PATIENCE
        enough = _spent(process) + seconds
        while not line.endswith(b"\n"):
            left = latest - time.monotonic()
            # Not select(): it takes no descriptor beyond 1,023.
            if not readable.poll(min(max(0.0, left), _LOOK_SECONDS) * 1e3):
                if left <= 0 or _spent(process) > enough:
                    raise TimeoutError
                continue
            read = os.read(process.stdout.fileno(), 4096)
            if not read:
                raise EOFError
            line += read
        answer: dict[str, str] = json.loads(line)
        return answer


def _started(recognises_text: bool) -> subprocess.Popen[bytes]:
    worker = [sys.executable, "-m", "monitor.intake.decoding_worker"]
    return subprocess.Popen(  # noqa: S603 - this very program
        [*worker, "--text"] if recognises_text else worker,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _spent(process: subprocess.Popen[bytes]) -> float:
    """Return the seconds of a processor that a process has used."""
    with open(f"/proc/{process.pid}/stat", "rb") as file:  # noqa: PTH123 - a few times a second
        # Behind the name, which may hold spaces: utime and stime are fields 14 and 15.
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    while running:
        process = running.pop()
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        process.wait()
