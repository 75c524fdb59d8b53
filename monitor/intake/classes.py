"""Which SOP Classes are scans, and which hold what a workstation or a model made of them."""

from __future__ import annotations

import re

from pydicom import uid

from monitor.intake.reading import Instance
from monitor.intake.reasons import Reason, unreadable

#: Images as a modality acquires them.
SCAN_CLASSES = frozenset(
    (
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.DigitalIntraOralXRayImageStorageForPresentation,
        uid.DigitalIntraOralXRayImageStorageForProcessing,
        uid.BreastProjectionXRayImageStorageForPresentation,
        uid.BreastProjectionXRayImageStorageForProcessing,
        uid.XRayAngiographicImageStorage,
        uid.XRayRadiofluoroscopicImageStorage,
        uid.CTImageStorage,
        uid.MRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.NuclearMedicineImageStorage,
        uid.RTImageStorage,
        uid.VLEndoscopicImageStorage,
        uid.VLMicroscopicImageStorage,
        uid.VLSlideCoordinatesMicroscopicImageStorage,
        uid.VLPhotographicImageStorage,
        uid.OphthalmicPhotography8BitImageStorage,
        uid.OphthalmicPhotography16BitImageStorage,
        uid.DermoscopicPhotographyImageStorage,
    )
)

#: Images into which text is usually written, and seldom with the tag set:
#: ultrasound, and captures of screens.
USUALLY_ANNOTATED_CLASSES = frozenset(
    (
        uid.UltrasoundImageStorage,
        uid.UltrasoundMultiFrameImageStorage,
        "1.2.840.10008.5.1.4.1.1.6",  # ultrasound before 1993, retired
        "1.2.840.10008.5.1.4.1.1.3",  # and with several frames
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    )
)

#: Captures of screens and digitised film: scans where nothing is burned in, but part of no
#: series or study that is read as one.
CAPTURE_CLASSES = frozenset(
    (
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    )
)

#: Objects of many frames whose meaning lies in functional groups (PS3.3 C.7.6.16).
ENHANCED_CLASSES = frozenset(
    (
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedMRColorImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.EnhancedXAImageStorage,
        uid.EnhancedXRFImageStorage,
        uid.EnhancedUSVolumeStorage,
        uid.XRay3DAngiographicImageStorage,
        uid.XRay3DCraniofacialImageStorage,
        uid.BreastTomosynthesisImageStorage,
        uid.OphthalmicTomographyImageStorage,
    )
)

# A radiograph "for presentation" is DERIVED by definition; a derived slice is
# a reformat, a projection or a map.
_ORIGINAL_ONLY_CLASSES = frozenset(
    (
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedPETImageStorage,
    )
)
_SCREEN_WORDS = frozenset(("SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE", "CAPTURE"))
_STATED_NO = "NO"
_ALGORITHM_WORDS = frozenset(("AI", "CAD"))
_WORDS = re.compile(r"[A-Z0-9]+")


def is_image(instance: Instance) -> bool:
    """Say whether an instance is of a class of images that are scans."""
    classes = SCAN_CLASSES | USUALLY_ANNOTATED_CLASSES | ENHANCED_CLASSES
    return instance.text("SOPClassUID") in classes


def is_captured(instance: Instance) -> bool:
    """Say whether an image was captured from a screen or film, not acquired."""
    kind = {value.upper() for value in instance.texts("ImageType")}
    return instance.text("SOPClassUID") in CAPTURE_CLASSES or bool(kind & _SCREEN_WORDS)


def require_scan(instance: Instance) -> None:
    """Refuse what is no scan by its class or by what it says of how it was made.

    Raises
    ------
    UnreadableScanError
        With the reason not_an_image, ai_result, localizer or derived.
    """
    sop_class = instance.text("SOPClassUID")
    if not is_image(instance):
        raise unreadable(
            Reason.NOT_AN_IMAGE,
            "the SOP class is none of images: a report, plan, segmentation or the like"
            if sop_class
            else "the instance does not say its SOP class",
        )
    if sop_class in CAPTURE_CLASSES and _is_of_an_algorithm(instance):
        raise unreadable(Reason.AI_RESULT, "the image is a picture that an algorithm made")
    kind = tuple(value.upper() for value in instance.texts("ImageType"))
    if {"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(kind[2:]):
        raise unreadable(Reason.LOCALIZER, "the image is a localizer")
    if sop_class in _ORIGINAL_ONLY_CLASSES and kind[:1] == ("DERIVED",):
        raise unreadable(
            Reason.DERIVED, "the slice is derived: a reformat, a projection or a map"
        )


def _is_of_an_algorithm(instance: Instance) -> bool:
    """Say whether a capture says so: its equipment is called AI or CAD."""
    texts = (instance.text(keyword) for keyword in ("Manufacturer", "ManufacturerModelName"))
    return any(_ALGORITHM_WORDS & set(_WORDS.findall(text.upper())) for text in texts)


def require_no_annotation(instance: Instance) -> None:
    """Refuse an image into which text is burned, or may be.

    Burned In Annotation (0028,0301) decides where it is stated. It is absent
    more often than not, so classes that usually carry text are refused without it.

    Raises
    ------
    UnreadableScanError
        With the reason burned_in or burned_in_unknown.
    """
    stated = instance.code("BurnedInAnnotation")
    if stated == _STATED_NO:
        return
    if stated:
        raise unreadable(Reason.BURNED_IN, "text is burned into the image, as the tag says")
    kind = {value.upper() for value in instance.texts("ImageType")}
    if (
        instance.text("SOPClassUID") in USUALLY_ANNOTATED_CLASSES
        or instance.code("Modality") == "US"
        or instance.code("ConversionType")
        or kind & _SCREEN_WORDS
    ):
        raise unreadable(
            Reason.BURNED_IN_UNKNOWN,
            "images of this kind often carry burned-in text, and the tag does not deny it",
        )
