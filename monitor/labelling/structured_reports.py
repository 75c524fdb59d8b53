"""Labels from DICOM structured reports: measurement reports by PS3.16 TID 1500.

A reader's coded findings and qualitative evaluations are taken, of the images that they name. What
a device observed is a result, no label. Of names, dates and texts nothing is kept or said.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zoneinfo
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from pydicom.errors import BytesLengthException, InvalidDicomError

from monitor.intake.documents import document_of, kind_of
from monitor.intake.limits import Limits
from monitor.intake.pseudonyms import Naming, instance_pseudonyms
from monitor.intake.reading import read_instance
from monitor.intake.reasons import Reason
from monitor.labelling.coded import About, Coded, CodeReader
from monitor.labelling.mapping import MappingInForce, code_of
from monitor.labelling.provenance import Provenance
from monitor.labelling.readers import reader_pseudonym
from monitor.labelling.statements import Reading
from registry.errors import LabelError, UnreadableScanError

if TYPE_CHECKING:
    from highdicom.sr import MeasurementReport
    from pydicom.dataset import Dataset

#: Real ones have some tens of kilobytes.
LARGEST_REPORT = 8 << 20
LIMITS = Limits(file_bytes=LARGEST_REPORT, inflated_bytes=LARGEST_REPORT)
MOST_REFERENCES = 20_000

_TEMPLATE = "1500"
# All structured reports begin so (PS3.4 annex B.5).
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_OBSERVER_TYPE, _DEVICE, _PERSON = "DCM|121005", "DCM|121007", "DCM|121006"
_PERSON_NAME = "DCM|121008"
#: Qualitative Evaluations of the whole report (TID 1500 row 12).
_EVALUATIONS = "UMLS|C0034375"
_DATE_TIME = re.compile(r"(?P<stamp>\d{14})(\.(?P<fraction>\d{1,6}))?(?P<offset>[+-]\d{4})?")
_OFFSET = re.compile(r"[+-]\d{4}")
#: Whatever a file that is not what it says makes the libraries raise.
_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
# pydicom and highdicom quote values in warnings, which are switched off for the whole process.
_READING = threading.Lock()


def read_report(
    content: bytes,
    *,
    file: str,
    site: str,
    key: Naming,
    mapping: MappingInForce,
    provenance: Provenance = Provenance.READER,
) -> Reading:
    """Read the labels of a report; identifiers and names become pseudonyms at once.

    Parameters
    ----------
    file : its name, for errors

    Raises
    ------
    LabelError
        If it is no report by TID 1500, is not final, is a device's, or says what the mapping does
        not name.
    """
    by_algorithm = _require_report(content, file)
    with _READING, _silently():
        try:
            report = _Report(content, file, site, key, mapping, provenance)
            return report.read(by_algorithm=by_algorithm)
        except _BROKEN:
            raise LabelError(
                f"{file}: no measurement report by TID 1500 as PS3.16 describes it: export it "
                "again, or write its labels into a CSV file",
                problem="malformed",
            ) from None


class _Report:
    def __init__(
        self,
        content: bytes,
        file: str,
        site: str,
        key: Naming,
        mapping: MappingInForce,
        provenance: Provenance,
    ) -> None:
        from pydicom import dcmread

        self._file, self._site, self._key, self._mapping = file, site, key, mapping
        self._provenance = provenance
        self._ds: Dataset = dcmread(io.BytesIO(content), force=True)

    def read(self, *, by_algorithm: bool) -> Reading:
        self._require_final()
        report = self._measurement_report()
        reader, signed_at = self._signature()
        assisted = by_algorithm or self._is_observed_by(_DEVICE)
        if assisted and not reader and not self._is_observed_by(_PERSON):
            raise LabelError(
                f"{self._file}: a device observed what it reports, no person: a result of an AI "
                "is no label",
                problem="ai_report",
            )
        codes = CodeReader(self._mapping, file=self._file)
        stated: dict[tuple[str, ...], list[Coded]] = defaultdict(list)
        for number, group in enumerate(_groups(report), start=1):
            instances = _referenced(group[0]) or self._evidence()
            stated[instances] += _coded_of(group, f"measurement group {number}")
        evaluations = _evaluations(report[0])
        if evaluations:
            stated[self._evidence()] += evaluations
        for instances, said in stated.items():
            coded = codes.mapped(said)
            if not coded:
                continue
            about = About(
                instances=instance_pseudonyms(instances, site=self._site, key=self._key),
                provenance=self._provenance,
                reader=reader,
                signed_at=signed_at,
                assisted=assisted,
            )
            codes.add(coded, about, place=coded[0].place)
        return codes.reading()

    def _require_final(self) -> None:
        flags = {
            "CompletionFlag": "PARTIAL",
            "PreliminaryFlag": "PRELIMINARY",
        }
        for keyword, unfit in flags.items():
            if str(self._ds.get(keyword, "")).strip().upper() == unfit:
                raise LabelError(
                    f"{self._file}: its {keyword} is {unfit}: import it when it is final",
                    problem="not_final",
                    place=keyword,
                )

    def _measurement_report(self) -> MeasurementReport:
        from highdicom.sr import (
            Comprehensive3DSR,
            ComprehensiveSR,
            EnhancedSR,
            MeasurementReport,
        )
        from pydicom.uid import (
            Comprehensive3DSRStorage,
            ComprehensiveSRStorage,
            EnhancedSRStorage,
        )

        classes: dict[str, Any] = {
            EnhancedSRStorage: EnhancedSR,
            ComprehensiveSRStorage: ComprehensiveSR,
            Comprehensive3DSRStorage: Comprehensive3DSR,
        }
        kind = classes.get(self._ds.get("SOPClassUID", ""))
        templates = self._ds.get("ContentTemplateSequence") or []
        stated = [str(one.get("TemplateIdentifier", "")) for one in templates]
        if kind is None or stated != [_TEMPLATE]:
            raise LabelError(
                f"{self._file}: a structured report by another template than TID {_TEMPLATE}, or "
                "of another class than Enhanced, Comprehensive or Comprehensive 3D SR: write its "
                "labels into a CSV file",
                problem="not_tid_1500",
            )
        content = kind.from_dataset(self._ds, copy=False).content
        if not isinstance(content, MeasurementReport):
            raise TypeError("not read as a measurement report")
        return content

    def _signature(self) -> tuple[str, datetime | None]:
        """Return who verified the report last, and when; unverified, who observed."""
        verified = str(self._ds.get("VerificationFlag", "")).strip().upper() == "VERIFIED"
        newest: datetime | None = None
        signer = ""
        for item in (self._ds.get("VerifyingObserverSequence") or []) if verified else []:
            moment = self._moment(str(item.get("VerificationDateTime", "")))
            if not signer or (moment is not None and (newest is None or moment > newest)):
                signer, newest = str(item.get("VerifyingObserverName", "")), moment
        name = signer or next(
            (
                str(item.get("PersonName", ""))
                for item in _items(self._ds)
                if _name_of(item) == _PERSON_NAME
            ),
            "",
        )
        return reader_pseudonym(name, key=self._key), newest

    def _moment(self, stated: str) -> datetime | None:
        """Return a date and time (PS3.5 section 6.2, VR DT), or None where its zone is unknown."""
        found = _DATE_TIME.fullmatch(stated.strip("\0 "))
        if found is None:
            return None
        moment = datetime.strptime(found["stamp"], "%Y%m%d%H%M%S").replace(  # noqa: DTZ007
            microsecond=int((found["fraction"] or "0").ljust(6, "0"))
        )
        of_report = str(self._ds.get("TimezoneOffsetFromUTC", "")).strip("\0 ")
        offset = found["offset"] or (of_report if _OFFSET.fullmatch(of_report) else None)
        if offset is not None:
            minutes = int(offset[1:3]) * 60 + int(offset[3:5])
            zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
            return moment.replace(tzinfo=zone).astimezone(UTC)
        named = self._mapping.specification.time_zone
        if named is None:
            return None
        # An hour that comes twice is taken to be the later one: it is the more influenced.
        return moment.replace(tzinfo=zoneinfo.ZoneInfo(named), fold=1).astimezone(UTC)

    def _is_observed_by(self, kind: str) -> bool:
        return any(
            _name_of(item) == _OBSERVER_TYPE and _value_of(item) == kind
            for item in _items(self._ds)
        )

    def _evidence(self) -> tuple[str, ...]:
        """Return the instances that the report as a whole refers to."""
        found: dict[str, None] = {}
        for study in self._ds.get("CurrentRequestedProcedureEvidenceSequence") or []:
            for series in study.ReferencedSeriesSequence:
                for instance in series.ReferencedSOPSequence:
                    found[str(instance.ReferencedSOPInstanceUID)] = None
                    if len(found) > MOST_REFERENCES:
                        raise LabelError(
                            f"{self._file}: it refers to more than {MOST_REFERENCES} instances",
                            problem="too_large",
                        )
        return tuple(found)


def _require_report(content: bytes, file: str) -> bool:
    """Refuse what is no structured report, before any library reads it whole.

    Returns whether it names an algorithm that took part in it.
    """
    try:
        instance = read_instance(content, LIMITS)
        document = document_of(content, instance, LIMITS)
        reason, detail = kind_of(document)
    except UnreadableScanError as error:
        raise LabelError(f"{file}: {error.detail}", problem="unreadable") from None
    if not document.text("SOPClassUID").startswith(_REPORTS):
        kind = "it is no report" if reason is Reason.NOT_AN_IMAGE else detail
        raise LabelError(
            f"{file}: no structured report by TID {_TEMPLATE}: {kind}; labels come in such "
            "reports, in FHIR R4 JSON or in CSV",
            problem="not_tid_1500",
        )
    if instance.transfer_syntax not in {_IMPLICIT, _EXPLICIT, ""}:
        raise LabelError(
            f"{file}: a report is read in little endian and uncompressed: export it so",
            problem="unreadable",
        )
    return reason is Reason.AI_RESULT


def _groups(report: MeasurementReport) -> list[Any]:
    """Return measurement groups of images, of planar and of volumetric regions."""
    return [
        *report.get_image_measurement_groups(),
        *report.get_planar_roi_measurement_groups(),
        *report.get_volumetric_roi_measurement_groups(),
    ]


def _coded_of(group: Any, place: str) -> list[Coded]:
    """Return the finding and the qualitative evaluations of a measurement group."""
    from pydicom.sr.codedict import codes

    stated = [
        (evaluation.name, evaluation.value)
        for evaluation in group.get_qualitative_evaluations()
    ]
    if group.finding_type is not None:
        stated.append((codes.DCM.Finding, group.finding_type))
    return [
        Coded(
            place=place,
            concepts=(code_of(name.scheme_designator, name.value),),
            values=(code_of(value.scheme_designator, value.value),),
        )
        for name, value in stated
    ]


def _evaluations(root: Dataset) -> list[Coded]:
    """Return the qualitative evaluations of the report as a whole."""
    found: list[Coded] = []
    for container in root.get("ContentSequence") or []:
        if _name_of(container) != _EVALUATIONS:
            continue
        for item in container.get("ContentSequence") or []:
            name, value = _name_of(item), _value_of(item)
            if name is not None and value is not None:
                found.append(
                    Coded(
                        place="the qualitative evaluations", concepts=(name,), values=(value,)
                    )
                )
    return found


def _referenced(group: Dataset) -> tuple[str, ...]:
    """Return the instances that a measurement group names."""
    found: dict[str, None] = {}
    for item in _items(group):
        if str(item.get("ValueType", "")) == "IMAGE":
            for reference in item.get("ReferencedSOPSequence") or []:
                found[str(reference.ReferencedSOPInstanceUID)] = None
    return tuple(found)


def _items(node: Dataset) -> Iterator[Dataset]:
    """Yield all content items below a node, in their order."""
    waiting = list(reversed(node.get("ContentSequence") or []))
    while waiting:
        item = waiting.pop()
        yield item
        waiting += reversed(item.get("ContentSequence") or [])


def _name_of(item: Dataset) -> str | None:
    return _coded(item.get("ConceptNameCodeSequence"))


def _value_of(item: Dataset) -> str | None:
    return _coded(item.get("ConceptCodeSequence"))


def _coded(sequence: Any) -> str | None:
    if not sequence:
        return None
    code = sequence[0]
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue")
    return code_of(str(code.get("CodingSchemeDesignator", "")), str(value or ""))


@contextmanager
def _silently() -> Iterator[None]:
    """Let no library say what it thinks of a report's values."""
    from pydicom.config import disable_value_validation

    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield
