"""Odd files that others published: each is a scan, or in quarantine for a reason that is true."""

from __future__ import annotations

import gzip
import io
import warnings
from collections.abc import Callable, Mapping

import pytest
from odd_files import SCAN, OddFile, costs, odd_files
from pydicom import Dataset, dcmread

FILES = odd_files()
#: Of the standard's storage classes without an image (PS3.4 annex B).
_DOSE_PLAN_WAVEFORM_PALETTE = (
    "1.2.840.10008.5.1.4.1.1.481.2",
    "1.2.840.10008.5.1.4.1.1.481.5",
    "1.2.840.10008.5.1.4.1.1.481.8",
    "1.2.840.10008.5.1.4.1.1.9.1.1",
    "1.2.840.10008.5.1.4.39.1",
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def read(content: bytes) -> Dataset:
    """Return what pydicom makes of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(io.BytesIO(content), force=True)


def image_type(ds: Dataset) -> list[str]:
    return [str(value).strip() for value in ds.get("ImageType") or []]


def is_cut_short(content: bytes) -> bool:
    ds = read(content)
    if "PixelData" in ds:
        return len(ds.PixelData) < int(ds.Rows * ds.Columns * ds.BitsAllocated // 8)
    return "ApprovalStatus" not in ds  # the last element of the plan that is whole


#: What pydicom shows in a file where a reason is true.
TRUE: Mapping[str, Callable[[bytes], bool]] = {
    SCAN: lambda content: (
        "LOCALIZER" not in image_type(read(content))
        and (
            read(content).Modality in {"CR", "CT", "MR"}
            or read(content).get("BurnedInAnnotation") == "NO"
        )
    ),
    "derived": lambda content: (
        read(content).Modality in {"CT", "MR"} and image_type(read(content))[0] == "DERIVED"
    ),
    "localizer": lambda content: image_type(read(content))[2] == "LOCALIZER",
    "burned_in_unknown": lambda content: (
        "BurnedInAnnotation" not in read(content)
        and (
            read(content).SOPClassUID == _SECONDARY_CAPTURE
            or read(content).get("Modality") == "US"
        )
    ),
    "segmentation": lambda content: read(content).Modality in {"SEG", "RTSTRUCT"},
    "report": lambda content: read(content).Modality == "SR",
    "not_an_image": lambda content: (
        read(content).get("SOPClassUID") in {None, *_DOSE_PLAN_WAVEFORM_PALETTE}
    ),
    "no_pixels": lambda content: "PixelData" not in read(content),
    "truncated": is_cut_short,
    "not_dicom": lambda content: (
        content[128:132] != b"DICM"
        and content[:2] not in {b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08"}
    ),
    "archive": lambda content: len(gzip.decompress(content)) > 0,
}


def test_no_file_of_the_published_ones_lacks() -> None:
    assert sum(file.name.startswith("pydicom/test_files/") for file in FILES) >= 150
    assert sum(file.name.startswith("pydicom-data/") for file in FILES) == 24


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_was_written_down_is_true(file: OddFile) -> None:
    assert TRUE[file.fate](file.content)


@pytest.mark.slow
def test_each_is_what_was_written_down_within_5_seconds_and_a_gigabyte() -> None:
    found = {cost["name"]: cost for cost in costs()}
    assert {name: (cost["fate"], cost["denied"]) for name, cost in found.items()} == {
        file.name: (file.fate, file.denied) for file in FILES
    }
    # Of a processor: the clock of a machine that has other work says nothing.
    assert max(cost["seconds"] for cost in found.values()) < 5
    assert max(cost["mib"] for cost in found.values()) < 1024
