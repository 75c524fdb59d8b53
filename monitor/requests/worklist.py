"""The scans of a request as a worklist: for people who read, and for systems that hand out work.

It says nothing of parts, strata, chances or results, and its order is random: a reader must not
know whether a scan judges, nor what a model said of it. With the private key of re-identification
it names the originals, so that a filled-in list is a table of labels (`docs/labels.md`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from monitor.assembling.tables import ScanMemberRow
from monitor.labelling.tabular import COLUMNS
from monitor.requests.resolving import progress_of
from monitor.requests.tables import LabelRequestRow
from monitor.tables import ScanRow

#: Columns before those of a table of labels, which whoever reads fills in.
HEADER = ("place", "scan", "site", "patient", "study", "series", *COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One scan that is to be read."""

    place: int
    scan: int
    site: str
    #: surrogates, or originals where they were opened
    patient: str
    study: str
    series: str
    instance: str
    task: str
    #: of an original patient identifier; empty of a surrogate
    issuer: str = ""


def worklist(
    session: Session,
    row: LabelRequestRow,
    *,
    everything: bool = False,
) -> list[Entry]:
    """Return what is still to be read, under surrogates, in a random order that stays.

    Parameters
    ----------
    everything : also what is read already, or cannot be
    """
    progress = progress_of(session, row)
    items = sorted(progress.items, key=lambda item: item.scan.id)
    order = np.random.default_rng([row.seed, 2]).permutation(len(items))
    # The patients' scans stay together: whoever reads one opens the others, too.
    first: dict[str, int] = {}
    for position, item in zip(order, items, strict=True):
        first[item.scan.person] = min(first.get(item.scan.person, len(items)), int(position))
    chosen = [item.scan for item in items if everything or item.became.waits]
    chosen.sort(key=lambda scan: (first[scan.person], scan.id))
    return [
        Entry(
            place=place,
            scan=scan.id,
            site=scan.site,
            patient=scan.patient,
            study=scan.study,
            series=scan.series,
            instance=scan.instance,
            task=row.task,
        )
        for place, scan in enumerate(chosen, start=1)
    ]


def instances_of(session: Session, scans: Sequence[int]) -> dict[int, int]:
    """Return an instance that stands for each scan: itself, or the first of its members."""
    found: dict[int, int] = {}
    for scan in scans:
        row = session.get_one(ScanRow, scan)
        member = (
            None
            if row.unit == "instance"
            else session.scalars(
                select(ScanMemberRow.member)
                .where(ScanMemberRow.scan == scan)
                .order_by(ScanMemberRow.position)
                .limit(1)
            ).first()
        )
        found[scan] = scan if member is None else member
    return found


def named(entries: Sequence[Entry], originals: Mapping[int, Mapping[str, str]]) -> list[Entry]:
    """Return a worklist with originals in place of surrogates.

    Parameters
    ----------
    originals : scan -> original by DICOM keyword
    """
    return [
        Entry(
            place=one.place,
            scan=one.scan,
            site=one.site,
            patient=originals[one.scan]["PatientID"],
            issuer=originals[one.scan]["IssuerOfPatientID"],
            study=originals[one.scan]["StudyInstanceUID"],
            series=originals[one.scan]["SeriesInstanceUID"],
            instance=originals[one.scan]["SOPInstanceUID"],
            task=one.task,
        )
        for one in entries
    ]


def as_csv(entries: Sequence[Entry]) -> str:
    """Return a worklist as a table whose columns of labels are still empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for one in entries:
        known = (one.place, one.scan, one.site, one.patient, one.study, one.series)
        writer.writerow([*known, one.instance, one.task, "", "", "", ""])
    return text.getvalue()


def as_fhir(row: LabelRequestRow, entries: Sequence[Entry]) -> str:
    """Return a worklist as a FHIR R4 Bundle of one ServiceRequest a study.

    The study stands in `supportingInfo` as an ImagingStudy by its UID (identifier system
    `urn:dicom:uid`); the priority is routine, since what is read first must not hang on a model.
    """
    by_study: dict[str, list[Entry]] = {}
    for one in entries:
        by_study.setdefault(one.study, []).append(one)
    resources = [
        {
            "resource": {
                "resourceType": "ServiceRequest",
                "identifier": [
                    {
                        "system": "urn:driftward:label-request",
                        "value": f"{row.id}/{own[0].scan}",
                    }
                ],
                "status": "active",
                "intent": "order",
                "priority": "routine",
                "code": {"text": f"Independent reading: {row.task}"},
                "subject": {
                    "identifier": {
                        "value": own[0].patient,
                        **({"assigner": {"display": own[0].issuer}} if own[0].issuer else {}),
                    }
                },
                "authoredOn": row.made_at.isoformat(),
                "supportingInfo": [
                    {
                        "type": "ImagingStudy",
                        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study}"},
                    }
                ],
                "note": [{"text": f"Instance {one.instance}"} for one in own],
            }
        }
        for study, own in by_study.items()
    ]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": resources}
    return json.dumps(bundle, indent=2, ensure_ascii=False) + "\n"
