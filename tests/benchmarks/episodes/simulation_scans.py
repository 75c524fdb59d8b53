"""A visit's radiograph as a DICOM file: the demo's, with the simulated site's own header.

Each visit is another patient, who stands in a way of his own; the exposure differs, the week's
gray values are a little off, and the scanner's own software processes the image. Nothing is
mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cause_sources import SOURCE_SIDE
from cause_transforms import Variant
from PIL import Image
from pydicom import dcmread
from scipy.ndimage import affine_transform
from simulation_world import Kind, Visit

from api.demo.acquisition import Floats, Processing
from api.demo.radiographs import write_child
from api.demo.sample import Child, Sample

#: How a patient may stand: degrees to a side, share of the image up or aside, and of its size.
_TURN, _MOVE, _SCALE = 4.0, 0.03, 0.04
#: How exposures may differ: share of the contrast, of the range of gray values, and standard
#: deviation of faint noise.
_CONTRAST, _BRIGHTNESS, _NOISE = 0.06, 0.02, 0.004
#: What the changed scanner's new software adds to its old: a local equalisation, of a family
#: on which no classifier of causes was trained.
NEW_VERSION = "4.0.0"
NEW_STEP = Variant(family="equalised", strength=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure(Processing):
    """What one exposure and a scanner's software make of an image."""

    software: Processing
    added: Variant | None
    offset: float
    visit_seed: int

    def render(self, image: Floats, *, seed: int) -> Floats:
        """Return the image as the scanner sends it."""
        rng = np.random.default_rng([self.visit_seed, seed])
        exposed = _exposed(_stood(image, rng), rng) + np.float32(self.offset)
        shown = self.software.render(np.clip(exposed, 0, 1), seed=self.visit_seed)
        return shown if self.added is None else self.added.render(shown, seed=self.visit_seed)


def write_visit(path: Path, visit: Visit, sample: Sample) -> str:
    """Write a visit's radiograph, and return its SOP Instance UID."""
    changed = Kind.ACQUISITION in visit.shifts
    software = visit.scanner.software
    exposure = Exposure(
        version=NEW_VERSION if changed else software.version,
        software=software,
        added=NEW_STEP if changed else None,
        offset=visit.offset,
        visit_seed=visit.seed,
    )
    uid = write_child(path, _as_child(visit, sample), software=exposure, taken_at=visit.at)
    ds = dcmread(path)
    ds.InstitutionName = f"{visit.scanner.site} hospital"
    ds.StationName = visit.scanner.station
    ds.ManufacturerModelName = visit.scanner.model
    ds.PatientAge, ds.PatientSex = _age_and_sex(visit, sample)
    ds.save_as(path, enforce_file_format=True)
    return uid


def _as_child(visit: Visit, sample: Sample) -> Child:
    """Return the patient's image at the children's resolution, under the patient's number."""
    patient = visit.patient
    if not patient.adult:
        return replace(sample.children[patient.index], index=patient.number)
    adult = Image.fromarray(sample.adults[patient.index].pixels)
    small = adult.resize((SOURCE_SIDE,) * 2, Image.Resampling.BICUBIC)
    return Child(index=patient.number, pixels=np.asarray(small, dtype=np.uint8), pneumonia=-1)


def _age_and_sex(visit: Visit, sample: Sample) -> tuple[str, str]:
    """Return an adult's age and sex; a child's are made up, within the source's one to five."""
    if visit.patient.adult:
        adult = sample.adults[visit.patient.index]
        return f"{adult.age_years:03d}Y", adult.sex
    drawn = np.random.default_rng([7, visit.patient.number]).integers((1, 0), (6, 2))
    return f"{drawn[0]:03d}Y", "FM"[drawn[1]]


def _stood(image: Floats, rng: np.random.Generator) -> Floats:
    """Return the image of a patient who stands a little differently."""
    angle = np.deg2rad(_TURN * rng.uniform(-1, 1))
    scale = 1 + _SCALE * rng.uniform(-1, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    middle = (np.array(image.shape) - 1) / 2
    moved = _MOVE * len(image) * rng.uniform(-1, 1, size=2)
    stood: Floats = affine_transform(
        image, turn, offset=middle - turn @ middle + moved, order=1, mode="nearest"
    )
    return stood


def _exposed(image: Floats, rng: np.random.Generator) -> Floats:
    """Return the image with a little more or less contrast and light, and faint noise."""
    contrast = 1 + _CONTRAST * rng.uniform(-1, 1)
    light = _BRIGHTNESS * rng.uniform(-1, 1)
    middle = image.mean()
    exposed: Floats = (middle + contrast * (image - middle) + light).astype(np.float32)
    return exposed + np.float32(_NOISE) * rng.standard_normal(image.shape, dtype=np.float32)
