"""The elements of FHIR R4 resources that reports are made of, and what R5 added to them.

HL7 FHIR R4 (4.0.1), the pages of each resource. Whoever reads strictly sees a report of another
release by the elements that it has; no resource says its release itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_RESOURCE = frozenset(("resourceType", "id", "meta", "implicitRules", "language"))
_DOMAIN = _RESOURCE | {"text", "contained", "extension", "modifierExtension"}

#: Resource -> its elements in R4.
R4: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "Bundle": _RESOURCE
        | {"identifier", "type", "timestamp", "total", "link", "entry", "signature"},
        "DiagnosticReport": _DOMAIN
        | {
            *("identifier", "basedOn", "status", "category", "code", "subject", "encounter"),
            *("effectiveDateTime", "effectivePeriod", "issued", "performer"),
            *("resultsInterpreter", "specimen", "result", "imagingStudy", "media"),
            *("conclusion", "conclusionCode", "presentedForm"),
        },
        "Observation": _DOMAIN
        | {
            *("identifier", "basedOn", "partOf", "status", "category", "code", "subject"),
            *("focus", "encounter", "effectiveDateTime", "effectivePeriod"),
            *("effectiveTiming", "effectiveInstant", "issued", "performer"),
            *("valueQuantity", "valueCodeableConcept", "valueString", "valueBoolean"),
            *("valueInteger", "valueRange", "valueRatio", "valueSampledData", "valueTime"),
            *("valueDateTime", "valuePeriod", "dataAbsentReason", "interpretation", "note"),
            *("bodySite", "method", "specimen", "device", "referenceRange", "hasMember"),
            *("derivedFrom", "component"),
        },
        "ImagingStudy": _DOMAIN
        | {
            *("identifier", "status", "modality", "subject", "encounter", "started", "basedOn"),
            *("referrer", "interpreter", "endpoint", "numberOfSeries", "numberOfInstances"),
            *("procedureReference", "procedureCode", "location", "reasonCode"),
            *("reasonReference", "note", "description", "series"),
        },
    }
)
#: Elements that R5 (5.0.0) has and R4 has not.
R5_ONLY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "Bundle": frozenset(("issues",)),
        "DiagnosticReport": frozenset(("study", "note", "supportingInfo", "composition")),
        "Observation": frozenset(
            (
                *("instantiatesCanonical", "instantiatesReference", "triggeredBy"),
                *("valueAttachment", "valueReference", "bodyStructure"),
            )
        ),
        "ImagingStudy": frozenset(("partOf", "procedure", "reason")),
    }
)


def unknown_elements(kind: str, elements: frozenset[str]) -> frozenset[str]:
    """Return the elements that R4 does not know; `_name` carries extensions of `name`."""
    return frozenset(
        name for name in elements if name.removeprefix("_") not in R4[kind] or name == "_"
    )
