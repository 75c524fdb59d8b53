"""DICOM programs of others, as Debian has them: dcmtk, orthanc, orthanc-dicomweb."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return where a program is; without it, a test fails in CI and is skipped elsewhere."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        why = f"{name} is missing: apt-get install orthanc orthanc-dicomweb dcmtk"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return found
