"""The sample scans that ship with the demo: real ones, read from the package and checked.

`sample/README.md` says where they come from and under which licences.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from registry.errors import IntegrityError

Pixels: TypeAlias = npt.NDArray[np.uint8]

#: Every file of the sample with its SHA-256, as `sha256sum` writes it.
DIGESTS = "SHA256SUMS"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Child:
    """A frontal chest radiograph of a child of one to five years; nothing else is known of it."""

    index: int  #: its place in the sample
    pixels: Pixels  #: [28, 28], MONOCHROME2
    pneumonia: int  #: 1 with pneumonia, 0 normal


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adult:
    """A frontal chest radiograph of an adult."""

    index: int  #: its place in the sample
    pixels: Pixels  #: [64, 64], MONOCHROME2
    patient: int  #: the source's number; several scans may be of one patient
    age_years: int
    sex: str  #: F or M
    view: str  #: AP or PA


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """All sample scans, each kind in a fixed order."""

    children: tuple[Child, ...]
    adults: tuple[Adult, ...]
    magnetic: tuple[bytes, ...]  #: MR images, DICOM files as their source published them


def load_sample() -> Sample:
    """Return the sample scans.

    Raises
    ------
    IntegrityError
        If a file is absent or is not the one that was shipped.
    """
    folder = files("api.demo") / "sample"
    content = {name: _read(folder, name, digest) for name, digest in _digests(folder).items()}
    return Sample(
        children=_children(_arrays(content["children.npz"])),
        adults=_adults(_arrays(content["adults.npz"])),
        magnetic=tuple(
            content[name] for name in sorted(content) if name.startswith("magnetic/")
        ),
    )


def _digests(folder: Traversable) -> dict[str, str]:
    lines = _bytes(folder, DIGESTS).decode("ascii").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def _read(folder: Traversable, name: str, digest: str) -> bytes:
    content = _bytes(folder, name)
    if hashlib.sha256(content).hexdigest() != digest:
        raise IntegrityError(
            f"sample file {name} is not the one that was shipped: install Driftward again"
        )
    return content


def _bytes(folder: Traversable, name: str) -> bytes:
    try:
        return folder.joinpath(name).read_bytes()
    except FileNotFoundError:
        raise IntegrityError(
            f"sample file {name} is not there: install Driftward again"
        ) from None


def _arrays(content: bytes) -> Mapping[str, npt.NDArray[np.generic]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def _children(arrays: Mapping[str, npt.NDArray[np.generic]]) -> tuple[Child, ...]:
    images = arrays["images"].astype(np.uint8, copy=False)
    return tuple(
        Child(index=index, pixels=pixels, pneumonia=pneumonia)
        for index, (pixels, pneumonia) in enumerate(
            zip(images, arrays["pneumonia"].tolist(), strict=True)
        )
    )


def _adults(arrays: Mapping[str, npt.NDArray[np.generic]]) -> tuple[Adult, ...]:
    images = arrays["images"].astype(np.uint8, copy=False)
    columns = (arrays[name].tolist() for name in ("patient", "age_years", "sex", "view"))
    return tuple(
        Adult(index=index, pixels=pixels, patient=patient, age_years=age, sex=sex, view=view)
        for index, (pixels, patient, age, sex, view) in enumerate(
            zip(images, *columns, strict=True)
        )
    )
