"""OpenLineage run events, for catalogues that draw lineage: https://openlineage.io/spec/2-0-2.

A retraining run is one run of theirs: what happens to it are its events. Every
other entry is a run that starts and completes at once, under the entry's kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy.orm import Session

from registry.canonical import canonical_bytes, to_json
from registry.ledger.exports.part import Part, entries_of
from registry.ledger.record import Entry

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
#: of the facet that carries the entry itself
FACET_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"
PRODUCER = "urn:driftward"
RETRAINING = "retraining"
#: What the end, or the start, of a retraining run is called there; the rest is OTHER.
_RUN_EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "run.training": "START",
        "run.promoted": "COMPLETE",
        "run.failed": "FAIL",
        "run.rejected": "ABORT",
        "run.superseded": "ABORT",
    }
)
#: Kinds whose subject is something that was made, or brought in.
_MAKES = frozenset({"version.registered", "dataset.frozen", "reference.accepted"})
#: Kinds whose subject is a version that was read.
_READS = frozenset({"champion.promoted", "champion.rolled_back"})
#: Facts that name a version or a data set from which something was made.
_INPUTS = ("base", "dataset", "candidate", "before")


def lines(session: Session, part: Part, *, at: datetime) -> Iterator[bytes]:  # noqa: ARG001
    """Yield the events of a part, one a line, without their ends."""
    for entry in entries_of(session, part):
        for event in events(entry, origin=part.origin):
            yield canonical_bytes(event)


def events(entry: Entry, *, origin: str) -> list[dict[str, Any]]:
    """Return the run events of an entry: one of a retraining run, otherwise two."""
    if entry.kind.startswith("run."):
        kind = _RUN_EVENTS.get(entry.kind, "OTHER")
        return [_event(entry, origin=origin, kind=kind, job=RETRAINING, run=entry.subject)]
    return [
        _event(entry, origin=origin, kind=kind, job=entry.kind, run=f"entry {entry.sequence}")
        for kind in ("START", "COMPLETE")
    ]


def _event(entry: Entry, *, origin: str, kind: str, job: str, run: str) -> dict[str, Any]:
    inputs = [entry.subject] if entry.kind in _READS else []
    # The state that a run had before is no data; a candidate's or champion's version is.
    for name in _INPUTS if not entry.kind.startswith("run.") else ("candidate",):
        value = entry.facts.get(name)
        if isinstance(value, str) and value:
            inputs.append(value)
    return {
        "eventType": kind,
        "eventTime": to_json(entry.recorded_at),
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
        "job": {"namespace": origin, "name": job},
        "run": {
            "runId": str(uuid5(NAMESPACE_URL, f"urn:{origin}/{run}")),
            "facets": {
                "driftward_ledger": {
                    "_producer": PRODUCER,
                    "_schemaURL": FACET_SCHEMA,
                    "sequence": entry.sequence,
                    "digest": entry.digest,
                    "kind": entry.kind,
                    "subject": entry.subject,
                    "actor": entry.actor,
                    "facts": entry.facts,
                }
            },
        },
        "inputs": [{"namespace": origin, "name": name} for name in inputs],
        "outputs": [{"namespace": origin, "name": entry.subject}]
        if entry.kind in _MAKES
        else [],
    }
