from __future__ import annotations

import stat
from pathlib import Path

import pytest

from monitor.intake.keys import KEY_BYTES, SecretKey, create_key, load_key
from registry.errors import HomeError


def test_a_created_key_is_loaded_again_and_is_readable_by_its_owner_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys" / "pseudonyms.key"
    key = create_key(path)
    assert load_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert create_key(tmp_path / "other.key") != key


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pseudonyms.key"
    key = create_key(path)
    with pytest.raises(HomeError, match="never overwritten"):
        create_key(path)
    assert load_key(path) == key
    assert [each.name for each in tmp_path.iterdir()] == ["pseudonyms.key"]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_key_open_to_others_is_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pseudonyms.key"
    create_key(path)
    path.chmod(mode)
    with pytest.raises(HomeError, match="chmod 600"):
        load_key(path)


@pytest.mark.parametrize("text", ["", "zz" * KEY_BYTES, "00" * (KEY_BYTES - 1), "é"])
def test_a_file_without_a_key_is_refused_without_showing_what_it_holds(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "pseudonyms.key"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(HomeError, match="holds no key") as caught:
        load_key(path)
    assert not text or text not in str(caught.value)


def test_an_absent_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="init"):
        load_key(tmp_path / "absent.key")


def test_a_key_is_not_shown() -> None:
    assert "A" * 32 not in repr(SecretKey(b"A" * 32))
    with pytest.raises(ValueError, match="32 bytes"):
        SecretKey(b"short")
