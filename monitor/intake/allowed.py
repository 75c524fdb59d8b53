"""What may stand in a stored scan, by whom it is read: a person who must sign for it, and a check.

Written down a second time on purpose. `monitor.intake.deidentify` puts these
elements in; nothing here is used by it, so that a mistake there shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from monitor.intake import codes
from monitor.intake.study_time import StudyTime

#: Says whether the values of an element, as text, are allowed.
Check: TypeAlias = Callable[[Sequence[str]], bool]

_TOKEN = re.compile(r"(manufacturer|model|software|station|protocol)-[0-9a-f]{8}")
_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,15})?([eE][+-]?\d{1,3})?|-?0?\.\d{1,15}")
_SHORT_NUMBER = re.compile(r"-?\d{1,7}(\.\d{1,12})?([eE][+-]?\d{1,2})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Why an element may be there, and with which values."""

    kept: str  #: in words, for the person who signs
    profile: str  #: of PS3.15 annex E: the basic profile, or the option that permits it
    check: Check


BASIC = "Basic profile"
CHARACTERISTICS = "Retain Patient Characteristics Option"
DEVICE = "Retain Device Identity Option"
DESCRIPTORS = "Clean Descriptors Option"
MODIFIED_DATES = "Retain Longitudinal Temporal Information With Modified Dates Option"
NOT_COVERED = "not an identifying attribute"


def _one_of(values: Collection[str]) -> Check:
    allowed = frozenset(values)
    return lambda found: len(found) == 1 and found[0] in allowed


def _all_match(pattern: str | re.Pattern[str], *, most: int = 1) -> Check:
    compiled = re.compile(pattern)
    return lambda found: (
        1 <= len(found) <= most and all(compiled.fullmatch(text) for text in found)
    )


def _listed_or_token(is_listed: Callable[[str], bool], kind: str) -> Check:
    def check(found: Sequence[str]) -> bool:
        if len(found) != 1 or len(found[0]) > 64:
            return False
        token = _TOKEN.fullmatch(found[0])
        return token[1] == kind if token else is_listed(found[0])

    return check


def _anything(_found: Sequence[str]) -> bool:
    return True


def _empty(found: Sequence[str]) -> bool:
    return not any(found)


def _is_surrogate_uid(found: Sequence[str]) -> bool:
    return len(found) == 1 and re.fullmatch(r"2\.25\.\d{1,39}", found[0]) is not None


def _is_standard_uid(found: Sequence[str]) -> bool:
    return len(found) == 1 and re.fullmatch(r"1\.2\.840\.10008\.[\d.]+", found[0]) is not None


def _is_age(found: Sequence[str]) -> bool:
    return len(found) == 1 and re.fullmatch(r"0([0-8]\d|90)Y", found[0]) is not None


def _is_empty_or_day(found: Sequence[str]) -> bool:
    if _empty(found):
        return True
    day = r"\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
    return len(found) == 1 and re.fullmatch(day, found[0]) is not None


def keeps_date(day: str, *, under: StudyTime) -> bool:
    """Say whether a Study Date, as a value of VR DA, may be kept under a setting."""
    return {
        StudyTime.REMOVED: False,
        StudyTime.SHIFTED: True,
        StudyTime.MONTH: day.endswith("01"),
    }[under]


_CODED = (*codes.VIEWS, codes.OTHER.upper())
_SURROGATE = Rule(
    kept="a surrogate under 2.25, random to whoever lacks the keys",
    profile=BASIC,
    check=_is_surrogate_uid,
)
_STANDARD_UID = Rule(kept="a UID of the standard", profile=NOT_COVERED, check=_is_standard_uid)
_EMPTIED = Rule(kept="nothing: present and empty (type 2)", profile=BASIC, check=_empty)
_MEASURE = Rule(
    kept="numbers of the acquisition, six digits at most",
    profile=NOT_COVERED,
    check=_all_match(_SHORT_NUMBER, most=2),
)
_PLACE = Rule(
    kept="where the image lies in the scanner's own coordinates, six digits at most",
    profile=NOT_COVERED,
    check=_all_match(_SHORT_NUMBER, most=6),
)
_COUNT = Rule(
    kept="a whole number of at most a million",
    profile=NOT_COVERED,
    check=_all_match(r"-?\d{1,7}"),
)
_MEANING = Rule(
    kept="a number that turns samples into values",
    profile=NOT_COVERED,
    check=_all_match(_NUMBER),
)
_LAYOUT = Rule(
    kept="how the pixels lie in memory", profile=NOT_COVERED, check=_all_match(r"-?\d{1,6}")
)
_TABLE = Rule(
    kept="a look-up table, which is part of the picture",
    profile=NOT_COVERED,
    check=_anything,
)


def _equipment(kind: str, what: str) -> Rule:
    return Rule(
        kept=f"{what}, if every word of it is on the list of equipment words and none is the "
        "patient's; otherwise a keyed stand-in",
        profile=NOT_COVERED if kind != "software" else DEVICE,
        check=_listed_or_token(codes.names_equipment, kind),
    )


#: By keyword; what is not here is never stored.
ALLOWED: Mapping[str, Rule] = {
    "SOPClassUID": _STANDARD_UID,
    "SOPInstanceUID": _SURROGATE,
    "StudyInstanceUID": _SURROGATE,
    "SeriesInstanceUID": _SURROGATE,
    "PatientID": Rule(
        kept="a surrogate of 32 hexadecimal digits",
        profile=BASIC,
        check=_all_match(r"[0-9a-f]{32}"),
    ),
    **dict.fromkeys(
        (
            "PatientName",
            "PatientBirthDate",
            "StudyTime",
            "AccessionNumber",
            "ReferringPhysicianName",
            "StudyID",
        ),
        _EMPTIED,
    ),
    "PatientIdentityRemoved": Rule(kept="YES", profile=BASIC, check=_one_of(["YES"])),
    "DeidentificationMethod": Rule(
        kept="which revision of these rules made the file",
        profile=BASIC,
        check=_all_match(r"Driftward allow-list, revision \d{1,3}"),
    ),
    "StudyDate": Rule(
        kept="nothing: present and empty (type 2); where it is set so, a day shifted per patient, "
        "or the first day of the month",
        profile=MODIFIED_DATES,
        check=_is_empty_or_day,
    ),
    "LongitudinalTemporalInformationModified": Rule(
        kept="REMOVED, or MODIFIED where a Study Date is kept",
        profile=MODIFIED_DATES,
        check=_one_of(["REMOVED", "MODIFIED"]),
    ),
    "PatientSex": Rule(kept="M, F or O", profile=CHARACTERISTICS, check=_one_of(codes.SEXES)),
    "PatientAge": Rule(
        kept="completed years at the study; 90 stands for 90 and more",
        profile=CHARACTERISTICS,
        check=_is_age,
    ),
    "Modality": Rule(
        kept="a listed code",
        profile=NOT_COVERED,
        check=_one_of([*codes.MODALITIES, codes.OTHER.upper()]),
    ),
    "BodyPartExamined": Rule(
        kept="a listed code, or OTHER",
        profile=NOT_COVERED,
        check=_one_of([*codes.BODY_PARTS, codes.OTHER.upper()]),
    ),
    "ViewPosition": Rule(
        kept="a listed code, or OTHER", profile=NOT_COVERED, check=_one_of(_CODED)
    ),
    "Manufacturer": _equipment("manufacturer", "the maker"),
    "ManufacturerModelName": _equipment("model", "the model"),
    "SoftwareVersions": _equipment("software", "the software version"),
    "StationName": Rule(
        kept="a keyed stand-in, always: stations are named after rooms and people",
        profile=DEVICE,
        check=_all_match(r"station-[0-9a-f]{8}"),
    ),
    "ProtocolName": Rule(
        kept="the protocol, if every word of it is on the list of protocol words and none is "
        "the patient's; otherwise a keyed stand-in",
        profile=DESCRIPTORS,
        check=_listed_or_token(codes.names_protocol, "protocol"),
    ),
    "BurnedInAnnotation": Rule(
        kept="NO, where it was stated so by the sender or by a person",
        profile=NOT_COVERED,
        check=_one_of(["NO"]),
    ),
    "LossyImageCompression": Rule(
        kept="00 or 01", profile=NOT_COVERED, check=_one_of(["00", "01"])
    ),
    **dict.fromkeys(
        (
            "PixelSpacing",
            "ImagerPixelSpacing",
            "SliceThickness",
            "KVP",
            "MagneticFieldStrength",
            "EchoTime",
            "RepetitionTime",
        ),
        _MEASURE,
    ),
    "ImagePositionPatient": _PLACE,
    "ImageOrientationPatient": _PLACE,
    **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient"), _PLACE),
    "NumberOfFrames": _LAYOUT,
    **dict.fromkeys(
        ("SeriesNumber", "InstanceNumber", "ExposureTime", "XRayTubeCurrent", "Exposure"),
        _COUNT,
    ),
    **dict.fromkeys(
        ("RescaleIntercept", "RescaleSlope", "WindowCenter", "WindowWidth"), _MEANING
    ),
    "VOILUTFunction": Rule(
        kept="LINEAR, LINEAR_EXACT or SIGMOID",
        profile=NOT_COVERED,
        check=_one_of(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    ),
    **dict.fromkeys(
        (
            "SamplesPerPixel",
            "PlanarConfiguration",
            "NumberOfFrames",
            "Rows",
            "Columns",
            "BitsAllocated",
            "BitsStored",
            "HighBit",
            "PixelRepresentation",
            "PixelPaddingValue",
            "PixelPaddingRangeLimit",
        ),
        _LAYOUT,
    ),
    "PhotometricInterpretation": Rule(
        kept="how samples become a picture",
        profile=NOT_COVERED,
        check=_one_of(
            [
                *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL"),
                *("YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
            ]
        ),
    ),
    **dict.fromkeys(
        (
            "ModalityLUTSequence",
            "VOILUTSequence",
            *(
                f"{color}PaletteColorLookupTableDescriptor"
                for color in ("Red", "Green", "Blue")
            ),
            *(f"{color}PaletteColorLookupTableData" for color in ("Red", "Green", "Blue")),
            *(
                f"Segmented{color}PaletteColorLookupTableData"
                for color in ("Red", "Green", "Blue")
            ),
        ),
        _TABLE,
    ),
    "PixelData": Rule(
        kept="the pixels as they came, without comments of their compression; what is burned in "
        "is quarantined, as far as it is known",
        profile="Clean Pixel Data Option is not claimed",
        check=_anything,
    ),
}

#: In the one item of a look-up table's sequence.
ALLOWED_IN_TABLES: Mapping[str, Rule] = {"LUTDescriptor": _TABLE, "LUTData": _TABLE}

#: In the file meta information.
ALLOWED_IN_META: Mapping[str, Rule] = {
    "FileMetaInformationGroupLength": _LAYOUT,
    "FileMetaInformationVersion": Rule(
        kept="0, 1", profile=NOT_COVERED, check=lambda found: len(found) == 1
    ),
    "MediaStorageSOPClassUID": _STANDARD_UID,
    "MediaStorageSOPInstanceUID": _SURROGATE,
    "TransferSyntaxUID": _STANDARD_UID,
    "ImplementationClassUID": Rule(
        kept="Driftward's own",
        profile=NOT_COVERED,
        check=_one_of(["2.25.211694173458236284190276519064257038191"]),
    ),
    "ImplementationVersionName": Rule(
        kept="DRIFTWARD", profile=NOT_COVERED, check=_one_of(["DRIFTWARD"])
    ),
}
