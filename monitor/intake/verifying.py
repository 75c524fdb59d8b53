"""Whether a stored scan holds anything that it must not, seen by a reader that did not write it."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from sqlalchemy import select

from monitor.intake.allowed import (
    ALLOWED,
    ALLOWED_IN_META,
    ALLOWED_IN_TABLES,
    Rule,
    keeps_date,
)
from monitor.intake.study_time import StudyTime
from monitor.intake.vault import Vault
from monitor.scans import Tell
from monitor.tables import ScanRow
from registry.database import Database
from registry.errors import IntegrityError, NotFoundError

_TABLES = frozenset(("ModalityLUTSequence", "VOILUTSequence"))
_UNDEFINED = 0xFFFF_FFFF
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"
_BYTES = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN"))
#: Files between two words of progress.
_AT_A_TIME = 200


class Finding(StrEnum):
    """What is wrong with an element."""

    NOT_ALLOWED = "not on the list"
    PRIVATE = "private"
    VALUE = "a value that is not allowed"
    PREAMBLE = "a preamble that is not zero"
    DATE = "a date that today's DRIFTWARD_STUDY_TIME would not keep"
    TRAILING = "bytes after the last element"
    UNREADABLE = "no DICOM file"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that must not be there; never its value."""

    element: str  #: keyword or tag; "" where the file as a whole is meant
    finding: Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFiles:
    """What was found in stored scans."""

    checked: int
    #: scans whose file is gone by retention
    gone: int
    #: scans whose file is not what was stored
    damaged: tuple[int, ...]
    #: fault -> how many files have it
    faults: Mapping[Fault, int]
    #: scans with a fault, at most the first hundred
    faulty: tuple[int, ...]

    @property
    def clean(self) -> bool:
        return not self.faults and not self.damaged


def faults_of(content: bytes, *, study_time: StudyTime = StudyTime.REMOVED) -> list[Fault]:
    """Return whatever a stored file must not hold.

    Parameters
    ----------
    study_time : how much of a study's day may be kept, whenever the file was stored
    """
    if content[:128] != bytes(128):
        return [Fault("", Finding.PREAMBLE)]
    try:
        ds = dcmread(io.BytesIO(content))
        trailing = _goes_on(content, ds)
        found = [
            *_faults(ds.file_meta, ALLOWED_IN_META),
            *_faults(ds, ALLOWED),
            *_date_faults(ds, study_time),
        ]
    except Exception:  # noqa: BLE001 - whatever the reader makes of it, it is no file of ours
        return [Fault("", Finding.UNREADABLE)]
    if trailing:
        found.append(Fault("", Finding.TRAILING))
    return found


def verify_files(
    database: Database,
    vault: Vault,
    *,
    sample: int | None = None,
    tell: Tell | None = None,
    study_time: StudyTime = StudyTime.REMOVED,
) -> VerifiedFiles:
    """Look at stored scans, all of them or a random sample.

    Parameters
    ----------
    sample : at most so many
    study_time : how much of a study's day may be kept
    """
    with database.reading() as session:
        # Of a series or a study the vault has a list of its instances, and no file of its own.
        rows = session.execute(
            select(ScanRow.id, ScanRow.vault_digest).where(ScanRow.unit == "instance")
        )
        scans = [(int(scan), str(digest)) for scan, digest in rows]
    if sample is not None and sample < len(scans):
        scans = sorted(random.SystemRandom().sample(scans, sample))
    faults: Counter[Fault] = Counter()
    damaged: list[int] = []
    faulty: list[int] = []
    gone = 0
    for done, (scan, digest) in enumerate(scans, 1):
        try:
            found = set(faults_of(vault.get(digest), study_time=study_time))
        except NotFoundError:
            gone += 1
        except IntegrityError:
            damaged.append(scan)
        else:
            faults.update(found)
            if found:
                faulty.append(scan)
        if tell is not None and (done % _AT_A_TIME == 0 or done == len(scans)):
            tell(done, len(scans))
    return VerifiedFiles(
        checked=len(scans) - gone - len(damaged),
        gone=gone,
        damaged=tuple(damaged),
        faults=dict(faults),
        faulty=tuple(faulty[:100]),
    )


def _faults(ds: Dataset, rules: Mapping[str, Rule]) -> Iterator[Fault]:
    for element in ds:
        keyword = keyword_for_tag(element.tag)
        name = keyword or str(element.tag)
        if element.tag.is_private:
            yield Fault(name, Finding.PRIVATE)
        elif keyword not in rules:
            yield Fault(name, Finding.NOT_ALLOWED)
        elif element.VR == "SQ":
            if keyword not in _TABLES or len(element.value) != 1:
                yield Fault(name, Finding.VALUE)
            for item in element.value:
                yield from _faults(item, ALLOWED_IN_TABLES)
        elif not rules[keyword].check(_texts(element)):
            yield Fault(name, Finding.VALUE)


def _date_faults(ds: Dataset, study_time: StudyTime) -> Iterator[Fault]:
    day = str(ds.get("StudyDate") or "")
    if bool(day) != (ds.get("LongitudinalTemporalInformationModified") == "MODIFIED"):
        yield Fault("StudyDate", Finding.VALUE)
    elif day and not keeps_date(day, under=study_time):
        yield Fault("StudyDate", Finding.DATE)


def _texts(element: DataElement) -> Sequence[str]:
    """Return the values as they stand in the file, bytes as one empty text."""
    if element.VR in _BYTES:
        return [""]
    value = element.value
    if value is None or value == "":
        return [""]
    values = value if element.VM > 1 else [value]
    return [getattr(one, "original_string", None) or str(one) for one in values]


def _goes_on(content: bytes, ds: Dataset) -> bool:
    """Say whether bytes follow the pixels, which come last; before any element is converted."""
    pixels = ds.get_item("PixelData")
    if not isinstance(pixels, RawDataElement):
        return False
    if pixels.length == _UNDEFINED:
        return not content.endswith(_SEQUENCE_END)
    return bool(pixels.value_tell + pixels.length != len(content))
