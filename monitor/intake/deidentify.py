"""De-identification by construction: a new data set, into which only listed things are put.

Nothing is copied and then cleaned. Texts are the scan's attributes (codes,
equipment words, tokens), UIDs are pseudonyms, numbers are parsed and written
anew; names, times, private elements and every sequence but the two look-up
tables never enter, and of dates the study's alone, shifted or coarsened, where
that is set. PS3.15 annex E describes the profile that this is stricter than.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydicom.uid import ExplicitVRLittleEndian

from monitor.intake.attributes import ScanAttributes, attributes_of
from monitor.intake.classes import require_no_annotation, require_scan
from monitor.intake.functional_groups import with_plain_elements
from monitor.intake.image_pixels import (
    ImagePixels,
    describe_pixels,
    frames_of,
    is_native,
    pixel_data,
)
from monitor.intake.limits import DEFAULT_LIMITS, Limits
from monitor.intake.places import measures
from monitor.intake.pseudonyms import Naming, Pseudonyms, pseudonyms_of
from monitor.intake.reading import ACQUISITION_COUNTS, ACQUISITION_MEASURES, Instance
from monitor.intake.reasons import Reason, unreadable
from monitor.intake.study_time import StudyTime
from monitor.intake.writing import (
    IMPLEMENTATION,
    IMPLEMENTATION_VERSION,
    ElementWriter,
    file_of,
)
from registry.canonical import sha256

#: Which revision of these rules a stored file was made by.
METHOD = "Driftward allow-list, revision 3"

# Required by the standard to be there, and to be empty where it is not known (type 2).
_EMPTY = (
    "PatientName",
    "PatientBirthDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_COLORS = ("Red", "Green", "Blue")
_VOI_FUNCTIONS = frozenset(("LINEAR", "LINEAR_EXACT", "SIGMOID"))
# Six digits are more than any of these numbers is known to, and fewer than an identifier has.
_DIGITS = 6
_LARGEST_ACQUISITION_NUMBER = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentifiedScan:
    """A scan that may be stored."""

    attributes: ScanAttributes
    pseudonyms: Pseudonyms
    content: bytes = field(repr=False)  #: a DICOM file
    frames: int
    pixel_digest: str  #: SHA-256 of the pixels alone: tells a resend from a conflict


def deidentify(
    instance: Instance,
    *,
    site: str,
    key: Naming,
    limits: Limits = DEFAULT_LIMITS,
    study_time: StudyTime = StudyTime.REMOVED,
) -> DeidentifiedScan:
    """Return an instance as the scan that is stored.

    Equal instances give equal bytes, whichever road and native transfer
    syntax they took.

    Parameters
    ----------
    study_time : how much of the study's day is kept

    Raises
    ------
    UnreadableScanError
        If the instance is no scan, carries or may carry burned-in text, or its
        pixel data contradict its header.
    """
    require_scan(instance)
    instance = with_plain_elements(instance, frames=frames_of(instance))
    pixels = describe_pixels(instance, limits)
    require_no_annotation(instance)
    pseudonyms = pseudonyms_of(instance, site=site, key=key)
    attributes = attributes_of(
        instance,
        site=site,
        key=key,
        rows=pixels.rows,
        columns=pixels.columns,
        photometric=pixels.photometric,
        study_time=study_time,
    )
    frames = pixel_data(instance, pixels, limits)
    data_set = ElementWriter()
    _put_identity(data_set, attributes, pseudonyms)
    _put_attributes(data_set, attributes)
    _put_acquisition(data_set, instance)
    _put_meaning(data_set, instance, pixels)
    _put_pixels(data_set, instance, pixels, frames)
    return DeidentifiedScan(
        attributes=attributes,
        pseudonyms=pseudonyms,
        content=file_of(_file_meta(instance, attributes, pseudonyms), data_set),
        pixel_digest=sha256(b"".join(frames)),
        frames=pixels.frames,
    )


def _put_identity(
    data_set: ElementWriter, attributes: ScanAttributes, pseudonyms: Pseudonyms
) -> None:
    data_set.put_text("SOPClassUID", attributes.sop_class)
    data_set.put_text("SOPInstanceUID", pseudonyms.instance)
    data_set.put_text("StudyInstanceUID", pseudonyms.study)
    data_set.put_text("SeriesInstanceUID", pseudonyms.series)
    data_set.put_text("PatientID", pseudonyms.patient)
    for keyword in _EMPTY:
        data_set.put_text(keyword, "")
    data_set.put_text("PatientIdentityRemoved", "YES")
    data_set.put_text("DeidentificationMethod", METHOD)
    day = attributes.study_date
    data_set.put_text("StudyDate", "" if day is None else day.dicom)
    data_set.put_text(
        "LongitudinalTemporalInformationModified", "REMOVED" if day is None else "MODIFIED"
    )


def _put_attributes(data_set: ElementWriter, attributes: ScanAttributes) -> None:
    codes = {
        "Modality": attributes.modality,
        "BodyPartExamined": attributes.body_part,
        "ViewPosition": attributes.view,
        "PatientSex": attributes.sex,
    }
    texts = {
        "Manufacturer": attributes.manufacturer,
        "ManufacturerModelName": attributes.scanner_model,
        "SoftwareVersions": attributes.software_version,
        "StationName": attributes.station,
        "ProtocolName": attributes.protocol,
    }
    for keyword, code in codes.items():
        if code is not None:
            data_set.put_text(keyword, code.upper())
    for keyword, text in texts.items():
        if text is not None:
            data_set.put_text(keyword, text)
    if attributes.age_years is not None:
        data_set.put_text("PatientAge", f"{attributes.age_years:03d}Y")


def _put_acquisition(data_set: ElementWriter, instance: Instance) -> None:
    if instance.code("BurnedInAnnotation") == "NO":
        data_set.put_text("BurnedInAnnotation", "NO")
    if instance.code("LossyImageCompression") in {"00", "01"}:
        data_set.put_text("LossyImageCompression", instance.code("LossyImageCompression"))
    for keyword in ACQUISITION_COUNTS:
        numbers = instance.numbers(keyword)
        if numbers and abs(numbers[0]) <= _LARGEST_ACQUISITION_NUMBER:
            data_set.put_text(keyword, str(round(numbers[0])))
    for keyword in ACQUISITION_MEASURES:
        numbers = instance.numbers(keyword)[:2]
        if numbers and max(map(abs, numbers)) <= _LARGEST_ACQUISITION_NUMBER:
            data_set.put_text(keyword, *(f"{number:.{_DIGITS}g}" for number in numbers))
    for keyword, count in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6)):
        place = measures(instance, keyword, count=count)
        if place is not None:
            data_set.put_text(keyword, *(f"{number:.{_DIGITS}g}" for number in place))


def _put_meaning(data_set: ElementWriter, instance: Instance, pixels: ImagePixels) -> None:
    """Put in what turns stored samples into values, and values into a picture."""
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        values = instance.integers(keyword, signed=pixels.signed)
        if values:
            value = _sample_value(values[0], signed=pixels.signed)
            data_set.put_integers(keyword, (value,), signed=pixels.signed)
    for keyword in ("RescaleIntercept", "RescaleSlope", "WindowCenter", "WindowWidth"):
        numbers = instance.numbers(keyword)
        if numbers:
            data_set.put_text(keyword, _decimal(numbers[0]))
    if instance.code("VOILUTFunction") in _VOI_FUNCTIONS:
        data_set.put_text("VOILUTFunction", instance.code("VOILUTFunction"))
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        for descriptor, words in instance.luts(keyword)[:1]:
            data_set.put_item(keyword, _table(descriptor, words, pixels))
    if pixels.photometric == "PALETTE COLOR":
        _put_palette(data_set, instance)


def _table(descriptor: tuple[int, ...], words: bytes, pixels: ImagePixels) -> ElementWriter:
    count, first, bits = _descriptor(descriptor)
    if len(words) < 2 * (count or 2**16):
        raise unreadable(Reason.MALFORMED, "a look-up table is shorter than it says")
    # The second value has the sign of the samples; one VR serves all three.
    first = _sample_value(first, signed=pixels.signed)
    signed = first < 0
    if signed and count >= 2**15:
        raise unreadable(
            Reason.UNSUPPORTED_PIXELS, "a signed look-up table of 32,768 entries or more"
        )
    item = ElementWriter()
    item.put_integers("LUTDescriptor", (count, first, bits), signed=signed)
    item.put_bytes("LUTData", words[: 2 * (count or 2**16)], vr="OW")
    return item


def _put_palette(data_set: ElementWriter, instance: Instance) -> None:
    for color in _COLORS:
        name = f"{color}PaletteColorLookupTable"
        descriptor = instance.integers(f"{name}Descriptor")
        segmented = f"Segmented{name}Data" in instance
        keyword = f"Segmented{name}Data" if segmented else f"{name}Data"
        data = instance.elements.get(keyword)
        if data is None:
            raise unreadable(Reason.MALFORMED, "the palette is not complete")
        count, _, bits = _descriptor(descriptor)
        words = instance.words(data)
        if not segmented:
            entries = count or 2**16
            # Entries of 8 bits may lie in bytes or in words (PS3.3 C.7.6.3.1.6).
            packed = bits <= 8 and len(words) < 2 * entries
            length = entries + entries % 2 if packed else 2 * entries
            if len(words) < length:
                raise unreadable(Reason.MALFORMED, "the palette is shorter than it says")
            words = words[:length]
        data_set.put_integers(f"{name}Descriptor", descriptor)
        data_set.put_bytes(keyword, words, vr="OW")


def _descriptor(values: tuple[int, ...]) -> tuple[int, int, int]:
    """Return entries (0 for 65,536), first value and bits, each as its 16 bits unsigned."""
    if len(values) != 3 or not all(-(2**15) <= value < 2**16 for value in values):
        raise unreadable(Reason.MALFORMED, "the descriptor of a look-up table is none")
    count, first, bits = (value % 2**16 for value in values)
    return count, first, bits


def _sample_value(value: int, *, signed: bool) -> int:
    """Return a 16-bit value with the sign of the samples, whichever sign it was written with."""
    bits = value % 2**16
    return bits - 2**16 if signed and bits >= 2**15 else bits


def _put_pixels(
    data_set: ElementWriter, instance: Instance, pixels: ImagePixels, frames: Sequence[bytes]
) -> None:
    if pixels.frames > 1:
        data_set.put_text("NumberOfFrames", str(pixels.frames))
    data_set.put_integers("SamplesPerPixel", (pixels.samples,))
    data_set.put_text("PhotometricInterpretation", pixels.photometric)
    if pixels.samples > 1:
        data_set.put_integers("PlanarConfiguration", (pixels.planar,))
    data_set.put_integers("Rows", (pixels.rows,))
    data_set.put_integers("Columns", (pixels.columns,))
    data_set.put_integers("BitsAllocated", (pixels.bits_allocated,))
    data_set.put_integers("BitsStored", (pixels.bits_stored,))
    data_set.put_integers("HighBit", (pixels.bits_stored - 1,))
    data_set.put_integers("PixelRepresentation", (int(pixels.signed),))
    if is_native(instance.transfer_syntax):
        vr = "OB" if pixels.bits_allocated == 8 else "OW"
        data_set.put_bytes("PixelData", frames[0], vr=vr)
    else:
        data_set.put_frames(frames)


def _file_meta(
    instance: Instance, attributes: ScanAttributes, pseudonyms: Pseudonyms
) -> ElementWriter:
    native = is_native(instance.transfer_syntax)
    meta = ElementWriter()
    meta.put_text("MediaStorageSOPClassUID", attributes.sop_class)
    meta.put_text("MediaStorageSOPInstanceUID", pseudonyms.instance)
    meta.put_text(
        "TransferSyntaxUID", ExplicitVRLittleEndian if native else instance.transfer_syntax
    )
    meta.put_text("ImplementationClassUID", IMPLEMENTATION)
    meta.put_text("ImplementationVersionName", IMPLEMENTATION_VERSION)
    return meta


def _decimal(number: float) -> str:
    """Return a number in at most 16 characters (VR DS), as exactly as they hold."""
    shortest = repr(number)
    return shortest if len(shortest) <= 16 else f"{number:.9g}"
