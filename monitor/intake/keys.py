"""Secret keys in files: made at `init` and by rotation, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from monitor.intake.durable_files import write_durably
from registry.errors import HomeError

KEY_BYTES = 32
_LARGEST_FILE = 1 << 16


@dataclass(frozen=True, slots=True)
class SecretKey:
    """256 random bits. Neither its text form nor a traceback shows them."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, got {len(self.secret)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedKey:
    """A key with its place in the order in which keys were made, from 1."""

    number: int
    key: SecretKey


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of one purpose, oldest first: the newest makes, the older ones still find."""

    keys: tuple[NumberedKey, ...]

    def __post_init__(self) -> None:
        numbers = [key.number for key in self.keys]
        if not numbers or numbers != sorted(set(numbers)) or numbers[0] < 1:
            raise ValueError(f"a keyring has keys of rising numbers from 1, got {numbers}")

    @property
    def newest(self) -> NumberedKey:
        return self.keys[-1]

    @property
    def older(self) -> tuple[NumberedKey, ...]:
        return self.keys[:-1]

    def with_new_key(self) -> Keyring:
        """Return the keyring with a new random key as its newest."""
        made = NumberedKey(
            number=self.newest.number + 1, key=SecretKey(secrets.token_bytes(KEY_BYTES))
        )
        return Keyring((*self.keys, made))

    def without(self, numbers: Collection[int]) -> Keyring:
        """Return the keyring without some keys."""
        return Keyring(tuple(key for key in self.keys if key.number not in numbers))


def create_key(path: Path) -> SecretKey:
    """Make a new key in a file of mode 0600, and return it.

    Raises
    ------
    HomeError
        If the file exists: what was made with a key is lost with it.
    StorageFullError
    """
    if path.exists():
        raise HomeError(f"key file {path} exists: it is never overwritten; move it away first")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = SecretKey(secrets.token_bytes(KEY_BYTES))
    write_durably(path, key.secret.hex().encode() + b"\n", overwrite=False)
    return key


def load_key(path: Path) -> SecretKey:
    """Return the newest key in a file; raises as `load_keyring`."""
    return load_keyring(path).newest.key


def load_keyring(path: Path) -> Keyring:
    """Return the keys in a file.

    Raises
    ------
    HomeError
        If the file is absent, open to other users, or holds no key.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_LARGEST_FILE)
    except OSError as error:
        raise HomeError(
            f"key file {path} cannot be read: {error.strerror}; `driftward init` makes one, "
            "and a backup restores one"
        ) from None
    if mode & 0o077:
        raise HomeError(
            f"key file {path} has mode {mode:04o}, open to other users: run `chmod 600 {path}`"
        )
    try:
        return Keyring(tuple(_key_in(line) for line in text.decode("ascii").splitlines()))
    except ValueError:
        raise HomeError(
            f"key file {path} holds no key of {KEY_BYTES} bytes: restore it from a backup"
        ) from None


def save_keyring(path: Path, keyring: Keyring) -> None:
    """Write a keyring into a file of mode 0600, whole or not at all.

    Raises
    ------
    StorageFullError
    """
    lines = [f"{key.number} {key.key.secret.hex()}\n" for key in keyring.keys]
    write_durably(path, "".join(lines).encode())


def _key_in(line: str) -> NumberedKey:
    # Before the first rotation a file is one key without a number.
    number, _, digits = line.rpartition(" ")
    return NumberedKey(number=int(number or 1), key=SecretKey(bytes.fromhex(digits)))
