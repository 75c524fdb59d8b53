"""Labels from FHIR R4: DiagnosticReport and Observation, by themselves or in a Bundle.

Coded conclusions and observations are taken, of the studies that they name by their DICOM UID.
Release 4 alone: another one is recognised by its elements and refused. Of names, narratives and
texts nothing is kept or said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from monitor.intake.pseudonyms import Naming, study_pseudonym
from monitor.labelling.coded import About, Coded, CodeReader
from monitor.labelling.fhir_elements import R4, R5_ONLY, unknown_elements
from monitor.labelling.fhir_resources import (
    DiagnosticReport,
    Element,
    ImagingStudy,
    Observation,
    Reference,
    Valued,
)
from monitor.labelling.json_texts import read_json
from monitor.labelling.mapping import FINDING, MappingInForce
from monitor.labelling.provenance import Provenance
from monitor.labelling.readers import reader_pseudonym
from monitor.labelling.statements import Reading
from registry.errors import LabelError

Resource = TypeVar("Resource", bound=Element)

#: A Bundle of some thousand reports.
LARGEST_DOCUMENT = 16 << 20
FINAL_REPORTS = ("final", "amended", "corrected", "appended")
FINAL_OBSERVATIONS = ("final", "amended", "corrected")
_DICOM_UID, _OID = "urn:dicom:uid", "urn:oid:"


@dataclass(frozen=True, slots=True)
class _Placed:
    """A resource, where it stands, and what is contained in it."""

    place: str
    content: Mapping[str, Any]
    contained: Mapping[str, _Placed]

    @property
    def kind(self) -> str:
        return str(self.content.get("resourceType", ""))


def read_fhir(
    content: bytes,
    *,
    file: str,
    site: str,
    key: Naming,
    mapping: MappingInForce,
    provenance: Provenance = Provenance.REPORT,
) -> Reading:
    """Read the labels of a FHIR document; identifiers and names become pseudonyms at once.

    Parameters
    ----------
    file : its name, for errors

    Raises
    ------
    LabelError
        If it is no JSON, no such resource of R4, is not final, is a device's, or says what the
        mapping does not name.
    """
    document = read_json(content, file=file)
    return _Document(document, file, site, key, mapping, provenance).read()


class _Document:
    def __init__(
        self,
        document: object,
        file: str,
        site: str,
        key: Naming,
        mapping: MappingInForce,
        provenance: Provenance,
    ) -> None:
        self._file, self._site, self._key = file, site, key
        self._provenance = provenance
        self._codes = CodeReader(mapping, file=file)
        #: by full URL and by TYPE/ID
        self._known: dict[str, _Placed] = {}
        self._resources = self._resources_of(document)

    def read(self) -> Reading:
        told: set[str] = set()
        for placed in self._resources:
            if placed.kind == "DiagnosticReport":
                told |= self._report(placed)
        for placed in self._resources:
            if placed.kind == "Observation" and placed.place not in told:
                self._observation(placed)
        return self._codes.reading()

    def _resources_of(self, document: object) -> list[_Placed]:
        kind = str(document.get("resourceType")) if isinstance(document, dict) else ""
        if not isinstance(document, dict) or kind not in R4 or kind == "ImagingStudy":
            raise LabelError(
                f"{self._file}: no FHIR DiagnosticReport, Observation or Bundle of these: labels "
                "are read from these resources alone",
                problem="other_resource",
            )
        if kind != "Bundle":
            return [self._placed(document, kind)]
        self._require_r4("Bundle", document, "Bundle")
        entries = document.get("entry", [])
        if not isinstance(entries, list):
            raise self._malformed("entry")
        found: list[_Placed] = []
        for number, entry in enumerate(entries):
            place = f"entry[{number}].resource"
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if resource is None:
                continue
            if not isinstance(resource, dict):
                raise self._malformed(place)
            placed = self._placed(resource, place)
            found.append(placed)
            full_url = entry.get("fullUrl")
            if isinstance(full_url, str):
                self._known[full_url] = placed
            if isinstance(resource.get("id"), str):
                self._known[f"{placed.kind}/{resource['id']}"] = placed
        return found

    def _placed(self, resource: Mapping[str, Any], place: str) -> _Placed:
        kind = str(resource.get("resourceType", ""))
        if kind in R4 and kind != "Bundle":
            self._require_r4(kind, resource, place)
        contained: dict[str, _Placed] = {}
        inner = resource.get("contained", [])
        for number, one in enumerate(inner if isinstance(inner, list) else []):
            if isinstance(one, dict) and isinstance(one.get("id"), str):
                at = f"{place}.contained[{number}]"
                if str(one.get("resourceType")) in R4.keys() - {"Bundle"}:
                    self._require_r4(str(one["resourceType"]), one, at)
                contained[f"#{one['id']}"] = _Placed(at, one, {})
        return _Placed(place, resource, contained)

    def _require_r4(self, kind: str, resource: Mapping[str, Any], place: str) -> None:
        unknown = unknown_elements(kind, frozenset(resource))
        newer = sorted(unknown & R5_ONLY[kind])
        if newer:
            raise LabelError(
                f"{self._file}: {place}.{newer[0]}: is an element of FHIR R5, not of R4: send "
                "release 4 (4.0.1)",
                problem="other_fhir_version",
                place=f"{place}.{newer[0]}",
            )
        if unknown:
            raise LabelError(
                f"{self._file}: {place}: has {len(unknown)} elements that a {kind} of FHIR R4 has "
                "not: send release 4 (4.0.1)",
                problem="other_fhir_version",
                place=place,
            )
        if resource.get("modifierExtension") or resource.get("implicitRules"):
            raise LabelError(
                f"{self._file}: {place}: has a modifier extension or implicit rules, which may turn "
                "what it says around, and are not known here: send it without",
                problem="malformed",
                place=place,
            )

    def _report(self, placed: _Placed) -> set[str]:
        """Read a report with its observations; return the places of these."""
        report = self._read(placed, DiagnosticReport)
        self._require_final(placed, report.status, FINAL_REPORTS)
        observations = [
            found
            for reference in report.result
            if (found := self._resolved(placed, reference)) is not None
            and found.kind == "Observation"
        ]
        read = [(one, self._read(one, Observation)) for one in observations]
        for one, observation in read:
            self._require_final(one, observation.status, FINAL_OBSERVATIONS)
        stated = [
            Coded(
                place=f"{placed.place}.conclusionCode[{number}]",
                concepts=(FINDING,),
                values=concept.codes(),
            )
            for number, concept in enumerate(report.conclusionCode)
        ]
        stated += [coded for one, observation in read for coded in _coded_of(one, observation)]
        signers = [*report.resultsInterpreter, *report.performer]
        signers += [who for _, observation in read for who in observation.performer]
        moments = [self._instant(placed, report.issued)]
        # An observation that was made available later was signed later, too.
        moments += [
            self._instant(one, observation.issued)
            for one, observation in read
            if observation.issued is not None
        ]
        known = [moment for moment in moments if moment is not None]
        studies = list(report.imagingStudy)
        if not studies:
            studies = [
                reference
                for _, observation in read
                for reference in (*observation.partOf, *observation.derivedFrom)
            ]
        self._take(
            placed,
            stated,
            studies=studies,
            signers=signers,
            signed_at=max(known) if moments[0] is not None else None,
            by_device=any(observation.device is not None for _, observation in read),
        )
        return {one.place for one in observations}

    def _observation(self, placed: _Placed) -> None:
        observation = self._read(placed, Observation)
        self._require_final(placed, observation.status, FINAL_OBSERVATIONS)
        self._take(
            placed,
            list(_coded_of(placed, observation)),
            studies=[*observation.partOf, *observation.derivedFrom],
            signers=observation.performer,
            signed_at=self._instant(placed, observation.issued),
            by_device=observation.device is not None,
        )

    def _take(
        self,
        placed: _Placed,
        stated: Sequence[Coded],
        *,
        studies: Sequence[Reference],
        signers: Sequence[Reference],
        signed_at: datetime | None,
        by_device: bool,
    ) -> None:
        mapped = self._codes.mapped(stated)
        if not mapped:
            return
        if by_device and not signers:
            raise LabelError(
                f"{self._file}: {placed.place}: a device made it, no person: a result of an AI is "
                "no label",
                problem="ai_report",
                place=placed.place,
            )
        about = About(
            studies=self._studies(placed, studies),
            provenance=self._provenance,
            reader=reader_pseudonym(_who(signers), key=self._key),
            signed_at=signed_at,
            assisted=by_device,
        )
        self._codes.add(mapped, about, place=placed.place)

    def _studies(self, placed: _Placed, references: Sequence[Reference]) -> tuple[str, ...]:
        """Return the pseudonyms of the studies that references name by their DICOM UID."""
        found: dict[str, None] = {}
        for reference in references:
            identifiers = [reference.identifier] if reference.identifier else []
            resolved = self._resolved(placed, reference)
            if resolved is not None and resolved.kind == "ImagingStudy":
                identifiers += self._read(resolved, ImagingStudy).identifier
            for identifier in identifiers:
                value = identifier.value or ""
                if identifier.system == _DICOM_UID and value:
                    uid = value.removeprefix(_OID)
                    found[study_pseudonym(uid, site=self._site, key=self._key)] = None
        if not found:
            raise LabelError(
                f"{self._file}: {placed.place}: names no study by its DICOM UID: write into its "
                f"imagingStudy (of an Observation: derivedFrom) an identifier with the system "
                f"{_DICOM_UID} and the value {_OID}…, or send the ImagingStudy with it",
                problem="unknown_scan",
                place=placed.place,
            )
        return tuple(found)

    def _resolved(self, placed: _Placed, reference: Reference) -> _Placed | None:
        wanted = reference.reference
        if wanted is None:
            return None
        return placed.contained.get(wanted) or self._known.get(wanted)

    def _instant(self, placed: _Placed, text: str | None) -> datetime | None:
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
            in_utc = None if moment.utcoffset() is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            in_utc = None
        if in_utc is None:
            raise self._malformed(f"{placed.place}.issued")
        return in_utc

    def _require_final(self, placed: _Placed, status: str, final: tuple[str, ...]) -> None:
        if status not in final:
            raise LabelError(
                f"{self._file}: {placed.place}.status: is none of {', '.join(final)}: import it "
                "when it is final; what was entered in error is corrected by a label that is "
                "signed later",
                problem="not_final",
                place=f"{placed.place}.status",
            )

    def _read(self, placed: _Placed, kind: type[Resource]) -> Resource:
        try:
            return kind.model_validate(placed.content)
        except ValidationError as refused:
            # The path is made of names that the model has, and of numbers.
            location = refused.errors(include_input=False, include_context=False)[0]["loc"]
            raise self._malformed(f"{placed.place}{_path(location)}") from None

    def _malformed(self, place: str) -> LabelError:
        return LabelError(
            f"{self._file}: {place}: is missing, or not what FHIR R4 has there", place=place
        )


def _coded_of(placed: _Placed, observation: Observation) -> Iterator[Coded]:
    """Yield what an observation and its components state; what has no value states nothing."""
    parts: list[tuple[str, Mapping[str, Any], Valued]] = [
        (placed.place, placed.content, observation)
    ]
    parts += [
        (f"{placed.place}.component[{number}]", content, component)
        for number, (content, component) in enumerate(
            zip(placed.content.get("component", []), observation.component, strict=True)
        )
    ]
    for place, content, part in parts:
        if any(name.startswith("value") for name in content):
            yield Coded(place=place, concepts=part.code.codes(), values=part.values())


def _who(references: Sequence[Reference]) -> str:
    """Return what the first reference tells a person by."""
    for one in references:
        identifier = one.identifier.value if one.identifier else None
        found = identifier or one.reference or one.display
        if found:
            return found
    return ""


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
