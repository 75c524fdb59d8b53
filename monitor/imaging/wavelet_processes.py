"""Reduced decoding in processes: the one decoder that can do it lets no other thread run.

A process is asked with a length, a number of levels and a frame, and answers
with a length and samples as NumPy's own format writes them, or with a length
of zero where the frame cannot be decoded so. It ends when its input does, and
so with whoever started it, however that ended.

    python -m monitor.imaging.wavelet_processes
"""

from __future__ import annotations

import io
import queue
import struct
import subprocess
import sys
from types import TracebackType
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from monitor.imaging.wavelets import decode_without

_QUESTION = struct.Struct("<QB")
_ANSWER = struct.Struct("<Q")


class WaveletProcesses:
    """As many processes as there are threads that ask, each started when it is needed first.

    Parameters
    ----------
    most : processes at once; a thread more waits for one of them
    """

    def __init__(self, most: int) -> None:
        self._idle: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        self._most = most
        for _ in range(most):
            self._idle.put(None)

    def __enter__(self) -> WaveletProcesses:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def decode_without(self, frame: bytes, skipped: int) -> npt.NDArray[Any]:
        """Return what `monitor.imaging.wavelets.decode_without` returns.

        Raises
        ------
        ValueError
            If the frame cannot be decoded so, or the process ended over it.
        """
        process = self._idle.get()
        try:
            if process is None:
                process = _started()
            answer = _asked(process, frame, skipped)
        except (OSError, EOFError):
            _end(process)
            process = None
            raise ValueError("the decoder broke down over the frame") from None
        finally:
            self._idle.put(process)
        if not answer:
            raise ValueError("the frame cannot be decoded at that resolution")
        samples: npt.NDArray[Any] = np.load(io.BytesIO(answer), allow_pickle=False)
        return samples

    def close(self) -> None:
        """End the processes; what is asked afterwards starts others."""
        for _ in range(self._most):
            _end(self._idle.get())
        for _ in range(self._most):
            self._idle.put(None)


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "monitor.imaging.wavelet_processes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _asked(process: subprocess.Popen[bytes], frame: bytes, skipped: int) -> bytes:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
    process.stdin.write(_QUESTION.pack(len(frame), skipped))
    process.stdin.write(frame)
    process.stdin.flush()
    (length,) = _ANSWER.unpack(_exactly(process.stdout, _ANSWER.size))
    return _exactly(process.stdout, length)


def _exactly(source: IO[bytes], length: int) -> bytes:
    content = source.read(length)
    if len(content) < length:
        raise EOFError("the process ended")
    return content


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.kill()
    process.communicate()


def main() -> None:
    """Answer until the input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(question := source.read(_QUESTION.size)) == _QUESTION.size:
        length, skipped = _QUESTION.unpack(question)
        answer = _decoded(source.read(length), skipped)
        sink.write(_ANSWER.pack(len(answer)))
        sink.write(answer)
        sink.flush()


def _decoded(frame: bytes, skipped: int) -> bytes:
    try:
        samples = decode_without(frame, skipped)
    except Exception:  # noqa: BLE001 - decoders raise anything on damaged data
        return b""
    stream = io.BytesIO()
    np.save(stream, samples, allow_pickle=False)
    return stream.getvalue()


if __name__ == "__main__":
    main()
