from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dicom_instances import as_file, radiograph

from monitor.intake.keys import SecretKey, create_key
from monitor.intake.quarantine import Quarantine, QuarantinedItem
from monitor.intake.reasons import Reason
from registry.errors import HomeError, IntegrityError, NotFoundError

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ORIGINAL = as_file(radiograph())


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    create_key(tmp_path / "quarantine.key")
    return Quarantine.open(tmp_path / "quarantine", key=tmp_path / "quarantine.key")


def put(
    quarantine: Quarantine,
    content: bytes | None = ORIGINAL,
    *,
    at: datetime = NOON,
    site: str = "north",
) -> QuarantinedItem:
    return quarantine.put(
        content, reason=Reason.BURNED_IN, detail="text is burned in", site=site, at=at
    )


def file_of(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "quarantine").iterdir()
    return path


def test_the_original_comes_back_to_the_last_byte(quarantine: Quarantine) -> None:
    item = put(quarantine)
    assert quarantine.read(item.id) == ORIGINAL
    assert item.size == len(ORIGINAL)


def test_an_item_is_listed_without_patient_data(quarantine: Quarantine) -> None:
    item = put(quarantine)
    assert quarantine.items() == [item]
    assert (item.reason, item.at, item.kept) == (Reason.BURNED_IN, NOON, True)
    assert "Yamada" not in repr(item)


def test_nothing_of_the_patient_is_readable_on_the_disk(
    quarantine: Quarantine, tmp_path: Path
) -> None:
    put(quarantine)
    stored = file_of(tmp_path).read_bytes()
    for needle in (b"Yamada", b"4711", b"DICM", ORIGINAL[-40:]):
        assert needle in ORIGINAL
        assert needle not in stored
    assert b"Yamada" not in file_of(tmp_path).name.encode()


def test_folder_and_files_are_the_owners_alone(quarantine: Quarantine, tmp_path: Path) -> None:
    put(quarantine)
    assert stat.S_IMODE((tmp_path / "quarantine").stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600


def test_a_folder_open_to_others_is_refused(quarantine: Quarantine, tmp_path: Path) -> None:
    (tmp_path / "quarantine").chmod(0o755)
    with pytest.raises(HomeError, match="chmod 700"):
        Quarantine.open(tmp_path / "quarantine", key=tmp_path / "quarantine.key")


def test_the_same_file_refused_again_is_the_same_item(quarantine: Quarantine) -> None:
    first = put(quarantine)
    assert put(quarantine, at=NOON + timedelta(days=1)) == first
    assert put(quarantine, site="south").id != first.id
    assert len(quarantine.items()) == 2


def test_what_was_too_large_to_keep_is_listed_and_not_handed_out(
    quarantine: Quarantine,
) -> None:
    item = put(quarantine, None)
    assert not item.kept
    assert put(quarantine, None).id != item.id
    with pytest.raises(NotFoundError, match="too large"):
        quarantine.read(item.id)


@pytest.mark.parametrize("position", [10, 200, -1], ids=["record", "nonce or text", "tag"])
def test_a_changed_item_is_not_handed_out(
    quarantine: Quarantine, tmp_path: Path, position: int
) -> None:
    item = put(quarantine)
    stored = bytearray(file_of(tmp_path).read_bytes())
    stored[position] ^= 1
    file_of(tmp_path).write_bytes(stored)
    with pytest.raises(IntegrityError):
        quarantine.read(item.id)


def test_a_changed_reason_shows(quarantine: Quarantine, tmp_path: Path) -> None:
    item = put(quarantine)
    stored = file_of(tmp_path).read_bytes()
    assert b'"burned_in"' in stored
    file_of(tmp_path).write_bytes(stored.replace(b'"burned_in"', b'"truncated"'))
    assert quarantine.items()[0].reason is Reason.TRUNCATED
    with pytest.raises(IntegrityError, match="changed"):
        quarantine.read(item.id)


def test_another_key_opens_nothing(quarantine: Quarantine, tmp_path: Path) -> None:
    item = put(quarantine)
    stranger = Quarantine(tmp_path / "quarantine", key=SecretKey(bytes(32)))
    with pytest.raises(IntegrityError, match="another key"):
        stranger.read(item.id)


def test_items_expire_by_age(quarantine: Quarantine) -> None:
    old = put(quarantine, b"old", at=NOON - timedelta(days=31))
    new = put(quarantine, b"new", at=NOON - timedelta(days=29))
    assert quarantine.items() == [old, new]
    assert quarantine.purge(older_than=timedelta(days=30), now=NOON) == 1
    assert quarantine.items() == [new]


def test_a_removed_item_is_gone(quarantine: Quarantine) -> None:
    item = put(quarantine)
    quarantine.remove(item.id)
    assert quarantine.items() == []
    with pytest.raises(NotFoundError):
        quarantine.read(item.id)


@pytest.mark.parametrize("name", ["../keys/quarantine", "0" * 32, "", "\0"])
def test_nothing_but_an_existing_id_opens_a_file(quarantine: Quarantine, name: str) -> None:
    with pytest.raises(NotFoundError):
        quarantine.read(name)
    with pytest.raises(NotFoundError):
        quarantine.remove(name)


def test_a_foreign_file_is_named(quarantine: Quarantine, tmp_path: Path) -> None:
    (tmp_path / "quarantine" / "x.quarantined").write_bytes(b"{}")
    with pytest.raises(IntegrityError, match=r"x\.quarantined"):
        quarantine.items()


def test_a_time_without_a_zone_is_refused(quarantine: Quarantine) -> None:
    item = put(quarantine)
    with pytest.raises(ValueError, match="time zone"):
        QuarantinedItem(
            id=item.id,
            reason=item.reason,
            detail=item.detail,
            site=item.site,
            at=datetime(2026, 3, 2),  # noqa: DTZ001
            size=1,
            kept=True,
        )
