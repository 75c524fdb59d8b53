"""Passwords: what one must be, and how it is kept.

Argon2id with the parameters of RFC 9106 section 4 (second choice, 64 MiB); NIST SP 800-63B-4
section 3.1.1 for length and for what is not asked of a password.
"""

from __future__ import annotations

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from registry.errors import BadInputError

SHORTEST, LONGEST = 15, 256
#: Characters that must differ: "aaaaaaaaaaaaaaa" is none.
FEWEST_DIFFERENT = 6
_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4, hash_len=32)
#: Each takes 64 MiB: however many sign in at once, memory stays bounded.
_TURNS = threading.BoundedSemaphore(2)
#: Of a password that nobody knows, with the parameters above: who has none takes as long.
_NOBODY = (
    "$argon2id$v=19$m=65536,t=3,p=4$CoROewuW0vf842/IcRaJLw$i4iY8R"
    "Wlc7cScd9qUBsO1zvosNvd1H6l1I83CoUevMQ"
)


def require_fit(password: str, *, name: str) -> None:
    """Refuse a password that is too easy to guess.

    Raises
    ------
    BadInputError
        Saying what it lacks, never what it is.
    """
    text = _normal(password)
    if not SHORTEST <= len(text) <= LONGEST:
        raise BadInputError(
            f"a password has {SHORTEST} to {LONGEST} characters; several words do well"
        )
    if len(set(text)) < FEWEST_DIFFERENT:
        raise BadInputError(
            f"a password has at least {FEWEST_DIFFERENT} different characters: choose another"
        )
    if len(name) > 3 and name.casefold() in text.casefold():
        raise BadInputError("a password does not contain its owner's name: choose another")


def hashed(password: str) -> str:
    """Return what is kept of a password: argon2id with a salt of its own."""
    with _TURNS:
        return _HASHER.hash(_normal(password))


def matches(stored: str | None, password: str) -> bool:
    """Return whether a password is the one that was kept; takes as long where there is none."""
    with _TURNS:
        try:
            _HASHER.verify(stored or _NOBODY, _normal(password))
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def _normal(password: str) -> str:
    """Return one form of what several keyboards write in several ways (RFC 8265)."""
    return unicodedata.normalize("NFC", password)
