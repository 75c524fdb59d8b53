"""The receiver as its senders and its operators see it, whatever database it stores to."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from databases import on_sqlite
from dicom_instances import as_file, radiograph
from dicom_programs import program
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from running_receiver import RawSender, associate_request, receiving

pytestmark = on_sqlite

VERIFICATION = "1.2.840.10008.1.1"
ROOT = "1.2.826.0.1.3680043.8.498"
SUCCESS = 0x0000
# A-ASSOCIATE-RJ: permanent, by the service user, calling AE title not recognised (PS3.8 9.3.4).
CALLING_TITLE_NOT_RECOGNISED = bytes((0x03, 0, 0, 0, 0, 4, 0, 1, 1, 3))


def numbered(number: int, **elements: object) -> bytes:
    return as_file(radiograph(SOPInstanceUID=f"{ROOT}.9.{number}", **elements))


def test_an_echo_is_answered_and_a_wrong_title_is_told_so(home: Path) -> None:
    echoscu = program("echoscu")
    with receiving(home) as receiver:
        right = subprocess.run(
            [echoscu, "-v", "-aec", "DRIFTWARD", "127.0.0.1", str(receiver.port)],
            capture_output=True,
            text=True,
            check=False,
        )
        wrong = subprocess.run(
            [echoscu, "-v", "-aec", "ELSEWHERE", "127.0.0.1", str(receiver.port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "Received Echo Response (Success)" in right.stdout + right.stderr
    assert "Called AE Title Not Recognized" in wrong.stdout + wrong.stderr


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_each_native_transfer_syntax_gives_the_same_scan(home: Path, syntax: str) -> None:
    from dicom_instances import in_native_syntax

    with receiving(home) as receiver:
        assert receiver.store(in_native_syntax(syntax)) == [SUCCESS]
        assert receiver.store(in_native_syntax(ExplicitVRLittleEndian)) == [SUCCESS]
        assert len(receiver.scans()) == 1
        assert receiver.reasons() == []


def test_contexts_of_no_storage_class_and_syntaxes_that_are_not_decoded_are_refused(
    home: Path,
) -> None:
    mpeg = "1.2.840.10008.1.2.4.102"
    with receiving(home) as receiver:
        association = receiver.associate("1.2.840.10008.5.1.4.1.2.2.1", VERIFICATION)
        assert [str(one.abstract_syntax) for one in association.accepted_contexts] == [
            VERIFICATION
        ]
        association.release()
        association = receiver.associate(CTImageStorage, syntaxes=[mpeg])
        assert not association.accepted_contexts
        association.abort()


def test_strangers_are_turned_away_and_peers_send_for_their_own_site(
    home: Path, tmp_path: Path
) -> None:
    config = tmp_path / "receiver.yaml"
    config.write_text(
        "peers:\n"
        "  - {title: SENDER, addresses: [127.0.0.0/8], site: west}\n"
        "  - {title: FARAWAY, addresses: [10.0.0.0/8], site: east}\n"
    )
    with receiving(home, "--config", str(config)) as receiver:
        for stranger in ("NOBODY", "FARAWAY"):
            # Said as bytes: pynetdicom's requestor takes an answer that closes the connection
            # before it looked for a connection that was never made, and loses the rejection.
            with RawSender(receiver.port) as sender:
                sender.send(
                    associate_request(VERIFICATION, ImplicitVRLittleEndian, title=stranger)
                )
                assert sender.receive() == CALLING_TITLE_NOT_RECOGNISED
        assert receiver.store(numbered(1)) == [SUCCESS]
        assert [scan.site for scan in receiver.scans()] == ["west"]


def test_a_process_that_dies_is_started_again(home: Path) -> None:
    import os
    import signal

    with receiving(home) as receiver:
        first = receiver.children()
        for process in first:
            os.kill(process, signal.SIGKILL)
        latest = time.monotonic() + 60
        while set(receiver.children()) & set(first):
            assert time.monotonic() < latest
            time.sleep(0.1)
        receiver.wait_until_reachable()
        assert receiver.store(numbered(1)) == [SUCCESS]


def test_a_stop_ends_every_process_and_says_nothing_of_patients(home: Path) -> None:
    with receiving(home) as receiver:
        receiver.store(numbered(1), numbered(2, BurnedInAnnotation="YES"))
        children = receiver.children()
        receiver.stop()
        assert receiver.process.returncode == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)
        for canary in ("Yamada", "Hanako", "4711-0815", ROOT):
            assert canary not in receiver.log


def test_a_sample_over_an_encrypted_port(home: Path, tmp_path: Path) -> None:
    storescu = program("storescu")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    config = tmp_path / "receiver.yaml"
    config.write_text(
        f"site: north\ntls: {{certificate: {certificate}, key: {key}, authority: {certificate}}}\n"
    )
    (tmp_path / "1.dcm").write_bytes(numbered(1))
    with receiving(home, "--config", str(config)) as receiver:
        subprocess.run(
            [
                *(storescu, "-aec", "DRIFTWARD", "+tls", key, certificate),
                *("+cf", certificate, "127.0.0.1", str(receiver.port), tmp_path / "1.dcm"),
            ],
            check=True,
        )
        assert len(receiver.scans()) == 1
        assert not receiver.associate(VERIFICATION).is_established  # not without keys


def test_memory_stays_bounded_while_large_instances_come_at_once(home: Path) -> None:
    import numpy as np

    large = np.zeros((3000, 2500), dtype=np.uint16)
    with receiving(home) as receiver:

        def send(sender: int) -> int:
            ds = radiograph(large + sender, SOPInstanceUID=f"{ROOT}.7.{sender}")
            return receiver.store(as_file(ds))[0]

        with ThreadPoolExecutor(6) as senders:
            assert list(senders.map(send, range(6))) == [SUCCESS] * 6
        assert receiver.resident_bytes() < 768 << 20
        assert len(receiver.scans()) == 6


def test_the_port_of_another_program_is_named(home: Path, tmp_path: Path) -> None:
    import socket
    import sys

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = Path(sys.executable).parent / "driftward"
        ended = subprocess.run(
            [command, "receive", "--home", home, "--site", "north", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr


def test_a_receiver_that_all_could_send_to_is_refused(home: Path) -> None:
    import sys

    command = Path(sys.executable).parent / "driftward"
    ended = subprocess.run(
        [command, "receive", "--home", home, "--site", "north", "--host", "0.0.0.0"],  # noqa: S104
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "peers" in ended.stderr


def test_unused_options_leave_the_receiver_as_the_file_says(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "receiver.yaml"
    config.write_text("title: OTHER\nsite: south\n")
    with receiving(home, "--config", str(config), "--aet", "DRIFTWARD") as receiver:
        assert receiver.store(numbered(1)) == [SUCCESS]
        assert [scan.site for scan in receiver.scans()] == ["south"]


def test_up_opens_the_port_where_the_home_says_who_may_send(home: Path) -> None:
    import socket
    import sys

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (home / "receiver.yaml").write_text(f"site: north\nport: {port}\nprocesses: 1\n")
    command = Path(sys.executable).parent / "driftward"
    with subprocess.Popen(
        [command, "up", "--home", home, "--port", "0"], stderr=subprocess.PIPE
    ) as up:
        try:
            assert up.stderr is not None
            said = ""
            while "receiving as DRIFTWARD" not in said:
                line = up.stderr.readline().decode()
                assert line, said
                said += line
        finally:
            up.terminate()
            up.communicate(timeout=60)
    assert up.returncode == 0


@pytest.mark.parametrize("key", ["quarantine.key", "pseudonyms.key"])
def test_a_receiver_that_cannot_start_says_why_and_ends(home: Path, key: str) -> None:
    import sys

    (home / "keys" / key).unlink()
    command = Path(sys.executable).parent / "driftward"
    ended = subprocess.run(
        [command, "receive", "--home", home, "--site", "north", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert key in ended.stderr
    assert "Traceback" not in ended.stderr


def _started(*arguments: str) -> subprocess.CompletedProcess[str]:
    import sys

    command = Path(sys.executable).parent / "driftward"
    return subprocess.run(
        [command, "receive", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_two_receivers_never_share_a_port_or_a_home(home: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(home, tmp_path / "other")
    with receiving(home) as receiver:
        port = str(receiver.port)
        taken = _started("--home", str(tmp_path / "other"), "--site", "south", "--port", port)
        assert taken.returncode == 1
        assert port in taken.stderr
        again = _started("--home", str(home), "--site", "north", "--port", "0")
        assert again.returncode == 1
        assert "runs already" in again.stderr
        assert receiver.store(numbered(1)) == [SUCCESS]


def test_processes_end_with_a_parent_that_was_killed(home: Path) -> None:
    import os
    import signal

    with receiving(home) as receiver:
        children = receiver.children()
        os.kill(receiver.process.pid, signal.SIGKILL)
        receiver.process.wait(30)
        latest = time.monotonic() + 30
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < latest, "children outlive their parent"
            time.sleep(0.1)
        receiver.stop()


def test_an_option_gives_what_the_file_leaves_out(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "receiver.yaml"
    config.write_text("processes: 1\n")
    with receiving(home, "--config", str(config), "--site", "west") as receiver:
        assert receiver.store(numbered(1)) == [SUCCESS]
        assert [scan.site for scan in receiver.scans()] == ["west"]
