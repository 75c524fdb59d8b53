"""Keys that checkpoints are signed with, and checked against: Ed25519 in PEM.

A private key comes from a file that its owner alone may read, or is itself the
value of a setting; it never stands in an error.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from registry.canonical import sha256
from registry.errors import CheckpointKeyError
from registry.new_files import write_new

_LARGEST_FILE = 1 << 16
#: "Ed25519" among the signature types of C2SP signed-note
ED25519_TYPE = b"\x01"
#: What can be wrong with a key, as `CheckpointKeyError.problem` and the ledger say it.
MISSING, UNREADABLE, OPEN = "key missing", "key unreadable", "key open to others"
LOCKED, WRONG_KIND, EXISTS = "key locked", "key of the wrong kind", "key exists"
MAKE_ONE = "`driftward key checkpoint-new` makes one"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What a checkpoint's signature is checked with."""

    raw: bytes

    def identifier(self, name: str) -> bytes:
        """Return the four bytes by which signatures under a name refer to this key."""
        return bytes.fromhex(sha256(name.encode() + b"\n" + ED25519_TYPE + self.raw)[: 2 * 4])

    def verifier(self, name: str) -> str:
        """Return the key as one line for other tools that check signed notes."""
        encoded = base64.b64encode(ED25519_TYPE + self.raw).decode()
        return f"{name}+{self.identifier(name).hex()}+{encoded}"

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits by which people tell keys apart."""
        return sha256(self.raw)[:16]

    @property
    def pem(self) -> bytes:
        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, text: bytes) -> None:
        """Check a signature.

        Raises
        ------
        cryptography.exceptions.InvalidSignature
        """
        Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What checkpoints are signed with. Neither its text form nor a traceback shows it."""

    _key: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a text, 64 bytes (RFC 8032)."""
        return self._key.sign(text)


def create_signing_key(path: Path) -> SigningKey:
    """Make a new key in a file of mode 0600.

    Raises
    ------
    CheckpointKeyError
        If the file exists, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_new(path, content)
    except FileExistsError:
        raise CheckpointKeyError(
            f"key file {path} exists: it is never overwritten; move it away first",
            problem=EXISTS,
        ) from None
    except OSError as error:
        raise CheckpointKeyError(
            f"key file {path} cannot be written: {error.strerror}", problem=UNREADABLE
        ) from None
    return SigningKey(key)


def load_signing_key(source: str | Path) -> SigningKey:
    """Return a private key.

    Parameters
    ----------
    source : a file, or the key itself in PEM

    Raises
    ------
    CheckpointKeyError
        If it is absent, open to other users, locked by a pass phrase, or no Ed25519 key.
    """
    if isinstance(source, str) and source.lstrip().startswith("-----BEGIN"):
        return _signing_key(source.strip().encode(), "the key in DRIFTWARD_CHECKPOINT_KEY")
    path = Path(source)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(_LARGEST_FILE)
    except OSError as error:
        raise CheckpointKeyError(
            f"checkpoint key {path} cannot be read: {error.strerror}; {MAKE_ONE}",
            problem=MISSING if isinstance(error, FileNotFoundError) else UNREADABLE,
        ) from None
    if mode & 0o077:
        raise CheckpointKeyError(
            f"checkpoint key {path} has mode {mode:04o}, open to other users: "
            f"run `chmod 600 {path}`",
            problem=OPEN,
        )
    return _signing_key(content, f"checkpoint key {path}")


def _signing_key(content: bytes, what: str) -> SigningKey:
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise CheckpointKeyError(
            f"{what} is locked by a pass phrase, which nobody could enter at night: "
            "store it without one, in a file that its owner alone may read",
            problem=LOCKED,
        ) from None
    except Exception:  # noqa: BLE001 - the parser's errors are many, and may quote the key
        raise CheckpointKeyError(
            f"{what} is no private key in PEM: {MAKE_ONE}", problem=WRONG_KIND
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CheckpointKeyError(
            f"{what} is of the wrong kind ({_kind(key)}): checkpoints are signed with an "
            f"Ed25519 key; {MAKE_ONE}",
            problem=WRONG_KIND,
        )
    return SigningKey(key)


def load_public_key(path: Path) -> PublicKey:
    """Return the public key in a file: PEM, or the one line of `PublicKey.verifier`.

    Raises
    ------
    CheckpointKeyError
        If it cannot be read, or is no Ed25519 public key.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE)
    except OSError as error:
        raise CheckpointKeyError(
            f"public key {path} cannot be read: {error.strerror}; "
            "`driftward key checkpoint-public` writes one",
            problem=MISSING if isinstance(error, FileNotFoundError) else UNREADABLE,
        ) from None
    if b"-----BEGIN" not in content:
        return _verifier_key(content, path)
    if b"PRIVATE KEY-----" in content:
        raise CheckpointKeyError(
            f"{path} holds a private key: give the public half, which `driftward key "
            "checkpoint-public` writes, and never let the private one leave its machine",
            problem=WRONG_KIND,
        )
    try:
        key = load_pem_public_key(content)
    except Exception:  # noqa: BLE001 - the parser's errors are many
        raise CheckpointKeyError(
            f"{path} is no public key in PEM", problem=WRONG_KIND
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise CheckpointKeyError(
            f"public key {path} is of the wrong kind ({_kind(key)}): checkpoints are signed "
            "with an Ed25519 key",
            problem=WRONG_KIND,
        )
    return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _verifier_key(content: bytes, path: Path) -> PublicKey:
    try:
        name, identifier, encoded = content.decode("ascii").strip().split("+", 2)
        typed = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise CheckpointKeyError(
            f"{path} holds no public key: give PEM, or a line NAME+ID+KEY",
            problem=WRONG_KIND,
        ) from None
    key = PublicKey(typed[1:])
    if (
        len(typed) != 1 + 32
        or typed[:1] != ED25519_TYPE
        or key.identifier(name).hex() != identifier
    ):
        raise CheckpointKeyError(
            f"{path} holds a public key of the wrong kind, or a damaged one: checkpoints are "
            "signed with an Ed25519 key",
            problem=WRONG_KIND,
        )
    return key


def _kind(key: object) -> str:
    return type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey").strip("_")
