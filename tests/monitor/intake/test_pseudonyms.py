from __future__ import annotations

import hashlib
import hmac
import uuid
from typing import Any

from dicom_instances import KEY, SITE, as_file, in_native_syntax, radiograph
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from monitor.intake.keys import SecretKey
from monitor.intake.pseudonyms import Pseudonyms, instance_pseudonym, pseudonyms_of, token
from monitor.intake.reading import read_instance

OTHER_KEY = SecretKey(bytes(32))


def pseudonyms(*, site: str = SITE, key: SecretKey = KEY, **elements: Any) -> Pseudonyms:
    return pseudonyms_of(read_instance(as_file(radiograph(**elements))), site=site, key=key)


def test_the_same_instance_has_the_same_pseudonyms() -> None:
    assert pseudonyms() == pseudonyms()


def test_sites_and_keys_have_nothing_in_common() -> None:
    found = [
        pseudonyms(site=site, key=key)
        for site in ("north", "south")
        for key in (KEY, OTHER_KEY)
    ]
    for name in Pseudonyms.__dataclass_fields__:
        assert len({getattr(each, name) for each in found}) == 4


def test_a_patient_is_told_apart_by_identifier_and_issuer() -> None:
    first = pseudonyms(PatientID="1", IssuerOfPatientID="A")
    assert pseudonyms(PatientID="2", IssuerOfPatientID="A").patient != first.patient
    assert pseudonyms(PatientID="1", IssuerOfPatientID="B").patient != first.patient
    # Fields are not simply joined.
    assert (
        pseudonyms(PatientID="A1", IssuerOfPatientID="").patient
        != pseudonyms(PatientID="1", IssuerOfPatientID="A").patient
    )


def test_padding_and_encoding_do_not_make_another_patient() -> None:
    latin = pseudonyms(SpecificCharacterSet="ISO_IR 100", PatientID="Bäcker")
    utf8 = pseudonyms(SpecificCharacterSet="ISO_IR 192", PatientID=" Bäcker ")
    decomposed = pseudonyms(SpecificCharacterSet="ISO_IR 192", PatientID="Ba\u0308cker")
    assert latin.patient == utf8.patient == decomposed.patient


def test_images_of_one_study_are_of_one_patient_where_no_identifier_is_given() -> None:
    first = pseudonyms(PatientID="", SOPInstanceUID="1.2.3")
    second = pseudonyms(PatientID="", SOPInstanceUID="1.2.4")
    elsewhere = pseudonyms(PatientID="", StudyInstanceUID="1.2.5")
    assert first.patient == second.patient
    assert first.patient != elsewhere.patient


def test_every_road_gives_one_identity() -> None:
    for transfer_syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian):
        instance = read_instance(in_native_syntax(transfer_syntax))
        assert pseudonyms_of(instance, site=SITE, key=KEY) == pseudonyms()


def test_surrogate_uids_are_valid_and_derived_from_uuids() -> None:
    found = pseudonyms()
    for surrogate in (found.study, found.series, found.instance):
        assert UID(surrogate).is_valid
        assert len(surrogate) <= 64
        parsed = uuid.UUID(int=int(surrogate.removeprefix("2.25.")))
        assert parsed.version == 8
        assert parsed.variant == uuid.RFC_4122
    assert len({found.study, found.series, found.instance}) == 3


def test_one_uid_is_another_pseudonym_as_study_than_as_instance() -> None:
    found = pseudonyms(
        StudyInstanceUID="1.2.3", SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2.3"
    )
    assert len({found.study, found.series, found.instance}) == 3


def test_the_pseudonym_of_a_uid_alone_finds_its_instance() -> None:
    uid = str(radiograph().SOPInstanceUID)
    assert instance_pseudonym(uid, site=SITE, key=KEY) == pseudonyms().instance
    assert instance_pseudonym(f"{uid}\0", site=SITE, key=KEY) == pseudonyms().instance


def test_the_patient_pseudonym_is_hmac_sha256_of_length_prefixed_fields() -> None:
    fields = (b"patient", b"north", b"", b"4711-0815")
    message = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    expected = hmac.digest(KEY.secret, message, hashlib.sha256).hex()[:32]
    assert pseudonyms().patient == expected


def test_a_path_or_a_nul_in_a_uid_stays_inside_the_hash() -> None:
    content = as_file(radiograph())
    evil = content.replace(
        b"1.2.826.0.1.3680043.8.498.1", b"../../../etc/passwd\x00\x00\x00\x00\x00\x00\x00\x00"
    )
    found = pseudonyms_of(read_instance(evil), site=SITE, key=KEY)
    assert UID(found.instance).is_valid


def test_a_token_is_short_and_names_its_kind() -> None:
    assert token(KEY, "station", SITE, "ROOM3").startswith("station-")
    assert len(token(KEY, "station", SITE, "ROOM3")) == 16  # the longest that VR SH holds
