"""What comes back from a cluster is put where it belongs, and nowhere else."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from registry.errors import TrainingFailedError
from retrain.executors.ray_cluster import _packed, _unpack


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "attempt-0").mkdir(parents=True)
    (there / "attempt-0" / "heads.safetensors").write_bytes(b"weights")
    (there / "job.json").write_text("{}")
    (there / ".arriving").mkdir()

    _unpack(_packed(there), tmp_path / "here")

    found = sorted(
        path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*")
    )
    assert [str(path) for path in found] == [
        "attempt-0",
        "attempt-0/heads.safetensors",
        "job.json",
    ]
    assert (tmp_path / "here/attempt-0/heads.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../beside", tarfile.REGTYPE),
        ("/elsewhere", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("device", tarfile.CHRTYPE),
    ],
)
def test_what_would_lie_elsewhere_is_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        item = tarfile.TarInfo(name)
        item.type, item.linkname = kind, "/etc/passwd"
        archive.addfile(item, io.BytesIO(b""))

    with pytest.raises(TrainingFailedError, match="no file of a run"):
        _unpack(sink.getvalue(), tmp_path / "here")

    assert not (tmp_path / "beside").exists()
