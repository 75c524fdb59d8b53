from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monitor.profiles import ReferenceProfile
from monitor.stream_files import pack_stream, unpack_stream
from monitor.streams import StreamDetector
from registry.errors import BadInputError, IntegrityError


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    return ReferenceProfile.fit(np.random.default_rng(0).normal(size=(300, 6)), seed=1)


@pytest.fixture(scope="module")
def packed(profile: ReferenceProfile, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    stream = StreamDetector(profile, scans_between_false_alarms=1000, burn_in=40)
    stream.update(np.random.default_rng(1).normal(size=(100, 6)))
    folder = tmp_path_factory.mktemp("stream")
    stream.save(folder)
    return pack_stream(folder)


def test_a_stream_in_bytes_goes_on_to_the_bit(
    profile: ReferenceProfile, packed: bytes, tmp_path: Path
) -> None:
    unpack_stream(packed, tmp_path)
    stream = StreamDetector.load(tmp_path, profile)
    assert stream.scans == 100
    stream.save(tmp_path)
    assert pack_stream(tmp_path) == packed


def test_another_budget_changes_when_it_alarms_and_nothing_else(
    profile: ReferenceProfile, packed: bytes, tmp_path: Path
) -> None:
    raised = []
    for budget in (200, 20_000):
        unpack_stream(packed, tmp_path / str(budget), scans_between_false_alarms=budget)
        stream = StreamDetector.load(tmp_path / str(budget), profile)
        alarm = stream.update(np.random.default_rng(2).normal(0.8, 1.0, size=(200, 6)))
        assert alarm is not None
        raised.append(alarm.scan)
    assert raised[0] < raised[1]


@pytest.mark.parametrize(
    "spoilt", [b"", b"\0" * 8, b"\5\0\0\0\0\0\0\0hello", b"\2" + b"\0" * 7 + b"{}"]
)
def test_bytes_that_are_no_stream_are_refused(spoilt: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="begin it again"):
        unpack_stream(spoilt, tmp_path)


def test_bytes_that_were_changed_are_refused(
    profile: ReferenceProfile, packed: bytes, tmp_path: Path
) -> None:
    unpack_stream(packed[:-1] + bytes([packed[-1] ^ 1]), tmp_path)
    with pytest.raises(IntegrityError):
        StreamDetector.load(tmp_path, profile)
