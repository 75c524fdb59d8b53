"""DICOM instances for tests, written by pydicom."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monitor.intake.keys import SecretKey

KEY = SecretKey(bytes(range(32)))
SITE = "north"


def gradient(rows: int = 12, columns: int = 10, *, top: int = 4095) -> npt.NDArray[np.uint16]:
    """Return samples that rise from 0 to `top`, no two rows alike."""
    steps = np.linspace(0, top, rows * columns).astype(np.uint16)
    return steps.reshape(rows, columns)


def radiograph(samples: npt.NDArray[Any] | None = None, **elements: Any) -> Dataset:
    """Return a chest radiograph of a child; `elements` are set last, None removes one."""
    samples = gradient() if samples is None else samples
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ComputedRadiographyImageStorage
    ds.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
    ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    ds.StudyDate = "20260302"
    ds.Modality = "CR"
    ds.Manufacturer = "Carestream Health"
    ds.ManufacturerModelName = "DRX-Evolution Plus"
    ds.SoftwareVersions = "5.7"
    ds.StationName = "ROOM3"
    ds.ProtocolName = "CHEST AP"
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "AP"
    ds.PatientName = "Yamada^Hanako"
    ds.PatientID = "4711-0815"
    ds.PatientBirthDate = "20220715"
    ds.PatientSex = "F"
    set_pixels(ds, samples)
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def set_pixels(ds: Dataset, samples: npt.NDArray[Any]) -> None:
    """Put samples in, uncompressed: gray [h, w] or RGB [h, w, 3]."""
    ds.SamplesPerPixel = 1 if samples.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2" if samples.ndim == 2 else "RGB"
    if samples.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = samples.shape[:2]
    ds.BitsAllocated = 8 * samples.dtype.itemsize
    ds.BitsStored = 12 if ds.BitsAllocated == 16 else ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(samples.dtype.kind == "i")
    data = samples.tobytes()
    ds.add_new(
        "PixelData", "OB" if ds.BitsAllocated == 8 else "OW", data + b"\0" * (len(data) % 2)
    )


def set_frames(ds: Dataset, *frames: bytes, transfer_syntax: str) -> None:
    """Put compressed frames in."""
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.add_new("PixelData", "OB", encapsulate(list(frames)))
    ds["PixelData"].is_undefined_length = True


def as_file(ds: Dataset, *, preamble: bytes = bytes(128)) -> bytes:
    """Return the bytes of a DICOM file; its meta information is complete even where `ds` is not."""
    ds.preamble = preamble
    ds.file_meta.MediaStorageSOPClassUID = ds.get(
        "SOPClassUID", ComputedRadiographyImageStorage
    )
    ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3")
    stream = io.BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def in_native_syntax(transfer_syntax: str, **elements: Any) -> bytes:
    """Return the radiograph as a file in one of the four uncompressed transfer syntaxes."""
    samples = gradient()
    if transfer_syntax == ExplicitVRBigEndian:
        samples = samples.astype(">u2")
    ds = radiograph(samples, **elements)
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    return as_file(ds)


NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
