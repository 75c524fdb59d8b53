"""Keyed pseudonyms: the same patient is the same pseudonym, and only the key leads back.

HMAC-SHA256 (RFC 2104) over length-prefixed fields, so that no two different
lists of fields give the same message. Without the key a pseudonym tells
nothing, not even to someone who can list every possible patient identifier.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitor.intake.keys import SecretKey
from monitor.intake.reasons import Reason, unreadable

if TYPE_CHECKING:
    from monitor.intake.reading import Instance

_PATIENT_HEX = 32
_TOKEN_HEX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pseudonyms:
    """Who and what a scan is, for one site, without saying so."""

    patient: str  #: 32 hexadecimal digits
    study: str  #: UID under 2.25
    series: str  #: UID under 2.25
    instance: str  #: UID under 2.25; with the site, the identity of a scan


def pseudonyms_of(instance: Instance, *, site: str, key: SecretKey) -> Pseudonyms:
    """Return the pseudonyms of an instance.

    A patient is told apart by identifier and issuer within the site. An
    instance without a patient identifier (it may be empty, PS3.3 C.7.1.1)
    belongs to a patient of its own study: images of one study are of one
    patient, and nothing more is known.

    Raises
    ------
    UnreadableScanError
        If one of the three UIDs that every instance has is absent.
    """
    uids = {}
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        uids[keyword] = instance.text(keyword)
        if not uids[keyword]:
            raise unreadable(Reason.NO_IDENTITY, f"the instance has no {keyword}")
    patient = _canonical(instance.text("PatientID"))
    issuer = _canonical(instance.text("IssuerOfPatientID"))
    if patient:
        digest = _digest(key, "patient", site, issuer, patient)
    else:
        digest = _digest(key, "patient of study", site, uids["StudyInstanceUID"])
    return Pseudonyms(
        patient=digest.hex()[:_PATIENT_HEX],
        study=_surrogate(key, "study", site, uids["StudyInstanceUID"]),
        series=_surrogate(key, "series", site, uids["SeriesInstanceUID"]),
        instance=instance_pseudonym(uids["SOPInstanceUID"], site=site, key=key),
    )


def instance_pseudonym(uid: str, *, site: str, key: SecretKey) -> str:
    """Return the pseudonym of a SOP Instance UID: finds the scan that a label or a result is for."""
    return _surrogate(key, "instance", site, uid.strip("\0 "))


def token(key: SecretKey, kind: str, *fields: str) -> str:
    """Return a short stable stand-in for a text that must not be shown: `kind-1f0a92c4`."""
    return f"{kind}-{_digest(key, 'token', kind, *fields).hex()[:_TOKEN_HEX]}"


def _canonical(text: str) -> str:
    # One identifier may arrive composed on one road and decomposed on another.
    return unicodedata.normalize("NFC", text).strip()


def _surrogate(key: SecretKey, *fields: str) -> str:
    """Return a UID derived from a UUID (PS3.5 annex B.2), of RFC 9562's version 8."""
    digest = bytearray(_digest(key, *fields)[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"


def _digest(key: SecretKey, *fields: str) -> bytes:
    message = b"".join(
        len(encoded).to_bytes(8, "big") + encoded
        for encoded in (field.encode("utf-8", "surrogatepass") for field in fields)
    )
    return hmac.new(key.secret, message, hashlib.sha256).digest()
