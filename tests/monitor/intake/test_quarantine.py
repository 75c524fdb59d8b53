from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from dicom_instances import as_file, radiograph

from monitor.intake import quarantine as quarantine_module
from monitor.intake.keys import SecretKey, create_key, load_key
from monitor.intake.quarantine import Listing, Quarantine, QuarantinedItem, counts_of
from monitor.intake.reasons import Reason
from registry.errors import HomeError, IntegrityError, NotFoundError, StorageFullError

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ORIGINAL = as_file(radiograph())


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    create_key(tmp_path / "quarantine.key")
    (tmp_path / "quarantine").mkdir(mode=0o700)
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
    assert quarantine.items() == (item,)
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


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o500])
def test_a_folder_open_to_others_or_closed_to_its_owner_is_refused(
    quarantine: Quarantine, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "quarantine").chmod(mode)
    with pytest.raises(HomeError, match="chmod 700"):
        Quarantine.open(tmp_path / "quarantine", key=tmp_path / "quarantine.key")
    with pytest.raises(HomeError, match="chmod 700"):
        quarantine.listing()


def test_a_lost_folder_is_named_and_never_made_anew_in_silence(
    quarantine: Quarantine, tmp_path: Path
) -> None:
    (tmp_path / "quarantine").rmdir()
    with pytest.raises(HomeError, match=r"is gone, and what was in it.*mkdir -m 700"):
        Quarantine.open(tmp_path / "quarantine", key=tmp_path / "quarantine.key")
    with pytest.raises(HomeError, match="is gone"):
        quarantine.listing()
    with pytest.raises(HomeError, match="is gone"):
        put(quarantine)
    assert not (tmp_path / "quarantine").exists()


def test_a_file_in_the_folders_place_is_no_folder(
    quarantine: Quarantine, tmp_path: Path
) -> None:
    (tmp_path / "quarantine").rmdir()
    (tmp_path / "quarantine").write_text("")
    with pytest.raises(HomeError, match="is no folder"):
        quarantine.listing()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_another_users_folder_is_refused(quarantine: Quarantine, tmp_path: Path) -> None:
    os.chown(tmp_path / "quarantine", 12345, -1)
    with pytest.raises(HomeError, match="belongs to user 12345"):
        quarantine.listing()


def test_the_same_file_refused_again_is_the_same_item(quarantine: Quarantine) -> None:
    first = put(quarantine)
    again = put(quarantine, at=NOON + timedelta(days=1))
    assert again == replace(first, times=2, last_at=NOON + timedelta(days=1))
    third = put(quarantine, at=NOON + timedelta(days=2))
    assert third == replace(first, times=3, last_at=NOON + timedelta(days=2))
    assert put(quarantine, site="south").id != first.id
    assert len(quarantine.items()) == 2
    assert quarantine.find(first.id) == third
    assert quarantine.read(first.id) == ORIGINAL


def test_what_is_tried_again_did_not_come_again(quarantine: Quarantine) -> None:
    first = put(quarantine)
    tried = quarantine.put(
        ORIGINAL,
        reason=first.reason,
        detail=first.detail,
        site=first.site,
        at=NOON + timedelta(days=1),
        came=False,
    )
    assert tried == first
    assert quarantine.items() == (first,)


def test_the_original_that_came_first_is_kept_while_the_reason_stays(
    quarantine: Quarantine,
) -> None:
    first = put(quarantine)
    other = as_file(radiograph(PatientID="another"))
    assert put(quarantine, other).times == 2
    assert quarantine.read(first.id) == ORIGINAL
    changed = quarantine.put(
        other, reason=Reason.UNDECODABLE, detail="damaged", site="north", at=NOON
    )
    assert (changed.id, changed.times) == (first.id, 3)
    assert quarantine.read(first.id) == other


def test_a_full_disk_loses_no_item_that_comes_again(
    quarantine: Quarantine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path, _content: bytes) -> None:
        raise StorageFullError("no space is left")

    first = put(quarantine)
    monkeypatch.setattr(quarantine_module, "write_durably", full)
    assert put(quarantine, at=NOON + timedelta(days=1)) == first
    with pytest.raises(StorageFullError):
        put(quarantine, b"something new")
    with pytest.raises(StorageFullError):
        quarantine.put(ORIGINAL, reason=Reason.REPORT, detail="", site="north", at=NOON)
    assert quarantine.items() == (first,)
    assert quarantine.read(first.id) == ORIGINAL


def test_an_item_under_its_id_of_before_is_found_and_renamed(
    quarantine: Quarantine, tmp_path: Path
) -> None:
    item = put(quarantine)
    new, old = quarantine.ids_of(ORIGINAL, site="north")
    assert item.id == new
    quarantine.remove(new)
    older = replace(item, id=old)
    record = quarantine_module._to_line(older)
    nonce = bytes(12)
    sealed = AESGCM(load_key(tmp_path / "quarantine.key").secret).encrypt(
        nonce, ORIGINAL, record
    )
    (tmp_path / "quarantine" / f"{old}.quarantined").write_bytes(record + nonce + sealed)
    assert quarantine.items() == (older,)
    again = put(quarantine, at=NOON + timedelta(days=1))
    assert again == replace(item, times=2, last_at=NOON + timedelta(days=1))
    assert quarantine.items() == (again,)
    assert quarantine.read(new) == ORIGINAL
    # Whoever was killed before the one of before was removed.
    (tmp_path / "quarantine" / f"{old}.quarantined").write_bytes(record + nonce + sealed)
    assert put(quarantine).times == 3
    assert [item.id for item in quarantine.items()] == [new]


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


def test_items_expire_by_age_since_their_first_refusal(quarantine: Quarantine) -> None:
    old = put(quarantine, b"old", at=NOON - timedelta(days=31))
    new = put(quarantine, b"new", at=NOON - timedelta(days=29))
    again = put(quarantine, b"old", at=NOON - timedelta(days=1))
    assert again.id == old.id
    assert quarantine.items() == (again, new)
    assert quarantine.expired(older_than=timedelta(days=30), now=NOON) == [again]


def test_what_a_clock_stamped_far_ahead_expires_as_of_when_that_is_seen(
    quarantine: Quarantine,
) -> None:
    ahead = put(quarantine, at=NOON + timedelta(days=20_000))
    put(quarantine, at=NOON + timedelta(days=20_001))
    slightly = put(quarantine, b"by another clock", at=NOON + timedelta(hours=2))
    absent = put(quarantine, None, at=NOON + timedelta(days=20_000))
    quarantine.bring_back(now=NOON)
    assert quarantine.find(ahead.id) == replace(ahead, at=NOON, times=2)
    assert quarantine.find(absent.id) == replace(absent, at=NOON)
    assert quarantine.find(slightly.id) == slightly
    assert quarantine.read(ahead.id) == ORIGINAL
    later = NOON + timedelta(days=31)
    assert len(quarantine.expired(older_than=timedelta(days=30), now=later)) == 3


def test_a_removed_item_is_gone(quarantine: Quarantine) -> None:
    item = put(quarantine)
    quarantine.remove(item.id)
    assert quarantine.items() == ()
    with pytest.raises(NotFoundError):
        quarantine.read(item.id)


@pytest.mark.parametrize("name", ["../keys/quarantine", "0" * 32, "", "\0"])
def test_nothing_but_an_existing_id_opens_a_file(quarantine: Quarantine, name: str) -> None:
    with pytest.raises(NotFoundError):
        quarantine.read(name)
    with pytest.raises(NotFoundError):
        quarantine.remove(name)


def test_a_file_that_is_no_item_is_counted_and_breaks_no_list(
    quarantine: Quarantine, tmp_path: Path
) -> None:
    folder = tmp_path / "quarantine"
    item = put(quarantine)
    stored = file_of(tmp_path).read_bytes()
    (folder / "x.quarantined").write_bytes(b"{}")
    (folder / f"{'0' * 32}.quarantined").write_bytes(stored)  # another item's record
    (folder / f"{'1' * 32}.quarantined").write_bytes(b"[1]\n")
    (folder / f"{'2' * 32}.quarantined").write_bytes(b"")
    (folder / f"{'3' * 32}.quarantined").mkdir()
    (folder / f"{'4' * 32}.quarantined").symlink_to(folder / "nowhere")
    (folder / "notes.txt").write_text("look")
    (folder / ".unfinished-0").write_text("left from a crash")
    for _ in range(2):
        assert quarantine.listing() == Listing(items=(item,), foreign=6)
    with pytest.raises(NotFoundError, match="damaged"):
        quarantine.find("1" * 32)


def test_a_damaged_item_is_mended_when_its_original_comes_again(
    quarantine: Quarantine, tmp_path: Path
) -> None:
    item = put(quarantine)
    file_of(tmp_path).write_bytes(b"damaged")
    assert quarantine.items() == ()
    assert put(quarantine) == item
    assert quarantine.read(item.id) == ORIGINAL


def test_what_is_refused_again_for_another_reason_has_that_reason_and_its_first_time(
    quarantine: Quarantine,
) -> None:
    first = put(quarantine)
    assert quarantine.items() == (first,)
    again = quarantine.put(
        ORIGINAL,
        reason=Reason.UNDECODABLE,
        detail="the pixels are damaged",
        site="north",
        at=NOON + timedelta(days=9),
    )
    assert again == replace(
        first,
        reason=Reason.UNDECODABLE,
        detail="the pixels are damaged",
        at=NOON,
        times=2,
        last_at=NOON + timedelta(days=9),
    )
    assert quarantine.items() == (again,)
    assert quarantine.read(first.id) == ORIGINAL


def test_another_process_sees_and_shows_every_change(
    quarantine: Quarantine, tmp_path: Path
) -> None:
    other = Quarantine.open(tmp_path / "quarantine", key=tmp_path / "quarantine.key")
    first, second = put(quarantine, b"1"), put(quarantine, b"2", at=NOON + timedelta(hours=1))
    assert other.items() == (first, second)
    other.remove_all([first.id, "../keys", "f" * 32])
    assert quarantine.items() == (second,)
    assert quarantine.find(second.id) == second


def test_counts_are_by_reason_and_site(quarantine: Quarantine) -> None:
    put(quarantine, b"12", at=NOON)
    put(quarantine, b"123", at=NOON - timedelta(days=1))
    put(quarantine, b"1", site="south")
    quarantine.put(None, reason=Reason.TOO_LARGE, detail="too large", site="north", at=NOON)
    assert [
        (count.reason, count.site, count.items, count.size, count.oldest)
        for count in counts_of(quarantine.items())
    ] == [
        (Reason.BURNED_IN, "north", 2, 5, NOON - timedelta(days=1)),
        (Reason.BURNED_IN, "south", 1, 1, NOON),
        (Reason.TOO_LARGE, "north", 1, 0, NOON),
    ]


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
