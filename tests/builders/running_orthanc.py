"""A real Orthanc on a free port of loopback, with a storage folder of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from dicom_programs import program

USER, PASSWORD = "driftward", "correct horse"
_DICOMWEB = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/lib/orthanc/libOrthancDicomWeb.so"),
)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Damage:
    """A stored file that was put aside."""

    path: Path
    aside: Path

    def mend(self) -> None:
        self.aside.rename(self.path)


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that its own key signed.

    Returns the PEM file of both, and that of the certificate.
    """
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orthanc")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    both, alone = folder / "orthanc.pem", folder / "authority.pem"
    both.write_bytes(private + public)
    alone.write_bytes(public)
    return both, alone


class RunningOrthanc:
    """An Orthanc server; to be stopped."""

    def __init__(self, folder: Path) -> None:
        self._executable = program("Orthanc")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(
            base_url=self.url,
            auth=(USER, PASSWORD),
            trust_env=False,
            timeout=30,
        )
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, settings: Mapping[str, Any] | None = None) -> None:
        """Start it on what its storage folder holds, and wait until it answers."""
        plugin = next((path for path in _DICOMWEB if path.exists()), None)
        document: dict[str, Any] = {
            "Name": "driftward-test",
            "StorageDirectory": str(self._folder / "storage"),
            "IndexDirectory": str(self._folder / "storage"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            # What is taken away from the storage must not be answered from memory.
            "MaximumStorageCacheSize": 0,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [] if plugin is None else [str(plugin)],
            **(settings or {}),
        }
        configuration = self._folder / "orthanc.json"
        configuration.write_text(json.dumps(document))
        with (self._folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._executable, configuration], stdout=log, stderr=log, cwd=self._folder
            )
        latest = time.monotonic() + 60
        while True:
            try:
                self.client.get("/system").raise_for_status()
            except httpx.HTTPError:
                if self._process.poll() is not None or time.monotonic() > latest:
                    raise RuntimeError((self._folder / "orthanc.log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it; its storage stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def forget_everything(self) -> None:
        """Set the stopped server up anew."""
        shutil.rmtree(self._folder / "storage")

    def close(self) -> None:
        """End it at once, whatever it still had to write: to stop takes it seconds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.client.close()

    def store(self, content: bytes) -> str:
        """Store an instance, and return Orthanc's identifier of it."""
        answer = self.client.post("/instances", content=content)
        answer.raise_for_status()
        identifier: str = answer.json()["ID"]
        return identifier

    @property
    def last_change(self) -> int:
        """The number of the newest change in its feed."""
        answer = self.client.get("/changes", params={"last": ""})
        answer.raise_for_status()
        number: int = answer.json()["Last"]
        return number

    def delete(self, identifier: str) -> None:
        self.client.delete(f"/instances/{identifier}").raise_for_status()

    def damage(self, identifier: str) -> Damage:
        """Take away the stored file of an instance that the index still lists."""
        answer = self.client.get(f"/instances/{identifier}/attachments/dicom/info")
        answer.raise_for_status()
        [path] = (self._folder / "storage").rglob(answer.json()["Uuid"])
        damage = Damage(path, path.with_name("aside"))
        path.rename(damage.aside)
        return damage

    def clear_changes(self) -> None:
        self.client.delete("/changes").raise_for_status()


@contextmanager
def encrypted(port: int, certificate: Path) -> Iterator[int]:
    """Offer a port of loopback over TLS, as a proxy before a server does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    )
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
