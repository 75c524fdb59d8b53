"""What real senders send to the DICOM port, as it is stored."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dicom_instances import as_file, radiograph
from dicom_programs import program
from running_receiver import RunningReceiver, receiving

ROOT = "1.2.826.0.1.3680043.8.498"
SUCCESS = 0x0000


def numbered(number: int, **elements: object) -> bytes:
    return as_file(radiograph(SOPInstanceUID=f"{ROOT}.9.{number}", **elements))


def test_what_storescu_sends_is_stored_once_however_often_it_comes(
    home: Path, tmp_path: Path
) -> None:
    storescu = program("storescu")
    folder = tmp_path / "sent"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.dcm").write_bytes(numbered(number))
    with receiving(home) as receiver:
        for _ in range(2):
            subprocess.run(
                [storescu, "+sd", "-aec", "DRIFTWARD", "127.0.0.1", str(receiver.port), folder],
                check=True,
            )
        assert len(receiver.scans()) == 12
        assert {scan.site for scan in receiver.scans()} == {"north"}
        receiver.require_whole()


def test_senders_at_once_store_everything_and_the_ledger_agrees(home: Path) -> None:
    with receiving(home) as receiver:

        def send(sender: int) -> list[int]:
            return receiver.store(*(numbered(100 * sender + i) for i in range(10)))

        with ThreadPoolExecutor(8) as senders:
            statuses = [one for sent in senders.map(send, range(8)) for one in sent]
        assert statuses == [SUCCESS] * 80
        assert len(receiver.scans()) == 80
        receiver.require_whole()


def test_what_is_no_scan_is_acknowledged_and_waits_in_quarantine(home: Path) -> None:
    burned_in = numbered(1, BurnedInAnnotation="YES")
    with receiving(home) as receiver:
        assert receiver.store(burned_in, numbered(2)) == [SUCCESS, SUCCESS]
        assert receiver.reasons() == ["burned_in"]
        assert len(receiver.scans()) == 1


def test_a_database_that_is_away_is_told_to_the_sender_and_recovers_by_itself(
    home: Path,
) -> None:
    with receiving(home) as receiver:
        assert receiver.store(numbered(1)) == [SUCCESS]
        # The table is gone for a while, as a database in the middle of a restore is.
        with receiver.driftward.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE scans RENAME TO scans_away")
        assert receiver.store(numbered(2)) == [0xA700]
        with receiver.driftward.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE scans_away RENAME TO scans")
        assert receiver.store(numbered(2)) == [SUCCESS]
        assert len(receiver.scans()) == 2
        receiver.require_whole()


def test_the_figures_say_what_came_and_that_a_receiver_runs(home: Path) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    from api.receiver_metrics import ReceiverCollector
    from monitor.receiving.counters import Counters

    def figures(receiver: RunningReceiver) -> str:
        registry = CollectorRegistry()
        path = receiver.driftward.home.receiver_counters
        registry.register(ReceiverCollector(lambda: Counters.of_running(path)))
        return generate_latest(registry).decode()

    with receiving(home) as receiver:
        receiver.store(numbered(1), numbered(1), numbered(2, BurnedInAnnotation="YES"))
        text = figures(receiver)
    for line in (
        "driftward_receiver_up 1.0",
        'driftward_receiver_instances_total{outcome="added"} 1.0',
        'driftward_receiver_instances_total{outcome="known"} 1.0',
        'driftward_receiver_instances_total{outcome="quarantined"} 1.0',
        'driftward_receiver_associations_total{outcome="granted"} 1.0',
        "driftward_receiver_acknowledge_seconds_count 3.0",
        "driftward_receiver_open_associations 0.0",
    ):
        assert line in text
