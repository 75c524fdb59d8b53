"""Instances in which every element that may name a patient says so, in words found nowhere else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from dicom_instances import as_file, gradient, radiograph, set_frames
from PIL import Image
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

NAME = "Qzxkanarie^Wvjyodelahiti"
WORD = "QZXKANARIE"
JAPANESE = "金糸雀^カナリア"
DAY = "19370519"
TIME = "073519.424242"
AGE = "113Y"
UID_ROOT = "1.2.826.0.1.3680043.8.498.42424242"

#: VR -> the canary that stands in every element of it
BY_VR = {
    "PN": NAME,
    "LO": WORD,
    "SH": WORD,
    "LT": f"{WORD}, seen on {DAY}",
    "ST": f"{WORD}, seen on {DAY}",
    "UT": f"{WORD}, seen on {DAY}",
    "UC": WORD,
    "UR": f"https://example.org/{WORD}",
    "AE": WORD,
    "CS": WORD,
    "DA": DAY,
    "TM": TIME,
    "DT": f"{DAY}{TIME}",
    "AS": AGE,
    "UI": f"{UID_ROOT}.9",
    "OB": f"{WORD} in bytes ".encode(),
    "UN": f"{WORD} in bytes ".encode(),
}
#: Without these an instance is not taken at all: their values are those of `radiograph`.
_NEEDED = frozenset(
    (
        "SOPClassUID",
        "SpecificCharacterSet",
        "Modality",
        "ConversionType",
        "BurnedInAnnotation",
        "PhotometricInterpretation",
        "ImageType",
        "PixelData",
        "PixelPresentation",
        "CoercedPixelData",
    )
)
_SEQUENCES = (
    "OtherPatientIDsSequence",
    "RequestAttributesSequence",
    "ReferencedStudySequence",
    "PerformedProtocolCodeSequence",
    "OriginalAttributesSequence",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "AcquisitionContextSequence",
)
_GROUPS_OF_ANOTHER_KIND = frozenset((0x0000, 0x0002, 0x0004, 0x0006, 0xFFFE))


@dataclass(frozen=True, slots=True)
class Needle:
    """Bytes that must be nowhere, and what they are."""

    what: str
    form: bytes


def needles() -> list[Needle]:
    """Return every canary in every form in which it might be written."""
    return [*_forms()]


def _forms() -> Iterator[Needle]:
    words = ("Qzxkanarie", "Wvjyodelahiti", WORD, "qzxkanarie", "wvjyodelahiti")
    for word in (*words, DAY, "1937-05-19", TIME, "42424242", "金糸雀", "カナリア"):
        for codec in ("utf-8", "utf-16-le", "utf-16-be", "shift_jis", "iso2022_jp", "euc_jp"):
            try:
                form = word.encode(codec)
            except UnicodeEncodeError:
                continue
            yield Needle(f"{word} in {codec}", form)
        encoded = word.encode()
        yield Needle(f"{word} in hexadecimal", encoded.hex().encode())
        for offset in range(3):
            # A character has six bits: these are of the word alone, whatever stands beside it.
            text = base64.b64encode(b"x" * offset + encoded + b"xxx")
            first, last = -(-offset * 8 // 6), (offset + len(encoded)) * 8 // 6
            yield Needle(f"{word} in base64", text[first:last])
        yield Needle(f"{word} escaped", word.encode("unicode_escape"))


def found_in(content: bytes, wanted: list[Needle]) -> list[str]:
    """Return which needles some bytes hold."""
    return [needle.what for needle in wanted if needle.form in content]


def canary(number: int, **elements: Any) -> Dataset:
    """Return an instance with a canary in every element that can hold one; None removes one."""
    ds = radiograph(gradient())
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if (
            not keyword
            or vr not in BY_VR
            or keyword in _NEEDED
            or tag >> 16 in _GROUPS_OF_ANOTHER_KIND
        ):
            continue
        ds.add_new(tag, vr, BY_VR[vr])
    _put_sequences(ds)
    _put_private(ds, 0x0009, 0x0011, 0x0029)
    for group in (0x6000, 0x6002):
        ds.add_new(Tag(group, 0x0022), "LO", WORD)
        ds.add_new(Tag(group, 0x4000), "LT", WORD)
        ds.add_new(Tag(group, 0x3000), "OB", BY_VR["OB"])
    ds.StudyInstanceUID = f"{UID_ROOT}.1.{number // 2}"
    ds.SeriesInstanceUID = f"{UID_ROOT}.2.{number}"
    ds.SOPInstanceUID = f"{UID_ROOT}.3.{number}"
    ds.PatientSex = "F"
    ds.file_meta.ImplementationVersionName = WORD
    ds.file_meta.SourceApplicationEntityTitle = WORD
    ds.file_meta.PrivateInformationCreatorUID = UID_ROOT
    ds.file_meta.PrivateInformation = BY_VR["OB"]
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def _put_sequences(ds: Dataset) -> None:
    def item(depth: int) -> Dataset:
        nested = Dataset()
        for keyword, vr in (
            ("PatientName", "PN"),
            ("PatientID", "LO"),
            ("TextValue", "UT"),
            ("StudyDate", "DA"),
            ("UID", "UI"),
            ("PersonName", "PN"),
        ):
            setattr(nested, keyword, BY_VR[vr])
        _put_private(nested, 0x0029)
        if depth:
            nested.ContentSequence = Sequence([item(depth - 1)])
        return nested

    for keyword in _SEQUENCES:
        setattr(ds, keyword, Sequence([item(2)]))
    thumbnail = Dataset()
    thumbnail.add_new("PixelData", "OB", BY_VR["OB"] * 8)
    ds.IconImageSequence = Sequence([thumbnail])


def _put_private(ds: Dataset, *groups: int) -> None:
    for group in groups:
        block = ds.private_block(group, WORD, create=True)
        for offset, (vr, value) in enumerate(BY_VR.items()):
            block.add_new(offset, vr, value)


@cache
def canaries() -> dict[str, bytes]:
    """Return files by what they are; those that name an age can be read by a model."""
    readable = {"PatientAge": "004Y"}
    padded = canary(3, **readable)
    padded.PixelData = padded.PixelData + BY_VR["OB"] * 4
    deflated = canary(4, **readable)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    japanese = canary(6, SpecificCharacterSet="ISO_IR 192", PatientName=JAPANESE, **readable)
    japanese.ProtocolName = japanese.StationName = JAPANESE
    written = canary(7, BurnedInAnnotation="YES")
    written.PixelData = (BY_VR["OB"] * 20)[: len(written.PixelData)]
    trailing = as_file(canary(8)) + BY_VR["OB"]
    document = canary(9, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    return {
        "plain": as_file(canary(0)),
        "readable": as_file(canary(1, **readable)),
        "the same study": as_file(canary(2, **readable)),
        "preamble": as_file(canary(10), preamble=(BY_VR["OB"] * 16)[:128]),
        "bytes after the pixels": as_file(padded),
        "deflated": as_file(deflated),
        "compressed as JPEG": as_file(compressed(JPEGBaseline8Bit)),
        "compressed as JPEG 2000": as_file(compressed(JPEG2000Lossless)),
        "japanese": as_file(japanese),
        "burned in": as_file(written),
        "bytes after the data set": trailing,
        "a document": as_file(document),
        "cut short": as_file(canary(11))[:-60],
        "no DICOM": f"{NAME} was here, born {DAY}".encode(),
    }


def compressed(transfer_syntax: str) -> Dataset:
    """Return an instance whose compressed frame has a comment of its own."""
    stream = io.BytesIO()
    picture = Image.fromarray(gradient(32, 32, top=255).astype(np.uint8))
    if transfer_syntax == JPEGBaseline8Bit:
        ds = canary(5, PatientAge="004Y")
        exif = Image.Exif()
        exif[0x010E] = WORD  # ImageDescription
        picture.save(stream, "JPEG", comment=NAME.encode(), exif=exif)
    else:
        ds = canary(12, PatientAge="004Y")
        picture.save(stream, "JPEG2000", no_jp2=True, comment=NAME)
    assert NAME.encode() in stream.getvalue()
    ds.Rows = ds.Columns = 32
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    set_frames(ds, stream.getvalue(), transfer_syntax=transfer_syntax)
    return ds


def more_canaries(count: int) -> list[bytes]:
    """Return that many readable instances of one series, each of a UID of its own."""
    first = as_file(canary(1000, PatientAge="004Y"))
    uid = f"{UID_ROOT}.3.1000".encode()
    return [
        first.replace(uid, f"{UID_ROOT}.3.{1000 + number}".encode()) for number in range(count)
    ]


def write_canaries(folder: Path) -> int:
    """Write them all into a folder, under names that name a patient; return how many."""
    inbox = folder / NAME
    inbox.mkdir(parents=True)
    files = canaries()
    for number, content in enumerate(files.values()):
        (inbox / f"{WORD}-{DAY}-{number}.dcm").write_bytes(content)
    return len(files)


def held_by(ds: Dataset) -> set[str]:
    """Return the keywords of elements that hold a canary: for a check of the canaries."""
    return {keyword_for_tag(element.tag) for element in ds if WORD in str(element.value)}
