"""Any bytes are a scan or have a reason: mutations of real structures, and no structure at all.

`make fuzz` runs the same for an hour.
"""

from __future__ import annotations

import os
import struct

import pytest
from dicom_instances import KEY, NATIVE, as_file, gradient, in_native_syntax, radiograph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from monitor.intake.decoding import DecodingProcess
from monitor.intake.fingerprints import fingerprint
from monitor.intake.intake import Accepted, Rejected, prepare_bytes
from monitor.intake.limits import Limits
from monitor.intake.study_time import StudyTime
from monitor.intake.verifying import faults_of
from monitor.receiving.negotiation import grant, read_request
from monitor.receiving.pdus import ProtocolError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
_SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 150,
    suppress_health_check=[HealthCheck.too_slow],
)
_SMALL = Limits(file_bytes=1 << 20, inflated_bytes=1 << 20, samples=1 << 20)


def _rle() -> bytes:
    ds = radiograph(gradient(40, 40))
    ds.compress(RLELossless, generate_instance_uid=False)
    return as_file(ds)


SEEDS = [*(in_native_syntax(str(syntax)) for syntax in NATIVE), _rle()]


@pytest.fixture(scope="module")
def decoder() -> DecodingProcess:
    return DecodingProcess()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a real file with bytes changed, numbers blown up, parts repeated, cut or moved."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.integers(0, 5)):
            case 0:
                content[position : position + 1] = draw(st.binary(min_size=1, max_size=4))
            case 1:
                number = draw(st.sampled_from((0, 1, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)))
                content[position : position + 4] = struct.pack("<L", number)
            case 2:
                length = draw(st.integers(1, 64))
                content[position:position] = content[position : position + length]
            case 3:
                del content[position : position + draw(st.integers(1, 64))]
            case 4:
                del content[position:]
            case _:
                vr = draw(st.sampled_from((b"SQ", b"UN", b"OB", b"OW", b"UT", b"DS", b"US")))
                content[position : position + 2] = vr
    return bytes(content)


@_SETTINGS
@given(
    content=st.one_of(mutated(), st.binary(max_size=300)), study_time=st.sampled_from(StudyTime)
)
def test_any_bytes_are_a_scan_or_have_a_reason(
    content: bytes, study_time: StudyTime, decoder: DecodingProcess
) -> None:
    prepared = prepare_bytes(
        content, site="north", key=KEY, decoder=decoder, limits=_SMALL, study_time=study_time
    )
    assert isinstance(prepared, Accepted | Rejected)
    assert len(fingerprint(content)) == 32
    if isinstance(prepared, Accepted):
        assert faults_of(prepared.content, study_time=study_time) == []
    if isinstance(prepared, Rejected):
        assert prepared.detail
        assert "Yamada" not in prepared.detail


@_SETTINGS
@given(body=st.one_of(st.binary(max_size=400), st.builds(bytes, st.integers(68, 300))))
def test_any_association_request_is_granted_something_or_refused(body: bytes) -> None:
    try:
        request = read_request(body)
    except ProtocolError:
        return
    try:
        assert grant(request).answer[0] == 0x02
    except ProtocolError:
        return
