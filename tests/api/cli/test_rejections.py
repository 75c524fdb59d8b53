from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicom_instances import as_file
from series_home import ct_series, rejection_of


def test_a_document_that_rejects_instances_is_followed_and_shown(
    driftward: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    assert home.exists()
    slices = ct_series(1, range(2))
    folder = tmp_path / "inbox"
    folder.mkdir()
    for number, one in enumerate(slices):
        (folder / f"{number}.dcm").write_bytes(as_file(one))
    (folder / "document.dcm").write_bytes(rejection_of(slices[:1], title="113001"))
    done = driftward("scan", "add", folder, "--site", "north", "--json")
    assert done.document == {
        "added": 2,
        "known": 0,
        "quarantined": 0,
        "followed": 1,
        "reasons": {},
    }
    withdrawn = [
        driftward("scan", "show", scan, "--json").document["withdrawn"] for scan in (1, 2)
    ]
    assert sorted(withdrawn, key=str) == [None, "rejected"]
    assert driftward("audit", "verify").code == 0
