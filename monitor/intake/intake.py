"""The one path of a file up to storage: folders take it now, the network roads later.

Pure but for reading the file: what it returns is stored by whoever called,
vault first, then the row, so that a row never points at nothing.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pydicom import dcmread

from monitor.intake.attributes import ScanAttributes
from monitor.intake.decoding import DecodingProcess
from monitor.intake.deidentify import deidentify
from monitor.intake.image_pixels import is_native
from monitor.intake.keys import SecretKey
from monitor.intake.limits import DEFAULT_LIMITS, Limits
from monitor.intake.pseudonyms import Pseudonyms
from monitor.intake.reading import read_bytes, read_instance
from monitor.intake.reasons import Reason
from monitor.pixels import decode
from registry.errors import UnreadableScanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A scan, de-identified and decodable, to be stored."""

    site: str
    attributes: ScanAttributes
    pseudonyms: Pseudonyms
    content: bytes = field(repr=False)  #: for the vault
    pixel_digest: str

    @property
    def identity(self) -> tuple[str, str]:
        """What a scan is one by, however often and by whatever road it comes."""
        return self.site, self.pseudonyms.instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """What is not taken, for the quarantine."""

    site: str
    reason: Reason
    detail: str  #: a sentence without patient data
    #: the original, which may hold patient data; None where it was not read
    content: bytes | None = field(repr=False)


Prepared: TypeAlias = Accepted | Rejected


def prepare(
    path: Path,
    *,
    site: str,
    key: SecretKey,
    decoder: DecodingProcess,
    limits: Limits = DEFAULT_LIMITS,
) -> Prepared:
    """Prepare a file for storage; see `prepare_bytes`."""
    try:
        content = read_bytes(path, limits)
    except UnreadableScanError as error:
        return Rejected(
            site=site, reason=Reason(error.reason), detail=error.detail, content=None
        )
    return prepare_bytes(content, site=site, key=key, decoder=decoder, limits=limits)


def prepare_bytes(
    content: bytes,
    *,
    site: str,
    key: SecretKey,
    decoder: DecodingProcess,
    limits: Limits = DEFAULT_LIMITS,
    annotation_denied: bool = False,
) -> Prepared:
    """Read, check, de-identify and decode a DICOM file, whatever its bytes are.

    The stored file is decoded once before it is accepted: what is in the
    vault can be read, and the original of what cannot is still at hand.

    Parameters
    ----------
    site : where it comes from; pseudonyms of two sites have nothing in common
    key : of the pseudonyms
    decoder : decodes what is compressed, where that may fail as it likes
    annotation_denied : a person states that no text is burned in, whatever the tag says
    """
    try:
        instance = read_instance(content, limits)
        if annotation_denied:
            instance = instance.with_code("BurnedInAnnotation", "NO")
        scan = deidentify(instance, site=site, key=key, limits=limits)
        if is_native(scan.attributes.transfer_syntax):
            decode(dcmread(io.BytesIO(scan.content)))
        else:
            attributes = scan.attributes
            decoder.require_decodable(
                scan.content, samples=3 * attributes.rows * attributes.columns
            )
    except UnreadableScanError as error:
        return Rejected(
            site=site, reason=Reason(error.reason), detail=error.detail, content=content
        )
    return Accepted(
        site=site,
        attributes=scan.attributes,
        pseudonyms=scan.pseudonyms,
        content=scan.content,
        pixel_digest=scan.pixel_digest,
    )


def contradiction(
    arrived: Accepted, *, stored_pixel_digest: str, stored_content: Callable[[], bytes]
) -> str | None:
    """Say why an instance that came again is another image, or return None for a resend.

    A resend may have been compressed or unpacked on its way: where the stored
    forms differ, the images decide, to the last bit.

    Parameters
    ----------
    stored_content : returns the file in the vault; called where the digests differ
    """
    if arrived.pixel_digest == stored_pixel_digest:
        return None
    new = decode(dcmread(io.BytesIO(arrived.content)))
    old = decode(dcmread(io.BytesIO(stored_content())))
    if new.inverted == old.inverted and np.array_equal(new.values, old.values):
        return None
    return (
        "another image is stored under the same SOP Instance UID: which is right is not known"
    )
