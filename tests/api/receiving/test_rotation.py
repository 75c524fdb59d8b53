"""Keys that are rotated while the receiver runs."""

from __future__ import annotations

from pathlib import Path

from databases import on_sqlite
from dicom_instances import as_file, radiograph
from running_receiver import receiving

pytestmark = on_sqlite


def image(number: int, *, patient: str = "4711") -> bytes:
    return as_file(
        radiograph(
            PatientID=patient,
            StudyInstanceUID=f"1.2.826.0.1.3680043.8.498.2.{patient}",
            SOPInstanceUID=f"1.2.826.0.1.3680043.8.498.1.{number}",
        )
    )


def test_a_running_receiver_takes_new_keys_up_by_itself(home: Path) -> None:
    with receiving(home, "--site", "north") as receiver:
        assert receiver.store(image(1), image(2, patient="4712")) == [0, 0]
        driftward = receiver.driftward
        by = driftward.local_user()
        for _ in range(2):
            driftward.pseudonym_keys.rotate(reason="test", by=by, clock=driftward.clock)
            again = [image(1), image(2, patient="4712")]
            assert receiver.store(*again) == [0, 0]
        assert receiver.store(image(3), image(4, patient="4713")) == [0, 0]
        first, second, third, fourth = receiver.scans()
        assert third.patient == first.patient
        assert third.study == first.study
        assert len({first.patient, second.patient, fourth.patient}) == 3
        assert receiver.reasons() == []
