"""What is known of a scan besides its pixels, in words that identify nobody."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from monitor.intake import codes
from monitor.intake.pseudonyms import Naming, token
from monitor.intake.reading import Instance
from monitor.intake.study_time import StudyDate, StudyTime, day_of, study_date_of

#: Everyone from this age on is reported as of this age (45 CFR 164.514(b)(2)(i)(C)).
OLDEST_AGE_YEARS = 90
_IMPLAUSIBLE_AGE_YEARS = 130

_LONGEST_TEXT = 64
_AGE = re.compile(r"(\d{3})([DWMY])")
_DAYS_PER = {"D": 1, "W": 7, "M": 30.4375, "Y": 365.25}
_KEPT_CHARACTERS = re.compile(r"[^A-Za-z0-9 .,:_/+=()-]+")
_WORDS = re.compile(r"[^\W_]+")
# Shorter words than this ("PA", "Li") occur in names and in protocols alike.
_SHORTEST_TELLING_WORD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanAttributes:
    """A scan's attributes. Each text is a listed code, words of equipment, or a keyed token.

    None is what the instance does not state; `codes.OTHER` is what it states
    and no list has.
    """

    modality: str
    body_part: str | None
    view: str | None
    manufacturer: str | None
    scanner_model: str | None
    software_version: str | None
    station: str | None  #: always a token: stations are named after rooms and people
    protocol: str | None
    sex: str | None  #: M, F or O
    age_years: int | None  #: completed years; 90 stands for 90 and more
    rows: int
    columns: int
    photometric: str
    sop_class: str
    transfer_syntax: str
    study_date: StudyDate | None = None  #: as far as the setting keeps it

    def __post_init__(self) -> None:
        if self.age_years is not None and not 0 <= self.age_years <= OLDEST_AGE_YEARS:
            raise ValueError(f"age_years must lie in 0..{OLDEST_AGE_YEARS}")
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"an image of {self.rows} x {self.columns} pixels is none")


def attributes_of(
    instance: Instance,
    *,
    site: str,
    key: Naming,
    rows: int,
    columns: int,
    photometric: str,
    study_time: StudyTime = StudyTime.REMOVED,
) -> ScanAttributes:
    """Return the attributes of an instance whose image has been described already.

    Makers, models, software versions and protocols pass as they are where
    every word of theirs is on a list and none is a word of the patient's;
    otherwise a token stands for them, the same for the same text at one site,
    so that a change still shows.
    """
    sop_class = instance.text("SOPClassUID")
    telling = _telling_words(instance)

    def described(keyword: str, kind: str, is_listed: Callable[[str], bool]) -> str | None:
        text = clean(" ".join(instance.texts(keyword)))
        if not text:
            return None
        words = {word.casefold() for word in _WORDS.findall(text)}
        if len(text) <= _LONGEST_TEXT and is_listed(text) and not words & telling:
            return text
        return token(key, kind, site, text)

    station = clean(instance.text("StationName"))
    modality = codes.listed(instance.code("Modality"), codes.MODALITIES)
    sex = codes.listed(instance.code("PatientSex"), codes.SEXES)
    return ScanAttributes(
        modality=modality or codes.MODALITY_OF_CLASS.get(sop_class, codes.OTHER),
        body_part=codes.listed(
            instance.code("BodyPartExamined"), codes.BODY_PARTS, codes.BODY_PART_SYNONYMS
        ),
        view=codes.listed(instance.code("ViewPosition"), codes.VIEWS, codes.VIEW_SYNONYMS),
        manufacturer=described("Manufacturer", "manufacturer", codes.names_equipment),
        scanner_model=described("ManufacturerModelName", "model", codes.names_equipment),
        software_version=described("SoftwareVersions", "software", codes.names_equipment),
        station=token(key, "station", site, station) if station else None,
        protocol=described("ProtocolName", "protocol", codes.names_protocol),
        sex="O" if sex == codes.OTHER else sex,
        age_years=age_in_years(instance),
        rows=rows,
        columns=columns,
        photometric=photometric,
        sop_class=sop_class,
        transfer_syntax=instance.transfer_syntax,
        study_date=study_date_of(instance, how=study_time, site=site, key=key),
    )


def clean(text: str) -> str:
    """Return a text of plain characters and single spaces, fit for any page or log.

    >>> clean("DRX-1 <b>5.7</b>")
    'DRX-1 b 5.7 /b'
    """
    plain = unicodedata.normalize("NFKC", text)
    return " ".join(_KEPT_CHARACTERS.sub(" ", plain).split())


def age_in_years(instance: Instance) -> int | None:
    """Return the patient's age in completed years, at most 90, or None.

    Patient's Age (0010,1010) is the age at the study; where it is absent, the
    birth date and the study's date give it.
    """
    match = _AGE.fullmatch(instance.code("PatientAge"))
    if match is not None:
        years = int(int(match[1]) * _DAYS_PER[match[2]] / _DAYS_PER["Y"])
    else:
        born = day_of(instance, "PatientBirthDate")
        taken = next(
            (
                day
                for keyword in ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")
                if (day := day_of(instance, keyword)) is not None
            ),
            None,
        )
        if born is None or taken is None:
            return None
        years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    if not 0 <= years <= _IMPLAUSIBLE_AGE_YEARS:
        return None
    return min(years, OLDEST_AGE_YEARS)


def _telling_words(instance: Instance) -> frozenset[str]:
    """Return the words that may name the patient or someone around them."""
    texts = (
        instance.text(keyword)
        for keyword in (
            "PatientName",
            "PatientBirthName",
            "PatientID",
            "OtherPatientIDs",
            "PatientBirthDate",
            "AccessionNumber",
            "ReferringPhysicianName",
        )
    )
    words = (word.casefold() for text in texts for word in _WORDS.findall(text))
    return frozenset(word for word in words if len(word) >= _SHORTEST_TELLING_WORD)
