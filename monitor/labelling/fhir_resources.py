"""What is read of FHIR R4 resources: these elements, and no others."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, StrictBool, StrictStr

from monitor.labelling.mapping import code_of


class Element(BaseModel):
    # All elements are known by then: what is not read is left where it is.
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class Identifier(Element):
    system: StrictStr | None = None
    value: StrictStr | None = None


class Reference(Element):
    reference: StrictStr | None = None
    identifier: Identifier | None = None
    display: StrictStr | None = None


class Coding(Element):
    system: StrictStr | None = None
    code: StrictStr | None = None


class CodeableConcept(Element):
    coding: list[Coding] = []

    def codes(self) -> tuple[str, ...]:
        """Return its codes as a mapping writes them."""
        return tuple(
            code_of(one.system, one.code) for one in self.coding if one.system and one.code
        )


class Valued(Element):
    """A concept with a value: an observation, or a component of one."""

    code: CodeableConcept
    valueCodeableConcept: CodeableConcept | None = None  # noqa: N815 - as FHIR writes it
    valueBoolean: StrictBool | None = None  # noqa: N815

    def values(self) -> tuple[str, ...]:
        """Return its coded value, or its boolean."""
        if self.valueBoolean is not None:
            return (str(self.valueBoolean).lower(),)
        return () if self.valueCodeableConcept is None else self.valueCodeableConcept.codes()


class Observation(Valued):
    status: StrictStr
    issued: StrictStr | None = None
    performer: list[Reference] = []
    device: Reference | None = None
    partOf: list[Reference] = []  # noqa: N815
    derivedFrom: list[Reference] = []  # noqa: N815
    component: list[Valued] = []


class DiagnosticReport(Element):
    status: StrictStr
    issued: StrictStr | None = None
    performer: list[Reference] = []
    resultsInterpreter: list[Reference] = []  # noqa: N815
    result: list[Reference] = []
    imagingStudy: list[Reference] = []  # noqa: N815
    conclusionCode: list[CodeableConcept] = []  # noqa: N815


class ImagingStudy(Element):
    identifier: list[Identifier] = []
