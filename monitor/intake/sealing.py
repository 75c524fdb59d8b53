"""Originals sealed to a key that this installation does not have.

For a hospital that must be able to get back from a surrogate to its patient,
by a person who holds a private key elsewhere. Off unless a public key is set.
ECIES (SEC 1 section 5.1) from X25519, HKDF-SHA256 and AES-256-GCM: a fresh
key pair for each scan, whose public half stands before the sealed text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from monitor.intake.reading import Instance
from registry.canonical import canonical_bytes
from registry.errors import BadInputError, IntegrityError

#: What leads back to a patient and to the images in an archive.
ORIGINALS = (
    "PatientID",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
)
_PUBLIC_BYTES = 32
_PURPOSE = b"driftward re-identification 1"
# A key seals one text, so that one nonce serves all of them.
_NONCE = bytes(12)


class Sealer:
    """Seals originals; what it seals it cannot open."""

    def __init__(self, public: X25519PublicKey) -> None:
        self._public = public

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """Read a public key in PEM.

        Raises
        ------
        BadInputError
            If it cannot be read, or is no X25519 public key.
        """
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"public key {path} cannot be read ({type(error).__name__}): make a pair with "
                "`openssl genpkey -algorithm x25519`, and give the public half in PEM"
            ) from None
        if not isinstance(key, X25519PublicKey):
            raise BadInputError(f"public key {path} is no X25519 key")
        return cls(key)

    def seal(self, instance: Instance) -> bytes:
        """Seal what an instance's surrogates stand for; bound to nothing but the private key."""
        originals = {keyword: instance.text(keyword) for keyword in ORIGINALS}
        fresh = X25519PrivateKey.generate()
        public = fresh.public_key().public_bytes_raw()
        cipher = _cipher(fresh.exchange(self._public), public, self._public)
        return public + cipher.encrypt(_NONCE, canonical_bytes({**originals}), None)


def unseal(
    sealed: bytes, *, private_key: Path, password: bytes | None = None
) -> Mapping[str, str]:
    """Return originals by keyword.

    Raises
    ------
    BadInputError
        If the file is no X25519 private key in PEM.
    IntegrityError
        If they were sealed to another key, or changed since.
    """
    try:
        key = load_pem_private_key(private_key.read_bytes(), password=password)
    except (OSError, ValueError, TypeError) as error:
        raise BadInputError(
            f"private key {private_key} cannot be read ({type(error).__name__}): give an X25519 "
            "key in PEM"
        ) from None
    if not isinstance(key, X25519PrivateKey):
        raise BadInputError(f"private key {private_key} is no X25519 key")
    public, text = sealed[:_PUBLIC_BYTES], sealed[_PUBLIC_BYTES:]
    try:
        shared = key.exchange(X25519PublicKey.from_public_bytes(public))
        opened = _cipher(shared, public, key.public_key()).decrypt(_NONCE, text, None)
    except (InvalidTag, ValueError):
        raise IntegrityError(
            f"the originals were not sealed to {private_key}, or were changed since"
        ) from None
    originals: dict[str, str] = json.loads(opened)
    return originals


def _cipher(shared: bytes, fresh: bytes, receiver: X25519PublicKey) -> AESGCM:
    context = _PURPOSE + fresh + receiver.public_bytes_raw()
    return AESGCM(HKDF(SHA256(), length=32, salt=None, info=context).derive(shared))
