from __future__ import annotations

import hashlib
import io
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom
import pytest

import api.demo.sample as sample_module
from api.demo.sample import DIGESTS, Sample, load_sample
from registry.errors import IntegrityError

FOLDER = Path(str(files("api.demo") / "sample"))
LARGEST_BYTES = 12_000_000


@pytest.fixture(scope="module")
def sample() -> Sample:
    return load_sample()


def listed() -> dict[str, str]:
    lines = (FOLDER / DIGESTS).read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def test_every_scan_file_is_listed_with_its_digest() -> None:
    scans = {
        path.relative_to(FOLDER).as_posix()
        for path in FOLDER.rglob("*")
        if path.suffix in {".npz", ".dcm"}
    }
    assert scans == set(listed())
    for name, digest in listed().items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest


def test_the_sample_fits_into_twelve_megabytes() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < (
        LARGEST_BYTES
    )


@pytest.mark.parametrize(
    "words",
    [
        "https://creativecommons.org/licenses/by/4.0/",
        "Kermany",
        "MedMNIST v2",
        "pixel values\nunchanged",
        "NIH Clinical Center",
        "X. Wang",
        "licences/BSD-2-Clause-dcm_qa_nih.txt",
    ],
)
def test_attribution_stands_beside_the_scans(words: str) -> None:
    assert words in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_bsd_licence_ships_with_the_images_under_it() -> None:
    text = (FOLDER / "licences" / "BSD-2-Clause-dcm_qa_nih.txt").read_text(encoding="utf-8")
    assert "Redistributions in binary form must reproduce" in text


def test_no_array_needs_a_pickle() -> None:
    for name in ("children.npz", "adults.npz"):
        with np.load(FOLDER / name, allow_pickle=False) as archive:
            assert all(archive[key].dtype != object for key in archive)


def test_children_are_as_many_and_as_often_ill_as_in_their_source(sample: Sample) -> None:
    assert len(sample.children) == 4708 + 524 + 624
    assert [child.index for child in sample.children] == list(range(len(sample.children)))
    assert {child.pixels.shape for child in sample.children} == {(28, 28)}
    assert {child.pixels.dtype for child in sample.children} == {np.dtype(np.uint8)}
    assert [child.pneumonia for child in sample.children].count(1) == 3494 + 389 + 390


def test_adults_are_adults_of_several_scans_each(sample: Sample) -> None:
    assert len(sample.adults) == 427
    assert len({adult.patient for adult in sample.adults}) == 130
    assert min(adult.age_years for adult in sample.adults) >= 18
    assert {adult.sex for adult in sample.adults} == {"F", "M"}
    assert {adult.view for adult in sample.adults} == {"AP", "PA"}
    assert {adult.pixels.shape for adult in sample.adults} == {(64, 64)}


def test_magnetic_resonance_images_are_dicom_files_of_two_makers(sample: Sample) -> None:
    images = [pydicom.dcmread(io.BytesIO(content)) for content in sample.magnetic]
    assert {image.Modality for image in images} == {"MR"}
    makers = [image.Manufacturer for image in images]
    assert (makers.count("GE MEDICAL SYSTEMS"), makers.count("SIEMENS")) == (20, 4)
    assert len({image.SOPInstanceUID for image in images}) == len(images)


@pytest.mark.parametrize("harm", ["changed", "absent"])
def test_a_damaged_installation_is_named(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER, tmp_path / "sample")
    damaged = tmp_path / "sample" / "adults.npz"
    if harm == "changed":
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"\1")
    else:
        damaged.unlink()
    monkeypatch.setattr(sample_module, "files", lambda _package: tmp_path)
    with pytest.raises(IntegrityError, match=r"adults\.npz .* install Driftward again"):
        load_sample()
