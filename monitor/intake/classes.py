"""Which SOP Classes are scans, and which hold what a workstation or a model made of them."""

from __future__ import annotations

from pydicom import uid

from monitor.intake.reading import Instance
from monitor.intake.reasons import Reason, unreadable

#: Images of one frame, as a modality acquires them.
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
    (uid.CTImageStorage, uid.MRImageStorage, uid.PositronEmissionTomographyImageStorage)
)
_SCREEN_WORDS = frozenset(("SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE", "CAPTURE"))
_STATED_NO = "NO"


def require_scan(instance: Instance) -> None:
    """Refuse what is no scan by its class or by what it says of how it was made.

    Raises
    ------
    UnreadableScanError
        With the reason not_an_image, multi_frame, localizer or derived.
    """
    sop_class = instance.text("SOPClassUID")
    if sop_class in ENHANCED_CLASSES:
        raise unreadable(
            Reason.MULTI_FRAME, "enhanced objects of many frames are not read by this version"
        )
    if sop_class not in SCAN_CLASSES | USUALLY_ANNOTATED_CLASSES:
        raise unreadable(
            Reason.NOT_AN_IMAGE,
            "the SOP class is none of images: a report, plan, segmentation or the like"
            if sop_class
            else "the instance does not say its SOP class",
        )
    kind = tuple(value.upper() for value in instance.texts("ImageType"))
    if {"LOCALIZER", "SCOUT", "TOPOGRAM"} & set(kind[2:]):
        raise unreadable(Reason.LOCALIZER, "the image is a localizer")
    if sop_class in _ORIGINAL_ONLY_CLASSES and kind[:1] == ("DERIVED",):
        raise unreadable(
            Reason.DERIVED, "the slice is derived: a reformat, a projection or a map"
        )


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
