"""Labels from a table: a CSV file, or rows that another program sends."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from monitor.intake.pseudonyms import Naming, instance_pseudonyms
from monitor.labelling.provenance import Provenance
from monitor.labelling.readers import reader_code
from monitor.labelling.statements import Statement
from monitor.labelling.values import ValuesOf
from registry.errors import LabelError

COLUMNS = ("instance", "task", "value", "provenance", "reader", "signed_at")
#: As a bundle names its tasks.
_TASK = re.compile(r"[a-z][a-z0-9_]{0,47}")


def read_csv(
    content: bytes, *, file: str, site: str, key: Naming, values_of: ValuesOf
) -> list[Statement]:
    """Read the labels of a CSV file; its SOP Instance UIDs become pseudonyms at once.

    Parameters
    ----------
    file : its name, for errors

    Raises
    ------
    LabelError
        Naming the file, the line and the column. Nothing is taken from a file
        with an error in it.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise LabelError(
            f"{file} is not UTF-8 text: save it as UTF-8", problem="unreadable"
        ) from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise LabelError(f"{file} lacks the column {', '.join(missing)}", place="line 1")
        names = list(reader.fieldnames or ())
        twice = [name for name in COLUMNS if names.count(name) > 1]
        if twice:
            raise LabelError(
                f"{file} has the column {', '.join(twice)} more than once: leave one of each",
                place="line 1",
            )
        rows = list(_lines(reader, file))
    except csv.Error:
        raise LabelError(
            f"{file}:{reader.line_num}: no CSV: a field is too long, or a quotation mark is not "
            "closed",
            place=f"line {reader.line_num}",
        ) from None
    return read_rows(
        [(f"line {line}", f"{file}:{line}", row) for line, row in rows],
        site=site,
        key=key,
        values_of=values_of,
    )


def read_rows(
    rows: Sequence[tuple[str, str, Mapping[str, object]]],
    *,
    site: str,
    key: Naming,
    values_of: ValuesOf,
) -> list[Statement]:
    """Read rows with the columns of a file.

    Parameters
    ----------
    rows : (place, place as errors name it, values by column) of each

    Raises
    ------
    LabelError
        Naming the place and the column.
    """
    for place, named, row in rows:
        if not row["instance"]:
            raise _wrong(place, named, "instance", "a SOP Instance UID")
    instances = instance_pseudonyms(
        [str(row["instance"]).strip("\0 ") for *_, row in rows], site=site, key=key
    )
    return [
        _statement(place, named, row, instance, key=key, values_of=values_of)
        for (place, named, row), instance in zip(rows, instances, strict=True)
    ]


def _statement(
    place: str,
    named: str,
    row: Mapping[str, object],
    instance: str,
    *,
    key: Naming,
    values_of: ValuesOf,
) -> Statement:
    task = str(row["task"])
    if not _TASK.fullmatch(task):
        raise _wrong(
            place, named, "task", "a task's name: small letters, digits and _, a letter first"
        )
    possible = values_of(task)
    value = possible.read(row["value"])
    if value is None:
        raise _wrong(place, named, "value", possible.wanted, problem="impossible_value")
    if row["provenance"] not in set(Provenance):
        raise _wrong(place, named, "provenance", " or ".join(Provenance))
    provenance = Provenance(str(row["provenance"]))
    reader = str(row["reader"]).strip()
    if provenance is Provenance.READER and not reader:
        raise _wrong(place, named, "reader", "a name or a code: it says whose reading this is")
    return Statement(
        place=place,
        instances=(instance,),
        task=task,
        value=value,
        provenance=provenance,
        reader=reader_code(reader, key=key),
        signed_at=_signed_at(place, named, row["signed_at"], provenance),
    )


def _signed_at(place: str, named: str, said: object, provenance: Provenance) -> datetime | None:
    if not said and provenance is Provenance.REPORT:
        return None
    try:
        signed_at = datetime.fromisoformat(str(said))
        if signed_at.utcoffset() is None:
            raise _wrong(place, named, "signed_at", "a time with its zone")
        return signed_at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong(
            place, named, "signed_at", "an ISO 8601 time; a label from a report may lack it"
        ) from None


def _lines(reader: csv.DictReader[str], file: str) -> Iterator[tuple[int, dict[str, str]]]:
    for row in reader:
        # Where csv puts what no column is for.
        if None in row:
            raise LabelError(
                f"{file}:{reader.line_num}: has more fields than the header has columns: put a "
                "field that holds a comma into quotation marks",
                place=f"line {reader.line_num}",
            )
        yield reader.line_num, {name: (row.get(name) or "").strip() for name in COLUMNS}


def _wrong(
    place: str, named: str, column: str, wanted: str, *, problem: str = "malformed"
) -> LabelError:
    return LabelError(f"{named}: {column} must be {wanted}", problem=problem, place=place)
