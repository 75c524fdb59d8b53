"""The receiver as it runs in a hospital: a process of its own, on a port that it picked."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE
from pynetdicom.association import Association
from sqlalchemy import select as query

from api.assembly import Driftward
from api.initialising import initialise
from api.settings import Settings
from monitor.tables import ScanRow
from registry import ledger

SITE = "north"
_START_SECONDS = 60.0
_ANSWER_SECONDS = 120.0


class RunningReceiver:
    """`driftward receive` over a home, and what came of it."""

    def __init__(self, home: Path, *options: str, environment: Mapping[str, str] = {}) -> None:
        self.home = home
        self.driftward = Driftward.open(Settings(home=home))
        self._log = (home.parent / "receive.log").open("ab")
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).parent / "driftward"),
                "receive",
                *("--home", str(home), "--port", "0"),
                *(options or ("--site", SITE)),
            ],
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
        )
        self.port = self._listening_port()

    @property
    def log(self) -> str:
        """Return what the receiver said, after it ended."""
        return (self.home.parent / "receive.log").read_text()

    def wait_until_reachable(self) -> None:
        """Wait until a connection is taken."""
        latest = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            except OSError:
                if time.monotonic() > latest:
                    raise
                time.sleep(0.1)
            else:
                return

    def children(self) -> list[int]:
        """Return the receiving processes."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in task.read_text().split()]

    def resident_bytes(self) -> int:
        """Return the memory of all its processes, shared pages counted once."""
        sizes = []
        for process in (self.process.pid, *self.children()):
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
            assert found is not None
            sizes.append(int(found[1]) * 1024)
        return sum(sizes)

    def kill(self) -> None:
        """End it as a power cut would."""
        for process in (self.process.pid, *self.children()):
            os.kill(process, signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """End it as an operator would."""
        if self.process.poll() is None:
            self.process.terminate()
        self._reap()

    def associate(
        self, *contexts: str, title: str = "SENDER", syntaxes: Iterable[str] = ()
    ) -> Association:
        """Open an association as a sender would."""
        ae = _patient(title)
        for context in contexts:
            if syntaxes:
                ae.add_requested_context(context, list(syntaxes))
            else:
                ae.add_requested_context(context)
        return ae.associate("127.0.0.1", self.port, ae_title="DRIFTWARD")

    def store(self, *files: bytes) -> list[int]:
        """Send files under one association, and return the status of each."""
        data_sets = [dcmread(DicomBytesIO(content), force=True) for content in files]
        ae = _patient("SENDER")
        for ds in data_sets:
            ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
        association = ae.associate("127.0.0.1", self.port, ae_title="DRIFTWARD")
        assert association.is_established
        try:
            return [association.send_c_store(ds).get("Status", -1) for ds in data_sets]
        finally:
            association.release()

    def scans(self) -> list[ScanRow]:
        """Return what was stored."""
        with self.driftward.database.reading() as session:
            return list(session.scalars(query(ScanRow).order_by(ScanRow.id)))

    def reasons(self) -> list[str]:
        """Return why things are in quarantine."""
        return [item.reason.value for item in self.driftward.quarantine.items()]

    def require_whole(self) -> None:
        """Check that rows, files and ledger agree: each row has its file, each file its row."""
        stored = {scan.vault_digest for scan in self.scans()}
        files = {path.stem for path in (self.home / "vault").rglob("*") if path.is_file()}
        assert files == stored
        with self.driftward.database.reading() as session:
            assert ledger.verify(session).valid

    def _listening_port(self) -> int:
        assert self.process.stderr is not None
        latest = time.monotonic() + _START_SECONDS
        said = b""
        while time.monotonic() < latest:
            readable, _, _ = select.select([self.process.stderr], [], [], 0.5)
            if readable:
                read = os.read(self.process.stderr.fileno(), 4096)
                said += read
                self._log.write(read)
                self._log.flush()
                if found := re.search(rb"receiving as .* on .*:(\d+);", said):
                    # Whatever it says from now on goes into the file by itself.
                    self._pump()
                    return int(found[1])
                if not read:
                    break
        raise AssertionError(f"the receiver did not start: {said.decode()}")

    def _pump(self) -> None:
        import threading

        pipe = self.process.stderr
        assert pipe is not None

        def pump() -> None:
            while read := os.read(pipe.fileno(), 1 << 16):
                self._log.write(read)
                self._log.flush()

        self._pumping = threading.Thread(target=pump, daemon=True)
        self._pumping.start()

    def _reap(self) -> None:
        self.process.wait(30)
        self._pumping.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self._log.close()
        self.driftward.database.dispose()


def _patient(title: str) -> AE:
    """Return a sender that waits as long as a machine with other work may take."""
    ae = AE(ae_title=title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = _ANSWER_SECONDS
    return ae


def new_home(folder: Path) -> Path:
    """Make an empty home."""
    settings = Settings(home=folder)
    initialise(settings, name="tester")
    return folder


@contextmanager
def receiving(
    home: Path, *options: str, environment: Mapping[str, str] = {}
) -> Iterator[RunningReceiver]:
    """Run a receiver over a home for as long as the context lasts."""
    receiver = RunningReceiver(home, *options, environment=environment)
    try:
        yield receiver
    finally:
        if receiver.process.returncode is None:
            receiver.stop()


class RawSender:
    """A sender that writes whatever bytes it likes."""

    def __init__(self, port: int, *, seconds: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)

    def __enter__(self) -> RawSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def associate(self, sop_class: str, transfer_syntax: str) -> None:
        """Ask for one context, of number 1, and be granted it."""
        self.send(associate_request(sop_class, transfer_syntax))
        assert self.receive()[0] == 0x02

    def receive(self) -> bytes:
        """Return the next PDU, or nothing where the connection was closed."""
        try:
            header = self._exactly(6)
            return header + self._exactly(struct.unpack(">L", header[2:])[0])
        except (EOFError, ConnectionError):
            return b""

    def _exactly(self, number: int) -> bytes:
        content = b""
        while len(content) < number:
            read = self.socket.recv(number - len(content))
            if not read:
                raise EOFError
            content += read
        return content


def associate_request(sop_class: str, transfer_syntax: str, *, title: str = "SENDER") -> bytes:
    """Return an A-ASSOCIATE-RQ for one context, of number 1 (PS3.8 9.3.2)."""

    def item(number: int, content: bytes) -> bytes:
        return struct.pack(">BBH", number, 0, len(content)) + content

    context = item(
        0x20,
        bytes((1, 0, 0, 0))
        + item(0x30, sop_class.encode())
        + item(0x40, transfer_syntax.encode()),
    )
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    body = b"".join(
        (
            struct.pack(">HH", 1, 0),
            b"DRIFTWARD".ljust(16),
            title.encode().ljust(16),
            bytes(32),
            item(0x10, b"1.2.840.10008.3.1.1.1"),
            context,
            user,
        )
    )
    return struct.pack(">BxL", 1, len(body)) + body


def store_request(sop_class: str, sop_instance: str, data_set: bytes) -> bytes:
    """Return a whole C-STORE-RQ under context 1, in PDUs of 16 KiB."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    elements = b"".join(
        (
            element(0x0002, sop_class.encode()),
            element(0x0100, struct.pack("<H", 1)),
            element(0x0110, struct.pack("<H", 1)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", 0)),
            element(0x1000, sop_instance.encode()),
        )
    )
    command = element(0x0000, struct.pack("<L", len(elements))) + elements
    parts = [_data_pdu(0x03, command)]
    size = 16_000
    for start in range(0, max(1, len(data_set)), size):
        last = start + size >= len(data_set)
        parts.append(_data_pdu(0x02 if last else 0x00, data_set[start : start + size]))
    return b"".join(parts)


def _data_pdu(control: int, content: bytes) -> bytes:
    item = struct.pack(">LBB", len(content) + 2, 1, control) + content
    return struct.pack(">BxL", 4, len(item)) + item


def status_of(pdu: bytes) -> int:
    """Return the status in the PDU that answers a C-STORE."""
    position = 12
    while position < len(pdu):
        _, element, length = struct.unpack_from("<HHL", pdu, position)
        position += 8
        if element == 0x0900:
            status: int = struct.unpack_from("<H", pdu, position)[0]
            return status
        position += length
    raise AssertionError("an answer without a status")
