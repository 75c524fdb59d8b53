"""Senders that mean harm, or are broken: the port stays open for the others, and bounded."""

from __future__ import annotations

import gzip
import struct
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import imagecodecs
import pytest
from dicom_instances import as_file, gradient, radiograph, set_frames
from odd_files import SCAN, odd_files
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from running_receiver import (
    RawSender,
    RunningReceiver,
    associate_request,
    new_home,
    receiving,
    status_of,
    store_request,
)

from monitor.imaging.codestreams import OTHER_SIZE
from monitor.imaging.stored_samples import DECODED_SYNTAXES
from monitor.intake.image_pixels import NATIVE_SYNTAXES
from monitor.intake.reading import data_set_start
from monitor.intake.reasons import Reason

ROOT = "1.2.826.0.1.3680043.8.498"
CR = ComputedRadiographyImageStorage
SUCCESS = 0x0000
_IMPATIENT = """\
site: north
processes: 2
limits: {request_seconds: 3, idle_seconds: 5, pdu_seconds: 3, message_seconds: 10}
"""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    """One receiver for all of them: it must survive each."""
    folder = tmp_path_factory.mktemp("hostile")
    config = folder / "receiver.yaml"
    config.write_text(_IMPATIENT)
    with receiving(new_home(folder / "home"), "--config", str(config)) as running:
        yield running


@pytest.fixture(autouse=True)
def still_serves(receiver: RunningReceiver, request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the same processes serve a genuine sender, in bounded memory."""
    before = receiver.children()
    yield
    number = zlib.crc32(request.node.name.encode())
    name = as_file(radiograph(SOPInstanceUID=f"{ROOT}.6.{number}"))
    assert receiver.store(name) == [SUCCESS]
    assert receiver.children() == before
    assert receiver.resident_bytes() < 512 << 20


def encoded(ds_file: bytes) -> bytes:
    """Return the data set of a file alone, as it goes over the network."""
    ds = dcmread(DicomBytesIO(ds_file))
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_dataset(stream, ds)
    return stream.getvalue()


def sent(
    receiver: RunningReceiver, data_set: bytes, *, syntax: str = ExplicitVRLittleEndian
) -> int:
    """Send a data set, whatever it is, and return its status."""
    with RawSender(receiver.port, seconds=30) as sender:
        sender.associate(CR, syntax)
        sender.send(store_request(CR, "1.2.3", data_set))
        return status_of(sender.receive())


def compressed(syntax: str, **elements: object) -> Dataset:
    """Return a radiograph of 40 x 40 pixels, compressed without loss."""
    ds = radiograph(gradient(40, 40), **elements)
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)
    else:
        frame = imagecodecs.jpeg2k_encode(
            gradient(40, 40), codecformat="j2k", reversible=True, level=0, bitspersample=12
        )
        set_frames(ds, bytes(frame), transfer_syntax=syntax)
    return ds


def newest_reason(receiver: RunningReceiver) -> str:
    return receiver.reasons()[-1]


def test_a_pdu_of_4_gib_is_refused_before_a_byte_of_it_is_read(
    receiver: RunningReceiver,
) -> None:
    for kind in (0x01, 0x04, 0x05):
        with RawSender(receiver.port) as sender:
            if kind != 0x01:
                sender.associate(CR, ExplicitVRLittleEndian)
            sender.send(struct.pack(">BxL", kind, 0xFFFF_FFFF) + bytes(1000))
            answer = sender.receive()
            assert answer == b"" or answer[0] == 0x07


def test_bytes_that_are_no_pdu_end_the_connection(receiver: RunningReceiver) -> None:
    for content in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + bytes(60), bytes(10)):
        with RawSender(receiver.port) as sender:
            sender.send(content)
            assert sender.receive()[:1] in {b"", b"\x07"}


def test_a_request_that_is_damaged_everywhere_is_refused_each_time(
    receiver: RunningReceiver,
) -> None:
    request = associate_request(CR, ExplicitVRLittleEndian)
    for position in range(6, len(request), 7):
        damaged = bytearray(request)
        damaged[position] ^= 0xFF
        with RawSender(receiver.port) as sender:
            sender.send(bytes(damaged))
            assert sender.receive()[:1] in {b"", b"\x02", b"\x03", b"\x07"}


def test_a_deflate_bomb_goes_to_quarantine(receiver: RunningReceiver) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(1 << 24)
    bomb = b"".join(compressor.compress(zeros) for _ in range(64)) + compressor.flush()
    assert 900_000 < len(bomb) < 1_100_000
    assert sent(receiver, bomb, syntax=DeflatedExplicitVRLittleEndian) == SUCCESS
    assert newest_reason(receiver) == "too_large"


def test_a_genuine_sender_is_let_in_among_idle_and_half_open_connections(
    receiver: RunningReceiver,
) -> None:
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(RawSender(receiver.port, seconds=30))
        for _ in range(500):
            half_open = stack.enter_context(RawSender(receiver.port, seconds=30))
            half_open.send(associate_request(CR, ExplicitVRLittleEndian)[:40])
        _let_in(receiver)


def test_associations_that_stay_idle_give_way(receiver: RunningReceiver) -> None:
    with ExitStack() as stack:
        rejected = 0
        for _ in range(150):
            sender = stack.enter_context(RawSender(receiver.port, seconds=30))
            sender.send(associate_request(CR, ExplicitVRLittleEndian))
            rejected += sender.receive()[:1] == b"\x03"
        assert rejected > 0
        _let_in(receiver)


def _let_in(receiver: RunningReceiver) -> None:
    """Ask for an association as a genuine sender that tries again, for 35 seconds."""
    latest = time.monotonic() + 35
    while time.monotonic() < latest:
        # Not pynetdicom's: it waits with select(), which takes no descriptor beyond 1,023.
        with RawSender(receiver.port, seconds=10) as sender:
            sender.send(associate_request("1.2.840.10008.1.1", ImplicitVRLittleEndian))
            if sender.receive()[:1] == b"\x02":
                return
        time.sleep(0.5)
    pytest.fail("a genuine sender was not let in within 35 s")


def test_a_sender_of_a_byte_a_second_is_cut_off(receiver: RunningReceiver) -> None:
    request = associate_request(CR, ExplicitVRLittleEndian)
    with RawSender(receiver.port, seconds=30) as sender:
        with pytest.raises(OSError, match=r"."):
            for position in range(12):
                sender.send(request[position : position + 1])
                time.sleep(1)
        assert position > 1


def test_a_message_of_endless_small_fragments_is_cut_off(receiver: RunningReceiver) -> None:
    with RawSender(receiver.port, seconds=40) as sender:
        sender.associate(CR, ExplicitVRLittleEndian)
        sender.send(store_request(CR, "1.2.3", bytes(8))[:-20])
        fragment = struct.pack(">BxLLBB", 4, 7, 3, 1, 0) + b"\0"
        with pytest.raises(OSError, match=r"."):
            for _ in range(60):
                sender.send(fragment)
                time.sleep(0.5)


def test_sequences_20000_deep_go_to_quarantine(receiver: RunningReceiver) -> None:
    opening = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFF_FFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFF_FFFF)
    assert sent(receiver, (opening + item) * 20_000) == SUCCESS
    assert newest_reason(receiver) == "too_deep"


def test_an_image_beyond_memory_goes_to_quarantine(receiver: RunningReceiver) -> None:
    ds = radiograph()
    ds.Rows = ds.Columns = 65_535
    ds.NumberOfFrames = 99_999
    assert sent(receiver, encoded(as_file(ds))) == SUCCESS
    assert newest_reason(receiver) in {"too_large", "multi_frame"}
    ds = radiograph(SOPInstanceUID=f"{ROOT}.6.3")
    ds.Rows = ds.Columns = 65_535
    assert sent(receiver, encoded(as_file(ds))) == SUCCESS
    assert newest_reason(receiver) == "too_large"


def test_a_data_set_cut_anywhere_is_never_a_scan(receiver: RunningReceiver) -> None:
    whole = encoded(as_file(radiograph(SOPInstanceUID=f"{ROOT}.6.4")))
    before = len(receiver.scans())
    with RawSender(receiver.port, seconds=30) as sender:
        sender.associate(CR, ExplicitVRLittleEndian)
        for length in range(0, len(whole) - 1, 31):
            sender.send(store_request(CR, "1.2.3", whole[:length]))
            assert status_of(sender.receive()) == SUCCESS
    assert len(receiver.scans()) == before


def test_identifiers_that_are_paths_become_no_paths(receiver: RunningReceiver) -> None:
    for number, uid in enumerate(
        ("../../../../etc/passwd", "a\0b", "/abs", "<b>x</b>", "..\\..")
    ):
        data_set = encoded(as_file(radiograph(SOPInstanceUID=f"{ROOT}.6.5.{number}")))
        old = f"{ROOT}.6.5.{number}".encode()
        padded = uid.encode().ljust(len(old), b"\0")[: len(old)]
        assert sent(receiver, data_set.replace(old, padded)) == SUCCESS
    names = [path.name for path in receiver.home.rglob("*")]
    assert not any("passwd" in name or "<b>" in name or ".." in name for name in names)


def test_odd_files_are_what_was_written_down_by_the_network_too(
    receiver: RunningReceiver,
) -> None:
    scans, reasons = len(receiver.scans()), Counter(receiver.reasons())
    wrong = []
    for file in odd_files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(DicomBytesIO(file.content), force=True)
        syntax = getattr(ds, "file_meta", {}).get("TransferSyntaxUID", "")
        if syntax not in DECODED_SYNTAXES | NATIVE_SYNTAXES:
            continue  # there is no context under which it could be sent
        status = sent(receiver, file.content[data_set_start(file.content) :], syntax=syntax)
        before, scans_before, reasons = reasons, scans, Counter(receiver.reasons())
        scans = len(receiver.scans())
        # Of images that several files hold, the first is the scan or the item.
        came = [*(reasons - before).elements(), *[SCAN] * (scans - scans_before)]
        if status != SUCCESS or came not in ([], [file.fate]):
            wrong.append((file.name, status, came))
    assert wrong == []
    assert {file.fate for file in odd_files()} - {SCAN, "not_dicom", "archive"} <= set(reasons)


def test_archives_and_pages_go_to_quarantine(receiver: RunningReceiver) -> None:
    before = len(receiver.scans())
    for body in (b"PK\x03\x04" + bytes(200), gzip.compress(b"x" * 999), b"<html>" * 50):
        assert sent(receiver, body) == SUCCESS
    assert len(receiver.scans()) == before


def test_compressed_frames_that_disagree_with_the_header_go_to_quarantine(
    receiver: RunningReceiver,
) -> None:
    before = len(receiver.scans())
    no_codestream = radiograph(SOPInstanceUID=f"{ROOT}.6.7")
    set_frames(no_codestream, b"\xff\x4f\xff\x51" + bytes(60), transfer_syntax=JPEG2000Lossless)
    assert sent(receiver, encoded(as_file(no_codestream)), syntax=JPEG2000Lossless) == SUCCESS
    assert newest_reason(receiver) == "undecodable"
    # These are whole, and each decodes to 40 x 40 pixels.
    for number, (syntax, rows) in enumerate(
        (syntax, rows) for syntax in (RLELossless, JPEG2000Lossless) for rows in (12, 41)
    ):
        ds = compressed(syntax, SOPInstanceUID=f"{ROOT}.6.6.{number}")
        ds.Rows = rows
        assert sent(receiver, encoded(as_file(ds)), syntax=syntax) == SUCCESS
        item = list(receiver.driftward.quarantine.items())[-1]
        assert (item.reason, item.detail) == (Reason.UNDECODABLE, OTHER_SIZE)
    assert len(receiver.scans()) == before


def test_lengths_that_lie_end_the_association(receiver: RunningReceiver) -> None:
    for item_length in (0, 1, 0xFFFF_FFFF, 100):
        with RawSender(receiver.port) as sender:
            sender.associate(CR, ExplicitVRLittleEndian)
            sender.send(struct.pack(">BxLLBB", 4, 6, item_length, 1, 3))
            assert sender.receive()[:1] in {b"", b"\x07"}


def test_an_instance_beyond_the_limit_is_refused_and_the_next_is_taken(
    receiver: RunningReceiver, tmp_path: Path
) -> None:
    config = tmp_path / "receiver.yaml"
    config.write_text("site: north\nprocesses: 1\nlimits: {instance_bytes: 1048576}\n")
    with receiving(new_home(tmp_path / "home"), "--config", str(config)) as small:
        with RawSender(small.port, seconds=30) as sender:
            sender.associate(CR, ExplicitVRLittleEndian)
            sender.send(store_request(CR, "1.2.3", bytes(5 << 20)))
            assert status_of(sender.receive()) == 0xC000
            sender.send(store_request(CR, "1.2.3", encoded(as_file(radiograph()))))
            assert status_of(sender.receive()) == SUCCESS
        assert len(small.scans()) == 1
