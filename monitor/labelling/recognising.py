"""What kind of file labels come in: seen from its content, whatever it is called."""

from __future__ import annotations

import os
import stat
import struct
from enum import StrEnum
from pathlib import Path

from monitor.labelling.fhir import LARGEST_DOCUMENT
from monitor.labelling.structured_reports import LARGEST_REPORT
from registry.errors import LabelError

#: Of a CSV file: half a million labels.
LARGEST_TABLE = 64 << 20


class Form(StrEnum):
    """A form in which labels come."""

    TABLE = "csv"
    STRUCTURED_REPORT = "dicom"
    FHIR = "fhir"
    #: rows that another program sends
    ROWS = "json"


_LARGEST = {
    Form.TABLE: LARGEST_TABLE,
    Form.STRUCTURED_REPORT: LARGEST_REPORT,
    Form.FHIR: LARGEST_DOCUMENT,
}


def read_file(path: Path) -> bytes:
    """Return the content of a file of labels.

    Raises
    ------
    LabelError
        If it is no regular file, cannot be read, or is larger than any kind may be.
    """
    try:
        # Without O_NONBLOCK the opening of a named pipe waits for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise LabelError(
                    f"{path.name} cannot be read: it is no file", problem="unreadable"
                )
            content = file.read(LARGEST_TABLE + 1)
    except OSError as error:
        raise LabelError(
            f"{path.name} cannot be read: {error.strerror}", problem="unreadable"
        ) from None
    return content


def recognised(content: bytes, *, file: str) -> Form:
    """Return what a file is.

    Raises
    ------
    LabelError
        If it is XML, or too large for what it is.
    """
    beginning = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if content[128:132] == b"DICM" or _begins_as_data_set(content):
        form = Form.STRUCTURED_REPORT
    elif beginning.startswith((b"{", b"[")):
        form = Form.FHIR
    elif beginning.startswith(b"<"):
        raise LabelError(
            f"{file}: is XML: send FHIR R4 as JSON (application/fhir+json)",
            problem="other_resource",
        )
    else:
        form = Form.TABLE
    if len(content) > _LARGEST[form]:
        raise LabelError(
            f"{file}: has more than {_LARGEST[form] >> 20} MB, the most that a file of this kind "
            f"({form.value}) may have: split it",
            problem="too_large",
        )
    return form


def _begins_as_data_set(content: bytes) -> bool:
    if len(content) < 8:
        return False
    group, element = struct.unpack_from("<HH", content)
    if group == 0x0002:
        return bool(element < 0x0100)
    return bool(group == 0x0008 and element <= 0x0060)
