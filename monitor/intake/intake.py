"""The one path of a file up to storage, whatever road it came by.

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

from monitor.imaging.frames import frame_count
from monitor.imaging.pixels import frames_of, require_decodable
from monitor.intake.attributes import ScanAttributes
from monitor.intake.classes import is_image
from monitor.intake.decoding import DecodingProcess
from monitor.intake.deidentify import deidentify
from monitor.intake.documents import Rejection, document_of, kind_of, rejection_in
from monitor.intake.image_pixels import is_native
from monitor.intake.limits import DEFAULT_LIMITS, Limits
from monitor.intake.places import InstancePlace, place_of
from monitor.intake.pseudonyms import Naming, Pseudonyms, instance_pseudonyms, revision_of
from monitor.intake.reading import Instance, read_bytes, read_instance
from monitor.intake.reasons import Reason, unreadable
from monitor.intake.sealing import Sealer
from monitor.intake.study_time import StudyTime
from registry.errors import UnreadableScanError


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A scan, de-identified and decodable, to be stored."""

    site: str
    attributes: ScanAttributes
    pseudonyms: Pseudonyms
    content: bytes = field(repr=False)  #: for the vault
    pixel_digest: str
    place: InstancePlace
    #: of the keys that gave its pseudonyms; under older ones it is not stored
    revision: int = 0
    #: a person stated that no text is burned in
    annotation_denied: bool = False
    #: what its pseudonyms stand for, where that is kept
    sealed: bytes | None = field(default=None, repr=False)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejecting:
    """A document that rejects instances, to be followed."""

    site: str
    reason: Rejection
    instances: tuple[str, ...]  #: keyed pseudonyms
    revision: int = 0  #: as an accepted scan's


_WITHOUT_TABLES = frozenset(("MONOCHROME1", "MONOCHROME2", "RGB"))

Prepared: TypeAlias = Accepted | Rejected | Rejecting


def prepare(
    path: Path,
    *,
    site: str,
    key: Naming,
    decoder: DecodingProcess,
    limits: Limits = DEFAULT_LIMITS,
    sealer: Sealer | None = None,
    study_time: StudyTime = StudyTime.REMOVED,
) -> Prepared:
    """Prepare a file for storage; see `prepare_bytes`."""
    try:
        content = read_bytes(path, limits)
    except UnreadableScanError as error:
        return Rejected(
            site=site, reason=Reason(error.reason), detail=error.detail, content=None
        )
    return prepare_bytes(
        content,
        site=site,
        key=key,
        decoder=decoder,
        limits=limits,
        sealer=sealer,
        study_time=study_time,
    )


def prepare_bytes(
    content: bytes,
    *,
    site: str,
    key: Naming,
    decoder: DecodingProcess,
    limits: Limits = DEFAULT_LIMITS,
    annotation_denied: bool = False,
    sealer: Sealer | None = None,
    study_time: StudyTime = StudyTime.REMOVED,
) -> Prepared:
    """Read, check, de-identify and decode a DICOM file, whatever its bytes are.

    The stored file is decoded once before it is accepted: what is in the
    vault can be read, and the original of what cannot is still at hand.

    Parameters
    ----------
    site : where it comes from; pseudonyms of two sites have nothing in common
    key : of the pseudonyms, or what remembers those given before
    decoder : decodes what is compressed, and looks for text where it does so, where that may
        fail as it likes
    annotation_denied : a person states that no text is burned in, whatever the tag says
    sealer : seals what the pseudonyms stand for, to a key that is held elsewhere
    study_time : how much of the study's day is kept
    """
    revision = revision_of(key)
    try:
        instance = read_instance(content, limits)
        if not is_image(instance):
            return _document(document_of(content, instance, limits), site, key, revision)
        if annotation_denied:
            instance = instance.with_code("BurnedInAnnotation", "NO")
        scan = deidentify(instance, site=site, key=key, limits=limits, study_time=study_time)
        if not is_native(scan.attributes.transfer_syntax):
            attributes = scan.attributes
            decoder.require_decodable(
                scan.content, samples=3 * attributes.rows * attributes.columns * scan.frames
            )
        elif not _is_plain(instance):
            require_decodable(dcmread(io.BytesIO(scan.content)))
        if decoder.recognises_text and not annotation_denied:
            attributes = scan.attributes
            decoder.require_no_text(
                scan.content,
                rows=attributes.rows,
                columns=attributes.columns,
                frames=scan.frames,
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
        place=place_of(instance),
        revision=revision,
        annotation_denied=annotation_denied,
        sealed=None if sealer is None else sealer.seal(instance),
    )


def _document(document: Instance, site: str, key: Naming, revision: int) -> Rejecting:
    note = rejection_in(document)
    if note is None:
        raise unreadable(*kind_of(document))
    return Rejecting(
        site=site,
        reason=note.reason,
        instances=instance_pseudonyms(note.instances, site=site, key=key),
        revision=revision,
    )


def _is_plain(instance: Instance) -> bool:
    """Say whether decoding uncompressed pixels is no more than reading and scaling them.

    Their number, depth and sign have been checked by then; tables are what may still be wrong.
    """
    return instance.code("PhotometricInterpretation") in _WITHOUT_TABLES and not any(
        keyword in instance for keyword in ("ModalityLUTSequence", "VOILUTSequence")
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
    new, old = (dcmread(io.BytesIO(file)) for file in (arrived.content, stored_content()))
    if frame_count(new) == frame_count(old) and all(
        one.inverted == other.inverted and np.array_equal(one.values, other.values)
        for one, other in zip(frames_of(new), frames_of(old), strict=True)
    ):
        return None
    return (
        "another image is stored under the same SOP Instance UID: which is right is not known"
    )
