"""Secret keys in files: made once at `init`, readable by their owner alone."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from monitor.intake.durable_files import write_durably
from registry.errors import HomeError

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SecretKey:
    """256 random bits. Neither its text form nor a traceback shows them."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, got {len(self.secret)}")


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
    """Return the key in a file.

    Raises
    ------
    HomeError
        If the file is absent, open to other users, or holds no key.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4096)
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
        return SecretKey(bytes.fromhex(text.decode("ascii")))
    except ValueError:
        raise HomeError(
            f"key file {path} holds no key of {KEY_BYTES} bytes: restore it from a backup"
        ) from None
