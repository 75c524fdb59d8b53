from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from dicom_instances import as_file, gradient, radiograph
from pydicom.uid import RLELossless

from monitor.intake import decoding
from monitor.intake.decoding import DecodingProcess
from registry.errors import UnreadableScanError


@pytest.fixture
def decoder() -> Iterator[DecodingProcess]:
    process = DecodingProcess()
    yield process
    process.close()


def compressed(**elements: object) -> bytes:
    ds = radiograph(gradient(40, 40))
    ds.compress(RLELossless, generate_instance_uid=False)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return as_file(ds)


def test_what_can_be_decoded_passes_again_and_again(decoder: DecodingProcess) -> None:
    for _ in range(3):
        decoder.require_decodable(compressed(), samples=1600)


def test_what_cannot_is_refused_and_the_next_passes(decoder: DecodingProcess) -> None:
    with pytest.raises(UnreadableScanError) as caught:
        decoder.require_decodable(compressed(Rows=1000), samples=1600)
    assert caught.value.reason == "undecodable"
    decoder.require_decodable(compressed(), samples=1600)


def test_a_decoder_that_crashes_refuses_one_image_and_is_started_again(
    decoder: DecodingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.require_decodable(compressed(), samples=1600)
    monkeypatch.setattr(decoding, "HEADER", _KillsFirst(decoder, decoding.HEADER))
    with pytest.raises(UnreadableScanError, match="broke down"):
        decoder.require_decodable(compressed(), samples=1600)
    decoder.require_decodable(compressed(), samples=1600)


def test_a_decoder_that_takes_for_ever_is_ended(
    decoder: DecodingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.require_decodable(compressed(), samples=1600)
    monkeypatch.setattr(decoding, "_LEAST_SECONDS", 0.2)
    _stop(decoder)
    with pytest.raises(UnreadableScanError, match="more than"):
        decoder.require_decodable(compressed(), samples=1600)
    decoder.require_decodable(compressed(), samples=1600)


def test_what_counts_is_a_decoders_own_time_and_not_that_of_others(
    decoder: DecodingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.require_decodable(compressed(), samples=1600)
    monkeypatch.setattr(decoding, "_LEAST_SECONDS", 0.2)
    _stop(decoder)  # as if others had the processors
    resume = threading.Timer(0.5, _signal, (decoder, signal.SIGCONT))
    resume.start()
    decoder.require_decodable(compressed(), samples=1600)
    resume.join()


class _KillsFirst:
    """Stands in for the header's format: kills the decoder once before it is asked."""

    def __init__(self, decoder: DecodingProcess, real: object) -> None:
        self._decoder, self._real, self._done = decoder, real, False

    def pack(self, asked: int, length: int) -> bytes:
        if not self._done:
            self._done = True
            _signal(self._decoder, signal.SIGKILL)
        packed: bytes = self._real.pack(asked, length)  # type: ignore[attr-defined]
        return packed


def _stop(decoder: DecodingProcess) -> None:
    _signal(decoder, signal.SIGSTOP)


def _signal(decoder: DecodingProcess, number: signal.Signals) -> None:
    (process,) = decoder._running
    os.kill(process.pid, number)
    if number == signal.SIGKILL:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
