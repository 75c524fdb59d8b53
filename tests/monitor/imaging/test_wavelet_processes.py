from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest

from monitor.imaging.wavelet_processes import WaveletProcesses
from monitor.imaging.wavelets import decode_without

RNG = np.random.default_rng(0)
SAMPLES = [RNG.integers(0, 4096, (96, 64 + index)).astype(np.uint16) for index in range(6)]
FRAMES = [
    bytes(
        imagecodecs.jpeg2k_encode(
            samples, codecformat="j2k", reversible=True, level=0, bitspersample=12
        )
    )
    for samples in SAMPLES
]


def test_processes_return_what_the_thread_itself_would() -> None:
    with WaveletProcesses(2) as processes, ThreadPoolExecutor(4) as threads:
        found = list(threads.map(processes.decode_without, FRAMES, [2] * len(FRAMES)))
    for frame, samples in zip(FRAMES, found, strict=True):
        expected = decode_without(frame, 2)
        assert samples.dtype == expected.dtype
        assert np.array_equal(samples, expected)


def test_a_frame_that_cannot_be_decoded_is_an_error_and_the_next_one_is_decoded() -> None:
    with WaveletProcesses(1) as processes:
        for broken in (b"", b"no codestream", FRAMES[0][:100]):
            with pytest.raises(ValueError, match="cannot be decoded"):
                processes.decode_without(broken, 1)
        assert processes.decode_without(FRAMES[0], 1).shape == (48, 32)


def test_a_process_that_dies_takes_one_frame_with_it() -> None:
    with WaveletProcesses(1) as processes:
        processes.decode_without(FRAMES[0], 1)
        process = processes._idle.get()
        assert process is not None
        process.kill()
        process.wait()
        processes._idle.put(process)
        with pytest.raises(ValueError, match="broke down"):
            processes.decode_without(FRAMES[0], 1)
        assert processes.decode_without(FRAMES[0], 1).shape == (48, 32)


def test_no_process_outlives_its_use() -> None:
    with WaveletProcesses(2) as processes:
        processes.decode_without(FRAMES[0], 1)
        process = processes._idle.get()
        assert process is not None
        processes._idle.put(process)
        assert process.poll() is None
    assert process.poll() is not None
