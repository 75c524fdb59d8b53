"""What is kept of the day of a study, by the setting."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime
from typing import Any

import pytest
from dicom_instances import KEY, SITE, as_file, radiograph
from pydicom import dcmread
from pydicom.dataset import Dataset

from monitor.intake.decoding import DecodingProcess
from monitor.intake.intake import Accepted, prepare_bytes
from monitor.intake.keys import SecretKey
from monitor.intake.reading import read_instance
from monitor.intake.study_time import StudyTime, months_until, study_date_of
from monitor.intake.verifying import Fault, Finding, faults_of

# pydicom says what it thinks of values that are no dates.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
DECODER = DecodingProcess()
DAY = date(2026, 3, 2)


def stored(how: StudyTime, **elements: Any) -> bytes:
    prepared = prepare_bytes(
        as_file(radiograph(**elements)), site=SITE, key=KEY, decoder=DECODER, study_time=how
    )
    assert isinstance(prepared, Accepted), prepared
    return prepared.content


def read(how: StudyTime, **elements: Any) -> Dataset:
    return dcmread(io.BytesIO(stored(how, **elements)))


def shifted(site: str = SITE, key: SecretKey = KEY, **elements: Any) -> date:
    instance = read_instance(as_file(radiograph(**elements)))
    found = study_date_of(instance, how=StudyTime.SHIFTED, site=site, key=key)
    assert found is not None
    assert not found.coarse
    return found.day


def test_by_default_no_date_is_kept() -> None:
    ds = read(StudyTime.REMOVED)
    assert ds.StudyDate == ""
    assert ds.LongitudinalTemporalInformationModified == "REMOVED"


def test_of_a_month_its_first_day_is_kept() -> None:
    ds = read(StudyTime.MONTH, StudyDate="20260331")
    assert ds.StudyDate == "20260301"
    assert ds.LongitudinalTemporalInformationModified == "MODIFIED"


def test_a_shifted_day_is_another_one_of_the_same_weekday() -> None:
    shifts = {(DAY - shifted(PatientID=str(patient))).days for patient in range(200)}
    assert len(shifts) > 100
    assert all(0 < days <= 3640 and days % 7 == 0 for days in shifts)
    ds = read(StudyTime.SHIFTED)
    assert ds.StudyDate == shifted().strftime("%Y%m%d")
    assert ds.LongitudinalTemporalInformationModified == "MODIFIED"


def test_intervals_between_studies_of_a_patient_hold() -> None:
    first = shifted(StudyInstanceUID="1.2.3")
    later = shifted(StudyInstanceUID="1.2.4", StudyDate="20260416")
    assert later - first == date(2026, 4, 16) - DAY


def test_patients_sites_and_keys_shift_by_themselves() -> None:
    ways = [
        shifted(),
        shifted(PatientID="2"),
        shifted(site="elsewhere"),
        shifted(key=SecretKey(bytes(32))),
        shifted(IssuerOfPatientID="B"),
    ]
    assert len(set(ways)) == len(ways)


def test_without_an_identifier_a_study_shifts_as_one() -> None:
    one = shifted(PatientID="", SOPInstanceUID="1.2.3")
    assert shifted(PatientID="", SOPInstanceUID="1.2.4") == one
    assert shifted(PatientID="", StudyInstanceUID="1.2.5") != one


@pytest.mark.parametrize("how", [StudyTime.SHIFTED, StudyTime.MONTH])
@pytest.mark.parametrize(
    "day", ["", "20260231", "2026", "20260302-20260304", "yesterday", None]
)
def test_what_is_no_day_is_not_kept(how: StudyTime, day: str | None) -> None:
    ds = read(how, StudyDate=day, AcquisitionDate="20260302", ContentDate="20260302")
    assert ds.StudyDate == ""
    assert ds.LongitudinalTemporalInformationModified == "REMOVED"


def test_a_day_that_cannot_be_shifted_is_not_kept() -> None:
    assert read(StudyTime.SHIFTED, StudyDate="00010105").StudyDate == ""


@pytest.mark.parametrize("how", StudyTime)
def test_no_time_and_no_other_date_is_kept(how: StudyTime) -> None:
    dates = dict.fromkeys(("SeriesDate", "AcquisitionDate", "ContentDate"), "20260302")
    ds = read(how, StudyTime="073519", AcquisitionDateTime="20260302073519", **dates)
    assert ds.StudyTime == ""
    assert not any(keyword in ds for keyword in (*dates, "AcquisitionDateTime"))


@pytest.mark.parametrize("how", StudyTime)
def test_an_age_over_89_stands_beside_no_date_that_tells_it(how: StudyTime) -> None:
    ds = read(how, PatientBirthDate="19300105")
    assert ds.PatientAge == "090Y"
    assert ds.PatientBirthDate == ""


@pytest.mark.parametrize(
    ("kept", "setting", "clean"),
    [
        (StudyTime.REMOVED, StudyTime.REMOVED, True),
        (StudyTime.REMOVED, StudyTime.SHIFTED, True),
        (StudyTime.REMOVED, StudyTime.MONTH, True),
        (StudyTime.MONTH, StudyTime.MONTH, True),
        (StudyTime.MONTH, StudyTime.SHIFTED, True),
        (StudyTime.MONTH, StudyTime.REMOVED, False),
        (StudyTime.SHIFTED, StudyTime.SHIFTED, True),
        (StudyTime.SHIFTED, StudyTime.MONTH, False),
        (StudyTime.SHIFTED, StudyTime.REMOVED, False),
    ],
)
def test_a_file_is_held_against_the_setting_of_today(
    kept: StudyTime, setting: StudyTime, clean: bool
) -> None:
    assert shifted().day != 1
    found = faults_of(stored(kept), study_time=setting)
    assert found == ([] if clean else [Fault("StudyDate", Finding.DATE)])


@pytest.mark.parametrize(
    ("day", "said"), [("20260301", "REMOVED"), ("", "MODIFIED"), ("March", "MODIFIED")]
)
def test_a_date_that_the_file_does_not_own_up_to_is_found(day: str, said: str) -> None:
    ds = read(StudyTime.MONTH)
    ds.StudyDate = day
    ds.LongitudinalTemporalInformationModified = said
    stream = io.BytesIO()
    ds.save_as(stream)
    found = faults_of(stream.getvalue(), study_time=StudyTime.SHIFTED)
    assert Fault("StudyDate", Finding.VALUE) in found


def test_months_are_counted_where_a_month_is_kept_and_not_from_a_shifted_day() -> None:
    came = datetime(2026, 3, 1, tzinfo=UTC)
    assert months_until("2026-03", came) == 0
    assert months_until("2024-12", came) == 15
    assert months_until("2024-12-03", came) is None
    assert months_until(None, came) is None
