"""The sample's radiographs written as DICOM: Computed Radiography images (PS3.3 A.2).

Pixels, labels, and what is said of the adults' age, sex, view and patient
are real. Names, numbers, times, scanners and software versions are made up,
so that intake meets what it has to remove. Nothing is random: the same
radiograph, software and time give the same bytes.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from api.demo.acquisition import Floats, Processing
from api.demo.sample import Adult, Child, Pixels

#: Rows and columns of a child's radiograph: four times the source's, so that the
#: scanner's processing has pixels finer than the source's to work on.
CHILD_SIDE = 112

BITS_STORED = 12
WHITE = 2**BITS_STORED - 1

# All UIDs are UUIDs of what they name, under 2.25 (PS3.5 B.2), in this space of names.
_NAMES = uuid.UUID("5f0b8f0c-6d0e-4c39-9a55-0f2f7f9d1c77")
_IMPLEMENTATION_VERSION = "DRIFTWARD_DEMO"

# fmt: off
_FAMILIES = (
    "Alder", "Birch", "Cedar", "Elder", "Hazel", "Juniper",
    "Larch", "Maple", "Rowan", "Spruce", "Thorn", "Willow",
)
_BIRDS = (
    "Avocet", "Bunting", "Curlew", "Dunlin", "Finch", "Heron",
    "Linnet", "Martin", "Plover", "Robin", "Siskin", "Wren",
)
# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scanner:
    institution: str
    manufacturer: str
    model: str
    station: str


_CHILDREN_SCANNER = _Scanner(
    institution="Guangzhou Women and Children's Medical Center",
    manufacturer="Digital Imaging Systems",
    model="DR 100",
    station="PEDS-XR-1",
)
_SECOND_SCANNER = _Scanner(
    institution="A second children's clinic",
    manufacturer="Phosphor Imaging",
    model="CR 50",
    station="CLINIC-XR-1",
)
_ADULTS_SCANNER = _Scanner(
    institution="NIH Clinical Center",
    manufacturer="Digital Imaging Systems",
    model="DR 200",
    station="CC-XR-3",
)
_ADULTS_SOFTWARE = "3.1.0"


def write_child(
    path: Path,
    child: Child,
    *,
    software: Processing,
    taken_at: datetime,
    second_site: bool = False,
) -> str:
    """Write a child's radiograph, and return its SOP Instance UID.

    The source's 28 x 28 pixels are scaled up smoothly before the scanner's
    software works on them. Every child is a patient of its own, for the
    source does not say who is who; age and sex are not known.

    Parameters
    ----------
    path : appears whole, or not at all
    child : the radiograph
    software : what the scanner runs
    taken_at : when; carries a time zone, which the file then states
    second_site : whether the other scanner took it
    """
    image = software.render(_scaled_up(child.pixels), seed=child.index)
    ds = _radiograph(
        image,
        _SECOND_SCANNER if second_site else _CHILDREN_SCANNER,
        software=software.version,
        patient=f"GZ-{child.index:06d}",
        number=child.index,
        view="AP",
        taken_at=taken_at,
    )
    _write(path, ds)
    return str(ds.SOPInstanceUID)


def write_adult(path: Path, adult: Adult, *, taken_at: datetime) -> str:
    """Write an adult's radiograph, and return its SOP Instance UID; see `write_child`.

    Its pixels are the source's, 64 x 64; age and sex are known.
    """
    image: Floats = adult.pixels.astype(np.float32) / np.float32(255)
    ds = _radiograph(
        image,
        _ADULTS_SCANNER,
        software=_ADULTS_SOFTWARE,
        patient=f"NIH-{adult.patient:08d}",
        number=adult.index,
        view=adult.view,
        taken_at=taken_at,
    )
    _put(ds, PatientAge=f"{adult.age_years:03d}Y", PatientSex=adult.sex)
    _write(path, ds)
    return str(ds.SOPInstanceUID)


def _scaled_up(pixels: Pixels) -> Floats:
    scaled = PillowImage.fromarray(pixels.astype(np.float32)).resize(
        (CHILD_SIDE, CHILD_SIDE), resample=PillowImage.Resampling.BICUBIC
    )
    # Bicubic interpolation overshoots at edges.
    image: Floats = np.clip(np.asarray(scaled, dtype=np.float32) / 255, 0, 1)
    return image


def _radiograph(
    image: Floats,
    scanner: _Scanner,
    *,
    software: str,
    patient: str,
    number: int,
    view: str,
    taken_at: datetime,
) -> Dataset:
    """Return a CR image of the picture [h, w], 0 black to 1 white."""
    if taken_at.utcoffset() is None:
        raise ValueError("the time of a radiograph must carry a time zone")
    family, bird = _name(patient)
    moment = f"{patient} {taken_at.isoformat()}"
    day, time = f"{taken_at:%Y%m%d}", f"{taken_at:%H%M%S}"
    ds = Dataset()
    _put(
        ds,
        SpecificCharacterSet="ISO_IR 192",
        # The pixels have been processed, and compressed with loss at their source.
        ImageType=["DERIVED", "PRIMARY"],
        SOPClassUID=ComputedRadiographyImageStorage,
        SOPInstanceUID=_uid("instance", moment, software, str(number)),
        StudyDate=day,
        ContentDate=day,
        StudyTime=time,
        ContentTime=time,
        AccessionNumber=f"A{taken_at:%y%m%d}{number:06d}",
        Modality="CR",
        Manufacturer=scanner.manufacturer,
        InstitutionName=scanner.institution,
        ReferringPhysicianName=f"{bird}^{family}",
        TimezoneOffsetFromUTC=f"{taken_at:%z}",
        StationName=scanner.station,
        StudyDescription="Chest radiograph",
        ManufacturerModelName=scanner.model,
        PatientName=f"{family}^{bird}",
        PatientID=patient,
        PatientBirthDate="",
        PatientSex="",
        BodyPartExamined="CHEST",
        SoftwareVersions=software,
        ProtocolName=f"CHEST {view}",
        ViewPosition=view,
        StudyInstanceUID=_uid("study", moment),
        SeriesInstanceUID=_uid("series", moment),
        StudyID="1",
        SeriesNumber="1",
        InstanceNumber="1",
        PatientOrientation=["L", "F"],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=image.shape[0],
        Columns=image.shape[1],
        BitsAllocated=16,
        BitsStored=BITS_STORED,
        HighBit=BITS_STORED - 1,
        PixelRepresentation=0,
        BurnedInAnnotation="NO",
        # LINEAR maps exactly 0..4095 onto black to white (PS3.3 C.11.2.1.2.1).
        WindowCenter="2048",
        WindowWidth="4096",
        LossyImageCompression="01",
        PixelData=np.rint(image * WHITE).astype("<u2").tobytes(),
    )
    return ds


def _name(patient: str) -> tuple[str, str]:
    """Return a family name and a given one; each is a plant's or a bird's."""
    number = uuid.uuid5(_NAMES, f"name {patient}").int
    return _FAMILIES[number % len(_FAMILIES)], _BIRDS[number // 97 % len(_BIRDS)]


def _uid(kind: str, *of: str) -> str:
    return f"2.25.{uuid.uuid5(_NAMES, ' '.join((kind, *of))).int}"


def _put(ds: Dataset, **elements: Any) -> None:
    for keyword, value in elements.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is no DICOM keyword")
        vr = "OW" if keyword == "PixelData" else dictionary_VR(tag)
        # Validating each value again takes longer than all the rest; a test validates them.
        ds[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)


def _write(path: Path, ds: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = _IMPLEMENTATION_VERSION
    ds.file_meta = meta
    # A name that starts with a dot is passed over by whoever watches the folder.
    unfinished = path.with_name(f".{path.name}")
    try:
        dcmwrite(unfinished, ds, enforce_file_format=True)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
