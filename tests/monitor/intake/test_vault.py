from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_instances import as_file, radiograph
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.intake import durable_files
from monitor.intake.durable_files import UNFINISHED_PREFIX
from monitor.intake.vault import Vault
from registry.canonical import sha256
from registry.errors import IntegrityError, NotFoundError, StorageFullError


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def short_of_space() -> Iterator[int]:
    """Let the kernel refuse to write beyond 1,000 bytes of any file, after writing those."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_put_in_comes_out_under_its_digest(vault: Vault) -> None:
    digest = vault.put(b"scan")
    assert digest == sha256(b"scan")
    assert vault.get(digest) == b"scan"
    assert vault.path(digest).read_bytes() == b"scan"


def test_the_same_content_is_one_file(vault: Vault, tmp_path: Path) -> None:
    digests = [vault.put(b"scan"), *vault.put_all([b"scan", b"other", b"scan"])]
    assert digests == [sha256(b"scan"), sha256(b"scan"), sha256(b"other"), sha256(b"scan")]
    assert len(files_below(tmp_path)) == 2


def test_many_files_are_put_in_together_in_their_order(vault: Vault) -> None:
    contents = [f"scan {number}".encode() for number in range(40)]
    assert vault.put_all(contents) == [sha256(content) for content in contents]
    assert [vault.get(sha256(content)) for content in contents] == contents
    assert vault.put_all([]) == []


def test_files_and_folders_are_the_owners_alone(vault: Vault, tmp_path: Path) -> None:
    path = vault.path(vault.put(b"scan"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "vault").stat().st_mode) == 0o700


def test_a_changed_file_is_not_handed_out(vault: Vault) -> None:
    digest = vault.put(b"scan")
    vault.path(digest).write_bytes(b"scam")
    with pytest.raises(IntegrityError, match="backup"):
        vault.get(digest)


def test_a_changed_file_is_mended_when_its_scan_is_sent_again(vault: Vault) -> None:
    digest = vault.put(b"scan")
    vault.path(digest).write_bytes(b"")
    assert vault.put(b"scan") == digest
    assert vault.get(digest) == b"scan"


def test_an_absent_file_is_not_found(vault: Vault) -> None:
    with pytest.raises(NotFoundError, match="no file"):
        vault.get(sha256(b"never put in"))


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "0" * 63, "G" * 64, "A" * 64])
def test_nothing_but_a_digest_becomes_a_path(vault: Vault, name: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        vault.path(name)


def test_a_full_disk_is_said_and_nothing_half_written_stays(
    vault: Vault, tmp_path: Path, short_of_space: int
) -> None:
    small, large = b"s" * short_of_space, b"l" * (short_of_space + 1)
    kept = vault.put(b"before")
    with pytest.raises(StorageFullError, match="no space"):
        vault.put_all([small, large])
    assert files_below(tmp_path) == [vault.path(kept)]
    assert vault.put(small) == sha256(small)


def test_what_is_being_written_has_no_name_that_a_crash_could_leave(
    tmp_path: Path,
) -> None:
    unfinished = durable_files._written(tmp_path, b"scan")
    assert files_below(tmp_path) == []
    unfinished.place(tmp_path / "1", overwrite=False)
    unfinished.discard()
    assert (tmp_path / "1").read_bytes() == b"scan"


def test_a_file_system_without_unnamed_files_serves_too(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def without(path: object, flags: int, *rest: object, **more: object) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", without)
    digests = vault.put_all([b"a", b"b"])
    assert [vault.get(digest) for digest in digests] == [b"a", b"b"]
    assert not [path for path in files_below(tmp_path) if UNFINISHED_PREFIX in path.name]
    vault.path(digests[0]).write_bytes(b"damaged")
    vault.put(b"a")
    assert vault.get(digests[0]) == b"a"


def test_a_failing_folder_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "vault").write_bytes(b"a file where the folder should be")
    with pytest.raises(FileExistsError):
        Vault(tmp_path / "vault").put(b"scan")


def test_a_stored_scan_is_read_as_a_data_set(vault: Vault) -> None:
    digest = vault.put(as_file(radiograph()))
    assert vault.dataset(digest).Modality == "CR"


@settings(deadline=None, derandomize=True, max_examples=20)
@given(contents=st.lists(st.binary(max_size=50), max_size=8))
def test_any_contents_come_out_as_they_went_in(
    contents: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    vault = Vault(tmp_path_factory.getbasetemp() / f"vault-{os.getpid()}")
    assert [vault.get(digest) for digest in vault.put_all(contents)] == contents
