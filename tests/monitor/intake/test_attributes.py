from __future__ import annotations

from typing import Any

import pytest
from dicom_instances import KEY, SITE, as_file, radiograph
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.intake import codes
from monitor.intake.attributes import ScanAttributes, attributes_of, clean
from monitor.intake.keys import SecretKey
from monitor.intake.reading import read_instance


def attributes(*, site: str = SITE, key: SecretKey = KEY, **elements: Any) -> ScanAttributes:
    instance = read_instance(as_file(radiograph(**elements)))
    return attributes_of(
        instance, site=site, key=key, rows=12, columns=10, photometric="MONOCHROME2"
    )


def test_an_ordinary_radiograph_keeps_its_words() -> None:
    found = attributes()
    assert (found.modality, found.body_part, found.view) == ("CR", "CHEST", "AP")
    assert found.manufacturer == "Carestream Health"
    assert found.scanner_model == "DRX-Evolution Plus"
    assert found.software_version == "5.7"
    assert found.protocol == "CHEST AP"
    assert (found.sex, found.age_years) == ("F", 3)
    assert (found.rows, found.columns) == (12, 10)


def test_what_is_absent_is_none() -> None:
    found = attributes(
        BodyPartExamined=None,
        ViewPosition="",
        Manufacturer="",
        ManufacturerModelName=None,
        SoftwareVersions=None,
        StationName=None,
        ProtocolName=None,
        PatientSex="",
        PatientBirthDate="",
    )
    assert found.body_part is None
    assert found.view is None
    assert found.manufacturer is None
    assert found.scanner_model is None
    assert found.software_version is None
    assert found.station is None
    assert found.protocol is None
    assert found.sex is None
    assert found.age_years is None


@pytest.mark.parametrize(
    ("keyword", "name", "value", "listed"),
    [
        ("Modality", "modality", "DX", "DX"),
        ("Modality", "modality", "SMITH", codes.OTHER),
        ("Modality", "modality", "", "CR"),  # as its SOP class says
        ("BodyPartExamined", "body_part", "Thorax", "CHEST"),
        ("BodyPartExamined", "body_part", "C SPINE", "CSPINE"),
        ("BodyPartExamined", "body_part", "SMITH", codes.OTHER),
        ("ViewPosition", "view", "LAT", "LATERAL"),
        ("ViewPosition", "view", "YAMADA", codes.OTHER),
        ("PatientSex", "sex", "X", "O"),
        ("PatientSex", "sex", "M", "M"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_codes_are_brought_to_their_lists(
    keyword: str, name: str, value: str, listed: str
) -> None:
    assert getattr(attributes(**{keyword: value}), name) == listed


@pytest.mark.parametrize(
    "text",
    [
        "24\\LX\\MR Software release:DV24.0_R01_1344.a",
        "syngo MR E11",
        "syngo CT VB20A",
        "5.7.412.7005",
        "VE11C",
        "05",
    ],
)
def test_versions_of_real_scanners_pass(text: str) -> None:
    assert attributes(SoftwareVersions=text).software_version == text.replace("\\", " ")


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Smith",
        "installed for Dr. Smith",
        "01.02.1960",
        "1960-02-01",
        "0012345678",
        "5.7 <script>alert(1)</script>",
        "1.SMITH",
        "5.7 " * 40,
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_other_texts_become_tokens_that_are_stable_and_tell_texts_apart(text: str) -> None:
    first, again = (attributes(SoftwareVersions=text).software_version for _ in range(2))
    other = attributes(SoftwareVersions=text + "x").software_version
    assert first is not None
    assert first.startswith("software-")
    assert first == again
    assert first != other


def test_tokens_differ_by_site_and_by_key() -> None:
    found = {
        attributes(site=site, key=key).station
        for site in ("north", "south")
        for key in (KEY, SecretKey(bytes(32)))
    }
    assert len(found) == 4
    assert not any("ROOM3" in str(token) for token in found)


@pytest.mark.parametrize(
    ("stated", "born", "taken", "years"),
    [
        ("003Y", "", "", 3),
        ("018M", "", "", 1),
        ("011M", "", "", 0),
        ("006W", "", "", 0),
        ("400D", "", "", 1),
        ("089Y", "", "", 89),
        ("090Y", "", "", 90),
        ("104Y", "", "", 90),
        ("", "20200302", "20260302", 6),
        ("", "20200303", "20260302", 5),
        ("", "20200229", "20260228", 5),
        ("", "19200101", "20260302", 90),
        ("", "20270101", "20260302", None),  # born after the study
        ("", "18000101", "20260302", None),
        ("", "", "20260302", None),
        ("", "20200101", "", None),
        ("", "20201399", "20260302", None),
        ("three", "20200302", "20260302", 6),
        ("045Y", "20200302", "20260302", 45),  # what is stated goes before
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_age_counts_completed_years_up_to_ninety(
    stated: str, born: str, taken: str, years: int | None
) -> None:
    found = attributes(PatientAge=stated, PatientBirthDate=born, StudyDate=taken)
    assert found.age_years == years


@settings(deadline=None, derandomize=True)
@given(text=st.text(max_size=80))
def test_clean_text_can_stand_in_any_page_or_log(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.isascii()
    assert cleaned.isprintable()
    assert not set("<>&\"'`\\") & set(cleaned)
    assert clean(cleaned) == cleaned


@settings(deadline=None, derandomize=True)
@given(text=st.text(max_size=40))
def test_a_listed_code_is_on_the_list_or_other(text: str) -> None:
    found = codes.listed(text, codes.BODY_PARTS, codes.BODY_PART_SYNONYMS)
    assert found in codes.BODY_PARTS | {codes.OTHER, None}
    assert (found is None) == (not text.strip())


def test_every_synonym_leads_to_a_listed_code() -> None:
    assert set(codes.VIEW_SYNONYMS.values()) <= codes.VIEWS
    assert set(codes.BODY_PART_SYNONYMS.values()) <= codes.BODY_PARTS
    assert set(codes.MODALITY_OF_CLASS.values()) <= codes.MODALITIES


def test_impossible_attributes_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="age_years"):
        attributes_with(age_years=91)
    with pytest.raises(ValueError, match="0 x 10"):
        attributes_with(rows=0)


def attributes_with(**changes: Any) -> ScanAttributes:
    values: dict[str, Any] = {
        name: getattr(attributes(), name) for name in ScanAttributes.__dataclass_fields__
    }
    return ScanAttributes(**(values | changes))
