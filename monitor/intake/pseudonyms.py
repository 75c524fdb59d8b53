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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from monitor.intake.keys import SecretKey
from monitor.intake.reasons import Reason, unreadable

if TYPE_CHECKING:
    from monitor.intake.reading import Instance

_PATIENT_HEX = 32
_TOKEN_HEX = 8
#: Ten years: the weeks by which a patient's days are moved at most.
_MOST_WEEKS = 520
#: Identities that are looked up in one query.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Pseudonyms:
    """Who and what a scan is, for one site, without saying so."""

    patient: str  #: 32 hexadecimal digits
    study: str  #: UID under 2.25
    series: str  #: UID under 2.25
    instance: str  #: UID under 2.25; with the site, the identity of a scan


#: What something is told apart by: its kind, its site, and what it came with. May identify.
Fields: TypeAlias = tuple[str, ...]


class Surrogates(Protocol):
    """Gives whatever was met before the surrogate that it has, and the rest new ones."""

    @property
    def revision(self) -> int:
        """Of the keys that it knows; a scan is stored under the newest one alone."""

    def of(self, identities: Sequence[Fields]) -> list[str]:
        """Return a surrogate for each."""


#: A key whose surrogates are derived, or what remembers those that older keys gave.
Naming: TypeAlias = "SecretKey | Surrogates"


def surrogates(naming: Naming, identities: Sequence[Fields]) -> list[str]:
    """Return a surrogate for each of these."""
    if isinstance(naming, SecretKey):
        return [derived(naming, fields) for fields in identities]
    return naming.of(identities)


def revision_of(naming: Naming) -> int:
    """Return the revision of the keys that surrogates are given under."""
    return 0 if isinstance(naming, SecretKey) else naming.revision


def derived(key: SecretKey, fields: Fields) -> str:
    """Return the surrogate that a key gives to what it meets first."""
    digest = _digest(key, *fields)
    match fields[0]:
        case "patient" | "patient of study":
            return digest.hex()[:_PATIENT_HEX]
        case "token":
            return f"{fields[1]}-{digest.hex()[:_TOKEN_HEX]}"
        case "shift":
            # The bias towards some weeks is one part in 2**119.
            return str(7 * (1 + int.from_bytes(digest[:16]) % _MOST_WEEKS))
        case _:
            return uid_of(digest)


def look_up_digest(key: SecretKey, fields: Fields) -> str:
    """Return what a look-up is found by under a key: nothing that ever was a surrogate."""
    return _digest(key, "look-up", *fields).hex()


def pseudonyms_of(instance: Instance, *, site: str, key: Naming) -> Pseudonyms:
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
    identities: list[Fields] = [
        patient_fields(instance, site),
        ("study", site, uids["StudyInstanceUID"]),
        ("series", site, uids["SeriesInstanceUID"]),
        _instance_fields(uids["SOPInstanceUID"], site),
    ]
    found = surrogates(key, identities)
    return Pseudonyms(patient=found[0], study=found[1], series=found[2], instance=found[3])


def patient_fields(instance: Instance, site: str) -> Fields:
    """Return what the patient of an instance is told apart by."""
    patient = _canonical(instance.text("PatientID"))
    if not patient:
        return ("patient of study", site, instance.text("StudyInstanceUID"))
    return ("patient", site, _canonical(instance.text("IssuerOfPatientID")), patient)


def shift_days(patient: Fields, *, key: Naming) -> int:
    """Return by how many days a patient's dates are moved back: whole weeks, ten years at most."""
    return int(surrogates(key, [patient, ("shift", *patient)])[1])


def instance_pseudonym(uid: str, *, site: str, key: Naming) -> str:
    """Return the pseudonym of a SOP Instance UID: finds the scan that a label or a result is for."""
    return surrogates(key, [_instance_fields(uid.strip("\0 "), site)])[0]


def instance_pseudonyms(uids: Sequence[str], *, site: str, key: Naming) -> tuple[str, ...]:
    """Return the pseudonyms of SOP Instance UIDs, in their order."""
    found: list[str] = []
    for start in range(0, len(uids), _AT_ONCE):
        part = [_instance_fields(uid, site) for uid in uids[start : start + _AT_ONCE]]
        found += surrogates(key, part)
    return tuple(found)


def study_pseudonym(uid: str, *, site: str, key: Naming) -> str:
    """Return the pseudonym of a Study Instance UID: finds the scans that a report is about."""
    return surrogates(key, [("study", site, uid.strip("\0 "))])[0]


def group_pseudonyms(study: str, series: str, *, site: str, key: Naming) -> tuple[str, str]:
    """Return the pseudonyms of the UIDs of a study and of a series of it, as instances get them."""
    found = surrogates(key, [("study", site, study), ("series", site, series)])
    return found[0], found[1]


def patient_pseudonym(patient: str, *, site: str, key: Naming, issuer: str = "") -> str:
    """Return the pseudonym of a Patient ID, as an instance with it gets."""
    return surrogates(key, [("patient", site, _canonical(issuer), _canonical(patient))])[0]


def token(key: Naming, kind: str, *fields: str) -> str:
    """Return a short stable stand-in for a text that must not be shown: `kind-1f0a92c4`."""
    return surrogates(key, [("token", kind, *fields)])[0]


def _instance_fields(uid: str, site: str) -> Fields:
    return ("instance", site, uid)


def _canonical(text: str) -> str:
    # One identifier may arrive composed on one road and decomposed on another.
    return unicodedata.normalize("NFC", text).strip()


def uid_of(digest: bytes) -> str:
    """Return a UID derived from a UUID (PS3.5 annex B.2), of RFC 9562's version 8."""
    number = bytearray(digest[:16])
    number[6] = number[6] & 0x0F | 0x80
    number[8] = number[8] & 0x3F | 0x80
    return f"2.25.{uuid.UUID(bytes=bytes(number)).int}"


def _digest(key: SecretKey, *fields: str) -> bytes:
    message = b"".join(
        len(encoded).to_bytes(8, "big") + encoded
        for encoded in (field.encode("utf-8", "surrogatepass") for field in fields)
    )
    return hmac.new(key.secret, message, hashlib.sha256).digest()
