"""STOW-RS, by a real client against a real server, and by senders that get it wrong."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from databases import Databases
from dicom_instances import as_file, radiograph
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from running_orthanc import RunningOrthanc
from sources_home import SourcesHome, instance
from sqlalchemy.exc import OperationalError

from api.assembly import Driftward
from api.http import dicomweb
from api.http.app import create_app
from api.http.serving import listen
from api.initialising import initialise
from api.settings import Settings
from monitor.intake.reasons import Reason
from registry.errors import StorageFullError

REPORT = "1.2.840.10008.5.1.4.1.1.88.11"
BOUNDARY = "driftward-test"
TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
WARNED, OTHER_STUDY, NOT_UNDERSTOOD = 0xB007, 0xA900, 0xC000


@pytest.fixture(scope="session")
def stored_to(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home to which north and south may store over DICOMweb."""
    home = databases.home_at(tmp_path_factory.mktemp("dicomweb") / "home")
    initialise(home)
    driftward = Driftward.open(home)
    SourcesHome(driftward).apply(name="web", kind="dicomweb", sites=["north", "south"])
    driftward.database.dispose()
    return home


@pytest.fixture
def home(databases: Databases, stored_to: Settings, tmp_path: Path) -> Iterator[SourcesHome]:
    copied = databases.copied_home(stored_to, tmp_path / "home")
    driftward = Driftward.open(copied)
    yield SourcesHome(driftward)
    driftward.database.dispose()
    databases.throw_away_database(copied)


@pytest.fixture
def address(home: SourcesHome) -> Iterator[str]:
    """The address of a server of that home."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(home.driftward), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture
def post(address: str) -> Callable[..., httpx.Response]:
    def post_to(
        body: bytes | Iterator[bytes], *, path: str = "north/studies", **headers: str
    ) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(
            f"{address}/dicomweb/{path}",
            content=body,
            headers={"content-type": TYPE, **named},
            timeout=60,
            trust_env=False,
        )

    return post_to


def parts(*contents: bytes, boundary: str = BOUNDARY) -> bytes:
    opened = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(
        [*(opened + content + b"\r\n" for content in contents), f"--{boundary}--".encode()]
    )


def items(answer: httpx.Response, tag: str) -> list[tuple[str, int | None]]:
    """Return the SOP Instance UIDs of a sequence, each with its reason."""
    assert answer.headers["content-type"] == "application/dicom+json"
    found = []
    for item in answer.json().get(tag, {"Value": []})["Value"]:
        reason = item.get("00081196") or item.get("00081197")
        found.append(
            (
                item["00081155"]["Value"][0] if "00081155" in item else "",
                reason and reason["Value"][0],
            )
        )
    return found


def uid(number: int) -> str:
    return f"1.2.826.0.1.3680043.8.498.1.{number}"


def test_a_dicomweb_client_stores_a_study(home: SourcesHome, address: str) -> None:
    client = DICOMwebClient(f"{address}/dicomweb/north", chunk_size=1000)
    sent = [dcmread(DicomBytesIO(instance(number))) for number in range(5)]
    answer = client.store_instances(sent)
    stored = [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence]
    assert stored == [one.SOPInstanceUID for one in sent]
    assert home.scans == 5
    client.store_instances(sent[:2])
    client.store_instances(sent[:1], study_instance_uid=sent[0].StudyInstanceUID)
    assert home.scans == 5
    assert dict(home.standing("web").counts) == {"added": 5, "known": 3}
    assert home.standing("web").last_success_at is not None


def test_a_site_s_scans_are_its_own(home: SourcesHome, post: Any) -> None:
    for site in ("north", "south"):
        assert post(parts(instance(0)), path=f"{site}/studies").status_code == 200
    assert home.scans == 2


def test_a_site_that_nobody_allowed_is_not_found_and_told_the_way_out(
    home: SourcesHome, post: Any
) -> None:
    for path in ("west/studies", "west/studies/1.2.3"):
        answer = post(parts(instance(0)), path=path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert "`driftward source apply`" in answer.json()["detail"]
    home.remove("web")
    assert post(parts(instance(0))).status_code == 404
    assert home.scans == 0


def test_what_is_no_scan_is_kept_and_said_with_a_warning(home: SourcesHome, post: Any) -> None:
    report = instance(1, SOPClassUID=REPORT, Modality="SR")
    answer = post(parts(instance(0), report, instance(0)))
    assert answer.status_code == 202
    assert items(answer, "00081199") == [(uid(0), None), (uid(1), WARNED), (uid(0), None)]
    assert items(answer, "00081198") == []
    assert (home.scans, home.quarantined) == (1, 1)


def test_a_cut_short_instance_is_named_by_its_meta_information(
    home: SourcesHome, post: Any
) -> None:
    answer = post(parts(instance(3)[:-40]))
    assert answer.status_code == 202
    assert items(answer, "00081199") == [(uid(3), WARNED)]
    [item] = home.driftward.quarantine.items()
    assert item.reason is Reason.TRUNCATED


def test_what_has_no_name_cannot_be_ticked_off_by_its_sender(
    home: SourcesHome, post: Any
) -> None:
    answer = post(parts(b"Yamada Hanako"))
    assert answer.status_code == 409
    assert items(answer, "0008119A") == [("", NOT_UNDERSTOOD)]
    assert b"Yamada" not in answer.content
    assert home.quarantined == 1


def test_an_instance_of_another_study_is_refused_and_the_others_are_stored(
    home: SourcesHome, post: Any
) -> None:
    study = "1.2.826.0.1.3680043.8.498.2.0"
    answer = post(parts(instance(0), instance(7)), path=f"north/studies/{study}")
    assert answer.status_code == 202
    assert items(answer, "00081199") == [(uid(0), None)]
    assert items(answer, "00081198") == [(uid(7), OTHER_STUDY)]
    assert (home.scans, home.quarantined) == (1, 0)
    answer = post(parts(instance(7)), path=f"north/studies/{study}")
    assert answer.status_code == 409
    assert dict(home.standing("web").counts) == {"added": 1, "refused": 2}


def test_a_part_beyond_the_limit_is_refused_by_name_and_the_others_are_stored(
    home: SourcesHome, post: Any
) -> None:
    home.apply(name="web", kind="dicomweb", sites=["north"], largest_part_bytes=2000)
    large = instance(1)[:-10] + bytes(100_000)
    assert len(instance(0)) < 2000
    answer = post(parts(instance(0), large, instance(2)))
    assert answer.status_code == 202
    assert [one for one, _ in items(answer, "00081199")] == [uid(0), uid(2)]
    assert items(answer, "00081198") == [(uid(1), NOT_UNDERSTOOD)]
    assert (home.scans, home.quarantined) == (2, 0)


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (b"", {}, 400, "boundary"),
        (parts(instance(0), boundary="other"), {}, 400, "does not have the boundary"),
        (parts(instance(0))[:-5], {}, 400, "ends within part 1"),
        (parts(instance(0)).replace(b"\r\n\r\n", b"\n\n", 1), {}, 400, "part 1"),
        (parts(*[b""] * 100_000), {}, 400, "part 1 is empty"),
        (parts(), {}, 400, "no part"),
        (
            parts(instance(0)).replace(b"application/dicom\r\n", b"text/plain\r\n"),
            {},
            415,
            "part 1",
        ),
        (
            parts(instance(0)).replace(b"dicom\r\n", b"dicom\r\nContent-Length: 5\r\n", 1),
            {},
            400,
            "Content-Length says otherwise",
        ),
        (instance(0), {"content_type": "application/dicom"}, 415, "multipart/related"),
        (b"[]", {"content_type": "application/dicom+json"}, 415, "multipart/related"),
        (
            parts(instance(0)),
            {"content_type": TYPE.replace("application/dicom", "application/dicom+xml")},
            415,
            "multipart/related",
        ),
        (
            parts(instance(0)),
            {"content_type": 'multipart/related; type="application/dicom"'},
            400,
            "no boundary",
        ),
        (gzip.compress(parts(instance(0))), {"content_encoding": "gzip"}, 415, "compressed"),
        (parts(instance(0)), {"accept": "text/html"}, 406, "application/dicom+json"),
    ],
)
def test_what_a_sender_got_wrong_is_said_and_nothing_is_kept(
    home: SourcesHome,
    post: Any,
    body: bytes,
    headers: dict[str, str],
    status: int,
    said: str,
) -> None:
    answer = post(body, **headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert said in problem["detail"]
    assert (home.scans, home.quarantined) == (0, 0)


def test_a_study_that_is_none_is_refused(home: SourcesHome, post: Any) -> None:
    answer = post(parts(instance(0)), path="north/studies/Yamada")
    assert answer.status_code == 400
    assert "Yamada" not in answer.json()["detail"]
    assert home.scans == 0


def test_more_parts_than_allowed_are_refused(home: SourcesHome, post: Any) -> None:
    home.apply(name="web", kind="dicomweb", sites=["north"], most_parts=2)
    answer = post(parts(*(instance(number) for number in range(3))))
    assert answer.status_code == 413
    assert "more than 2 parts; nothing of the request was kept" in answer.json()["detail"]
    assert home.scans == 0


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_refused_before_it_has_come(
    home: SourcesHome, address: str, announced: bool
) -> None:
    home.apply(name="web", kind="dicomweb", sites=["north"], largest_request_bytes=1 << 20)
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as sender:
        length = f"Content-Length: {1 << 40}" if announced else "Transfer-Encoding: chunked"
        sender.sendall(
            f"POST /dicomweb/north/studies HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: {TYPE}\r\n{length}\r\n\r\n".encode()
        )
        begun = parts(b"")[: -len(f"\r\n--{BOUNDARY}--")]
        sender.sendall(begun if announced else f"{len(begun):x}\r\n".encode() + begun + b"\r\n")
        piece = bytes(1 << 16)
        sent = 0
        sender.settimeout(0.05)
        answer = b""
        # A sender that would go on for ever is answered, and then cut off.
        while sent < 1 << 30:
            try:
                sender.sendall(piece if announced else b"10000\r\n" + piece + b"\r\n")
                sent += len(piece)
            except TimeoutError:
                pass
            except OSError:
                break
            with suppress(TimeoutError, OSError):
                got = sender.recv(4096)
                answer += got
                if not got:
                    break
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"raise largest_request_bytes" in answer
    assert sent < 1 << 26
    assert home.scans == 0


def test_a_sender_that_stops_is_not_waited_for(home: SourcesHome, address: str) -> None:
    home.apply(name="web", kind="dicomweb", sites=["north"], idle_seconds=0.2)
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as sender:
        sender.sendall(
            f"POST /dicomweb/north/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
            f"{TYPE}\r\nContent-Length: 100000\r\n\r\n".encode()
            + parts(instance(0))[:500]
        )
        answer = sender.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert home.scans == 0


def test_a_sender_that_goes_leaves_nothing_half_stored(
    home: SourcesHome, address: str, post: Any
) -> None:
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as sender:
        sender.sendall(
            f"POST /dicomweb/north/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
            f"{TYPE}\r\nContent-Length: 100000\r\n\r\n".encode()
            + parts(instance(0))
        )
    assert post(parts(instance(1))).status_code == 200
    assert home.scans == 1


@pytest.mark.parametrize(
    "error",
    [
        StorageFullError("no space is left to write into the vault: free some"),
        OperationalError("INSERT Yamada", {}, Exception("Yamada")),
        OSError(5, "Input/output error"),
    ],
)
def test_what_cannot_be_stored_now_is_to_be_sent_again(
    home: SourcesHome, post: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(home.driftward.intake, "take", failing)
    answer = post(parts(instance(0)))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == str(dicomweb.RETRY_SECONDS)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Yamada" not in answer.text
    monkeypatch.undo()
    assert post(parts(instance(0))).status_code == 200
    assert home.scans == 1


def test_what_came_whole_before_a_fault_is_stored_and_said(
    home: SourcesHome, post: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.sources.taking.LARGEST_GROUP", 2)
    answer = post(parts(*(instance(number) for number in range(5)))[:-20])
    assert answer.status_code == 400
    assert "4 instances before it are stored" in answer.json()["detail"]
    assert home.scans == 4
    answer = post(parts(*(instance(number) for number in range(5))))
    assert answer.status_code == 200
    assert dict(home.standing("web").counts) == {"added": 5, "known": 4}


def test_many_senders_at_once_store_each_instance_once(home: SourcesHome, post: Any) -> None:
    answers: list[int] = []

    def send() -> None:
        answers.append(post(parts(*(instance(number) for number in range(6)))).status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 8
    assert home.scans == 6
    assert home.standing("web").counts == {"added": 6, "known": 42}
    assert home.ledger_is_valid


def test_a_sender_s_identifiers_are_kept_nowhere(home: SourcesHome, post: Any) -> None:
    sent = as_file(radiograph(SOPInstanceUID="1.2.3.4.5.6.7"))
    assert items(post(parts(sent)), "00081199") == [("1.2.3.4.5.6.7", None)]
    home.driftward.database.dispose()
    for path in home.driftward.settings.home.rglob("*"):
        if path.is_file():
            assert b"1.2.3.4.5.6.7" not in path.read_bytes(), path


def test_orthanc_sends_what_it_has(home: SourcesHome, address: str, tmp_path: Path) -> None:
    orthanc = RunningOrthanc(tmp_path / "orthanc")
    servers = {"driftward": {"Url": f"{address}/dicomweb/north/"}}
    orthanc.start({"DicomWeb": {"Enable": True, "Servers": servers}})
    try:
        stored = [orthanc.store(instance(number)) for number in range(5)]
        asked = {"Resources": stored, "Synchronous": True}
        for _ in range(2):
            answer = orthanc.client.post("/dicom-web/servers/driftward/stow", json=asked)
            assert answer.status_code == 200, answer.text
    finally:
        orthanc.close()
    assert home.scans == 5
    assert dict(home.standing("web").counts) == {"added": 5, "known": 5}
