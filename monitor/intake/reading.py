"""Reading a file as a DICOM instance, with nothing in memory but what is on the list.

PS3.10 section 7 (files), PS3.5 sections 6 and 7 (values, data sets). What the
list does not name is stepped over unread, so that no later step can leak it.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from monitor.intake.elements import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Element,
    ElementReader,
    Elements,
    Encoding,
)
from monitor.intake.limits import DEFAULT_LIMITS, Limits
from monitor.intake.reasons import Reason, unreadable
from registry.errors import UnreadableScanError

#: Read to make pseudonyms, ages and checks; none of their values is kept.
IDENTIFYING = (
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthName",
    "PatientBirthDate",
    "OtherPatientIDs",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "ContentDate",
)
#: Read to be normalised to codes, to words of equipment, or to tokens.
DESCRIBING = (
    "SOPClassUID",
    "ImageType",
    "Modality",
    "ConversionType",
    "BurnedInAnnotation",
    "BodyPartExamined",
    "ViewPosition",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "StationName",
    "ProtocolName",
    "PatientSex",
    "PatientAge",
    "LossyImageCompression",
)
#: Numbers of the acquisition (VR DS and VR IS), kept as numbers: what is left of them is
#: all that anyone will ever know of how a stored scan was made.
ACQUISITION_MEASURES = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "KVP",
    "MagneticFieldStrength",
    "EchoTime",
    "RepetitionTime",
)
ACQUISITION_COUNTS = (
    "SeriesNumber",
    "InstanceNumber",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
)
#: Where an image lies, and how many belong together; numbers, too.
PLACES = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "NumberOfStudyRelatedInstances",
    "NumberOfSeriesRelatedInstances",
)
#: What the pixels mean (PS3.3 C.7.6.3, C.7.9, C.11.1, C.11.2).
IMAGE = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
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
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)
_IN_LUT_ITEMS = ("LUTDescriptor", "LUTData")


def _tags(*keywords: str) -> Mapping[int, str]:
    return {tag_for_keyword(keyword): keyword for keyword in keywords}


_WANTED = _tags(
    "SpecificCharacterSet",
    *IDENTIFYING,
    *DESCRIBING,
    *ACQUISITION_MEASURES,
    *ACQUISITION_COUNTS,
    *PLACES,
    *IMAGE,
)
_WANTED_OF_META = _tags("TransferSyntaxUID")
_WANTED_OF_ITEMS = _tags(*_IN_LUT_ITEMS)

_PREFIX = slice(128, 132)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INTEGER_FORMATS = {"US": "H", "SS": "h", "UL": "L", "SL": "l"}
# The object identifier 1.2.840.113549.1.7 of the cryptographic message syntax.
_CMS = bytes.fromhex("06092a864886f70d0107")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A DICOM instance as received: the listed elements, not yet trusted.

    Its values may identify the patient; it lives as long as one file is
    prepared, and has no text form.
    """

    transfer_syntax: str  #: UID, or "" where the file does not say
    encoding: Encoding
    elements: Mapping[str, Element]  #: by keyword
    codec: str  #: Python's name of the specific character set
    reader: ElementReader

    def __repr__(self) -> str:
        return f"Instance({len(self.elements)} elements)"

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.elements

    def text(self, keyword: str) -> str:
        """Return the whole value as text, "" where it is absent or empty."""
        element = self.elements.get(keyword)
        if element is None:
            return ""
        return bytes(element.value).decode(self.codec, "replace").strip("\0 \t\r\n")

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the values of a multi-valued text, without empty ones."""
        values = (value.strip("\0 \t\r\n") for value in self.text(keyword).split("\\"))
        return tuple(value for value in values if value)

    def code(self, keyword: str) -> str:
        """Return the first value of a code string in capitals, "" where there is none."""
        return next(iter(self.texts(keyword)), "").upper()

    def with_code(self, keyword: str, code: str) -> Instance:
        """Return the instance as if it stated this code (VR CS)."""
        element = Element(
            vr=b"CS",
            value=memoryview(code.encode("ascii")),
            undefined_length=False,
            implicit=self.encoding.implicit,
        )
        return replace(self, elements={**self.elements, keyword: element})

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Return the values of a decimal or integer string; none where one is no number."""
        texts = self.texts(keyword)
        if not all(_NUMBER.fullmatch(text) for text in texts):
            return ()
        numbers = tuple(float(text) for text in texts)
        return numbers if all(math.isfinite(number) for number in numbers) else ()

    def integers(self, keyword: str, *, signed: bool = False) -> tuple[int, ...]:
        """Return binary integers; none where the value cannot be such.

        Parameters
        ----------
        signed : how to read an element that may be US or SS (PS3.5 annex A.1)
        """
        element = self.elements.get(keyword)
        if element is None:
            return ()
        return self._integers(element, keyword, signed=signed)

    def luts(self, keyword: str) -> list[tuple[tuple[int, ...], bytes]]:
        """Return descriptor and little-endian 16-bit words of each table in a sequence."""
        element = self.elements.get(keyword)
        if element is None:
            return []
        items = self.reader.items(element, wanted=_WANTED_OF_ITEMS)
        tables = [_by_keyword(item, _WANTED_OF_ITEMS) for item in items]
        return [
            (
                self._integers(table["LUTDescriptor"], "LUTDescriptor", signed=False),
                self.words(table["LUTData"]),
            )
            for table in tables
            if table.keys() == set(_IN_LUT_ITEMS)
        ]

    def words(self, element: Element) -> bytes:
        """Return 16-bit words in little-endian order."""
        value = bytes(element.value)
        if self.encoding.little_endian:
            return value
        swapped = bytearray(value)
        swapped[0::2], swapped[1::2] = value[1::2], value[0 : len(value) & ~1 : 2]
        return bytes(swapped)

    def _integers(self, element: Element, keyword: str, *, signed: bool) -> tuple[int, ...]:
        vr = element.vr.decode("ascii") or dictionary_VR(tag_for_keyword(keyword))
        if vr in {"IS", "DS"}:
            return tuple(int(number) for number in self.numbers(keyword))
        letter = _INTEGER_FORMATS.get(vr, "h" if signed else "H")
        order = "<" if self.encoding.little_endian else ">"
        form = struct.Struct(order + letter)
        usable = len(element.value) // form.size * form.size
        return tuple(value for (value,) in form.iter_unpack(element.value[:usable]))


def read_bytes(path: Path, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Return the content of a regular file.

    Raises
    ------
    UnreadableScanError
        If it is no regular file, cannot be read, or is larger than the limit;
        nothing is read then.
    """
    try:
        # Without O_NONBLOCK the opening of a named pipe waits for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise unreadable(Reason.NOT_READABLE, "it is no regular file")
            if status.st_size > limits.file_bytes:
                raise unreadable(
                    Reason.TOO_LARGE,
                    f"the file has {status.st_size} bytes, the limit is {limits.file_bytes}",
                )
            # One byte more than allowed: the file may have grown since.
            content = file.read(limits.file_bytes + 1)
    except OSError as error:
        raise unreadable(
            Reason.NOT_READABLE, f"the file cannot be read: {error.strerror}"
        ) from None
    if len(content) > limits.file_bytes:
        raise unreadable(Reason.TOO_LARGE, f"the file is larger than {limits.file_bytes} bytes")
    return content


def read_instance(
    content: bytes, limits: Limits = DEFAULT_LIMITS, *, also: Collection[str] = ()
) -> Instance:
    """Return the instance in the bytes of a DICOM file.

    A file without preamble or without file meta information is read where its
    first element leaves no doubt. A deflated data set is inflated up to a limit.

    Parameters
    ----------
    also : keywords that are read besides the listed ones

    Raises
    ------
    UnreadableScanError
        If it is no DICOM, is cut short, or passes a limit.
    """
    _refuse_other_formats(content)
    data = memoryview(content)
    start = 132 if content[_PREFIX] == b"DICM" else _start_without_preamble(content)
    transfer_syntax, start = _file_meta(data, start, limits)
    encoding = _encoding(data, start, transfer_syntax)
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        data, start = memoryview(_inflate(data[start:], limits)), 0
    reader = ElementReader(data, little_endian=encoding.little_endian, limits=limits)
    # Some writers announce the one form and write the other.
    implicit = encoding.implicit and not reader.explicit_at(start)
    wanted = {**_WANTED, **_tags(*also)} if also else _WANTED
    found, _ = reader.read(start, implicit=implicit, wanted=wanted)
    elements = _by_keyword(found, wanted)
    return Instance(
        transfer_syntax=transfer_syntax,
        encoding=Encoding(implicit=implicit, little_endian=encoding.little_endian),
        elements=elements,
        codec=_codec(elements.get("SpecificCharacterSet")),
        reader=reader,
    )


def data_set_start(content: bytes) -> int:
    """Return where the data set begins, behind preamble and file meta information; 0 if unclear."""
    try:
        start = 132 if content[_PREFIX] == b"DICM" else _start_without_preamble(content)
        return _file_meta(memoryview(content), start, DEFAULT_LIMITS)[1]
    except UnreadableScanError:
        return 0


def _by_keyword(found: Elements, wanted: Mapping[int, str]) -> dict[str, Element]:
    return {wanted[tag]: element for tag, element in found.items()}


def _refuse_other_formats(content: bytes) -> None:
    if not content:
        raise unreadable(Reason.NOT_DICOM, "the file is empty")
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")):
        raise unreadable(
            Reason.ARCHIVE,
            "the file is a ZIP or gzip archive: unpack it, and add what is inside",
        )
    if content[0] == 0x30 and _CMS in content[:32]:
        raise unreadable(
            Reason.ENCRYPTED,
            "the file is a secure DICOM file: decrypt it where its key is held",
        )


def _start_without_preamble(content: bytes) -> int:
    """Return 0 where a group of a data set's beginning stands at the first byte."""
    if len(content) >= 8:
        little, big = (struct.unpack_from(order + "HH", content) for order in "<>")
        for group, number in (little, big):
            # Group 0002 begins with its length or version, group 0008 with
            # the character set, the image type or the like.
            if (group == 0x0002 and number < 0x0100) or (group == 0x0008 and number <= 0x0060):
                return 0
    raise unreadable(
        Reason.NOT_DICOM, "neither the prefix DICM nor a DICOM data set stands at its place"
    )


def _file_meta(data: memoryview, start: int, limits: Limits) -> tuple[str, int]:
    """Return the transfer syntax ("" if absent), and where the data set starts."""
    reader = ElementReader(data, little_endian=True, limits=limits)
    meta, position = reader.read(start, implicit=False, wanted=_WANTED_OF_META, group=0x0002)
    if position >= len(data):
        raise unreadable(Reason.TRUNCATED, "the file ends before its data set begins")
    element = next(iter(meta.values()), None)
    uid = "" if element is None else bytes(element.value).decode("ascii", "replace")
    return uid.strip("\0 "), position


def _encoding(data: memoryview, start: int, transfer_syntax: str) -> Encoding:
    match transfer_syntax:
        case str(uid) if uid == ImplicitVRLittleEndian:
            return IMPLICIT_LITTLE
        case str(uid) if uid == ExplicitVRBigEndian:
            return EXPLICIT_BIG
        case "":
            return _guessed_encoding(data, start)
        case _:
            # All others are explicit little-endian (PS3.5 annex A).
            return EXPLICIT_LITTLE


def _guessed_encoding(data: memoryview, start: int) -> Encoding:
    if len(data) - start < 8:
        raise unreadable(Reason.TRUNCATED, "the file ends within its first element")
    probe = ElementReader(data, little_endian=True, limits=DEFAULT_LIMITS)
    if not probe.explicit_at(start):
        return IMPLICIT_LITTLE
    # Group 0008 read in the wrong order is 0800; groups that high come late.
    (group,) = struct.unpack_from("<H", data, start)
    return EXPLICIT_BIG if group >= 0x0100 else EXPLICIT_LITTLE


def _inflate(deflated: memoryview, limits: Limits) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(deflated, limits.inflated_bytes + 1)
    except zlib.error:
        raise unreadable(Reason.MALFORMED, "the deflated data set is damaged") from None
    if len(inflated) > limits.inflated_bytes:
        raise unreadable(
            Reason.TOO_LARGE,
            f"the data set inflates to more than {limits.inflated_bytes} bytes",
        )
    if not inflater.eof:
        raise unreadable(Reason.TRUNCATED, "the deflated data set is cut short")
    return inflated


def _codec(element: Element | None) -> str:
    first = "" if element is None else bytes(element.value).decode("ascii", "replace")
    # Escape sequences to a second set occur in names only, which are never kept.
    codec: str = python_encoding.get(first.split("\\")[0].strip("\0 "), "iso8859")
    return codec
