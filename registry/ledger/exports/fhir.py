"""FHIR R4 AuditEvents, one a line (NDJSON), by the patterns of IHE BALP 1.1.

An entry that records a change becomes a Create, Update or Delete; one that
records a refusal or a failure an AuditEvent with that outcome, for which BALP
has no pattern. Addresses of those who acted are not in the ledger: where BALP
asks for the network, the installation itself is named. No patient is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import Session

from registry.canonical import canonical_bytes, to_json
from registry.ledger.exports.part import Part, entries_of
from registry.ledger.record import Entry

PROFILES = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
#: What acts by itself, and is no person.
_ITSELF = "driftward"
#: verb of a kind -> interaction, action and profile; every other verb is an update
_CREATE, _UPDATE = ("create", "C", "Create"), ("update", "U", "Update")
# Nothing that a ledger speaks of is deleted over REST, so BALP's Delete is not claimed.
_DELETE = ("delete", "D", None)
_INTERACTIONS: Mapping[str, tuple[str, str, str | None]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("accepted", "assembled", "attached", "began", "bound", "checkpoint_made"),
                *("evaluated", "frozen", "initialised", "made", "measured", "planned"),
                *("read", "received", "registered", "signed", "stated"),
            ),
            _CREATE,
        ),
        **dict.fromkeys(("dropped", "purged", "removed"), _DELETE),
    }
)
#: verbs of what was not done -> outcome
_FAILURES: Mapping[str, str] = MappingProxyType(
    {"refused": "4", "rejected": "4", "failed": "8"}
)
_OUTCOMES: Mapping[str, str] = MappingProxyType(
    {"0": "Success", "4": "Minor failure", "8": "Serious failure"}
)


def lines(session: Session, part: Part, *, at: datetime) -> Iterator[bytes]:  # noqa: ARG001
    """Yield the AuditEvents of a part, one a line, without their ends."""
    for entry in entries_of(session, part):
        yield canonical_bytes(audit_event(entry, origin=part.origin))


def audit_event(entry: Entry, *, origin: str) -> dict[str, Any]:
    """Return an entry as an AuditEvent."""
    system = f"urn:{origin.replace('/', ':')}"
    verb = entry.kind.rpartition(".")[2]
    interaction, action, profile = _INTERACTIONS.get(verb, _UPDATE)
    outcome = _FAILURES.get(verb, "0")
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": f"entry-{entry.sequence}",
        "type": _coding(f"{_TERMINOLOGY}audit-event-type", "rest", "Restful Operation"),
        "subtype": [
            _coding("http://hl7.org/fhir/restful-interaction", interaction, interaction),
            _coding(f"{system}:kind", entry.kind, entry.kind),
        ],
        "action": action,
        "recorded": to_json(entry.recorded_at),
        "outcome": outcome,
        "agent": _agents(entry, system),
        "source": {
            "observer": {"identifier": {"system": "urn:ietf:rfc:3986", "value": system}},
            "type": [_coding(f"{_TERMINOLOGY}security-source-type", "4", "Application Server")],
        },
        "entity": [
            {
                "what": {"identifier": {"system": f"{system}:subject", "value": entry.subject}},
                "type": _coding(f"{_TERMINOLOGY}audit-entity-type", "2", "System Object"),
                "role": _coding(f"{_TERMINOLOGY}object-role", "4", "Domain Resource"),
                "detail": [
                    {"type": "sequence", "valueString": str(entry.sequence)},
                    {"type": "digest", "valueString": entry.digest},
                    {"type": "facts", "valueString": canonical_bytes(entry.facts).decode()},
                ],
            }
        ],
    }
    if outcome != "0":
        event["outcomeDesc"] = _OUTCOMES[outcome]
    elif profile is not None:
        event["meta"] = {"profile": [PROFILES + profile]}
    return event


def _agents(entry: Entry, system: str) -> list[dict[str, Any]]:
    itself = {
        "who": {"identifier": {"system": "urn:ietf:rfc:3986", "value": system}},
        "requestor": False,
        "network": {"address": system, "type": "5"},
    }
    agents = [
        {**itself, "type": {"coding": [_coding(_DICOM, "110153", "Source Role ID")]}},
        {**itself, "type": {"coding": [_coding(_DICOM, "110152", "Destination Role ID")]}},
    ]
    if entry.actor != _ITSELF:
        participation = _coding(
            f"{_TERMINOLOGY}v3-ParticipationType", "AUT", "author (originator)"
        )
        agents.append(
            {
                "type": {"coding": [participation]},
                "who": {"identifier": {"system": f"{system}:user", "value": entry.actor}},
                "name": entry.actor,
                "requestor": True,
            }
        )
    return agents


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}
