from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from monitor.intake.folder import files_in
from registry.errors import BadInputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_files_come_in_a_stable_order_each_once(tmp_path: Path) -> None:
    for name in ("b/2.dcm", "b/1.dcm", "a/9.dcm", "c.dcm", "A.dcm"):
        touch(tmp_path / name)
    found = [str(path.relative_to(tmp_path)) for path in files_in([tmp_path, tmp_path / "b"])]
    assert found == ["A.dcm", "c.dcm", "a/9.dcm", "b/1.dcm", "b/2.dcm"]


def test_a_named_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    path = touch(tmp_path / "IM000001")
    assert list(files_in([path, path])) == [path]


@pytest.mark.parametrize(
    "name",
    [".hidden", "1.dcm.part", "1.dcm.PART", "1.tmp", "1.filepart", "1.dcm~", ".git/1.dcm"],
)
def test_what_is_still_being_written_is_left_out(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name)
    assert list(files_in([tmp_path])) == []


def test_archives_are_yielded_so_that_their_refusal_shows(tmp_path: Path) -> None:
    path = touch(tmp_path / "scans.zip")
    assert list(files_in([tmp_path])) == [path]


def test_links_and_pipes_are_left_out(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside" / "1.dcm")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "round").symlink_to(inbox)
    (inbox / "out").symlink_to(outside.parent)
    (inbox / "1.dcm").symlink_to(outside)
    os.mkfifo(inbox / "pipe")
    assert list(files_in([inbox])) == []


def test_what_changed_too_recently_is_left_for_the_next_time(tmp_path: Path) -> None:
    old, _ = touch(tmp_path / "old.dcm"), touch(tmp_path / "new.dcm")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    assert list(files_in([tmp_path], settled_for=timedelta(minutes=1))) == [old]
    assert len(list(files_in([tmp_path]))) == 2


def test_a_path_that_does_not_exist_is_said_before_anything_is_yielded(tmp_path: Path) -> None:
    touch(tmp_path / "1.dcm")
    with pytest.raises(BadInputError, match="absent does not exist"):
        next(files_in([tmp_path, tmp_path / "absent"]))


def test_folders_nested_deeper_than_calls_are_walked(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    depth = 200
    try:
        folder = tmp_path
        for _ in range(depth):
            folder /= "d"
        touch(folder / "1.dcm")
    finally:
        os.close(here)
    assert len(list(files_in([tmp_path]))) == 1
