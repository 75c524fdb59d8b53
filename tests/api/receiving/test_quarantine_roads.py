"""What is refused is one item, whatever road it takes."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import yaml
from databases import on_sqlite
from dicom_instances import as_file, gradient, radiograph
from dicom_programs import program
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EncapsulatedPDFStorage
from running_receiver import RunningReceiver, receiving

from api.assembly import Driftward
from monitor.intake.quarantine import QuarantinedItem
from monitor.sources.catalogue import apply_source
from monitor.sources.settings import parse_source

pytestmark = on_sqlite

ROOT = "1.2.826.0.1.3680043.8.498.77"


def refused() -> dict[str, Dataset]:
    """Return instances that are refused, with what roads write in more than one way."""
    code = Dataset()
    code.CodeValue = "1"
    burned = radiograph(
        SOPInstanceUID=f"{ROOT}.1",
        BurnedInAnnotation="YES",
        ProcedureCodeSequence=Sequence([code]),
    )
    odd = radiograph(gradient(63, 63), SOPInstanceUID=f"{ROOT}.2", BurnedInAnnotation="YES")
    document = radiograph(SOPInstanceUID=f"{ROOT}.3", SOPClassUID=EncapsulatedPDFStorage)
    del document.PixelData
    document.Modality = "DOC"
    return {"burned": burned, "odd": odd, "document": document}


def items(driftward: Driftward) -> list[QuarantinedItem]:
    return list(driftward.quarantine.items())


def by_folder(driftward: Driftward, folder: Path) -> None:
    text = {
        "name": "ward",
        "kind": "folder",
        "path": str(folder),
        "site": "north",
        "settle_seconds": 0,
        "afterwards": "keep",
    }
    source = parse_source(yaml.safe_dump(text), source="ward.yaml")
    with driftward.database.transaction() as session:
        apply_source(session, source, actor="ops", at=driftward.clock.now())
    driftward.followers.follow_once(["ward"], stop=threading.Event())


def send(receiver: RunningReceiver, folder: Path) -> None:
    # In both native transfer syntaxes, so that the same instance is encoded anew.
    for option in ("-xe", "-xi"):
        command = [program("storescu"), option, "+sd", "-aec", "DRIFTWARD"]
        subprocess.run([*command, "127.0.0.1", str(receiver.port), folder], check=True)


def test_a_receiver_and_a_folder_make_one_item_of_each_instance(
    home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for name, ds in refused().items():
        (folder / f"{name}.dcm").write_bytes(as_file(ds))
    with receiving(home) as receiver:
        send(receiver, folder)
        driftward = receiver.driftward
        sent = items(driftward)
        assert sorted(item.reason.value for item in sent) == [
            "burned_in",
            "burned_in",
            "report",
        ]
        assert {item.times for item in sent} == {2}
        by_folder(driftward, folder)
        driftward.intake.add([folder], site="north")
        again = items(driftward)
        assert [(item.id, item.at) for item in again] == [(item.id, item.at) for item in sent]
        assert {item.times for item in again} == {4}
        assert all(item.last_at is not None and item.last_at > item.at for item in again)


def test_a_release_holds_for_the_same_instance_by_another_road(
    home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(as_file(refused()["burned"]))
    with receiving(home) as receiver:
        driftward = receiver.driftward
        driftward.intake.add([folder], site="north")
        (item,) = items(driftward)
        by = driftward.whoever_runs_this()
        driftward.quarantine_keeper.release(item.id, statement="looked: no text", by=by)
        send(receiver, folder)
        assert items(driftward) == []
        assert len(receiver.scans()) == 1
