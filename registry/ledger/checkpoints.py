"""Checkpoints: what was signed of the ledger at one time, to be kept elsewhere.

A checkpoint is a C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint), as
transparency logs use it, in a C2SP signed note: origin, number of entries, and
the root of the RFC 6962 Merkle tree over the entries' canonical bytes; the time
follows as an extension line. One that is kept where nobody can change it shows
whether the entries up to its size are those that were there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.errors import CheckpointError
from registry.ledger.checkpoint_keys import PublicKey, SigningKey
from registry.ledger.record import LedgerEntry

LARGEST = 1 << 16
ROOT_BYTES = 32
#: What can be wrong with a checkpoint, as `CheckpointError.problem` and the ledger say it.
MALFORMED, ALTERED, UNKNOWN_SIGNER = "malformed", "altered", "unknown signer"
OTHER_LEDGER, FUTURE, UNREADABLE = "other ledger", "future", "unreadable"
_DASH = "\u2014"
_TIME = "time "


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The first `size` entries of a ledger, as one root."""

    #: which ledger: `ledger_origin`
    origin: str
    size: int
    #: RFC 6962 tree hash, 32 bytes
    root: bytes
    #: when it was made
    at: datetime

    def __post_init__(self) -> None:
        if self.at.utcoffset() is None:
            raise ValueError("a checkpoint's time must carry a zone")
        if self.size < 0 or len(self.root) != ROOT_BYTES:
            raise ValueError("a checkpoint has a size and a root of 32 bytes")

    @property
    def text(self) -> str:
        """What is signed."""
        at = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        root = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{root}\n{_TIME}{at}\n"


def ledger_origin(session: Session) -> str | None:
    """Return the name of this ledger, which its first entry gives it; None while it is empty."""
    digest = session.scalar(select(LedgerEntry.digest).where(LedgerEntry.sequence == 1))
    return None if digest is None else origin_of(digest)


def origin_of(first_digest: str) -> str:
    """Return the name of the ledger whose first entry has this digest."""
    return f"driftward/{first_digest[:16]}"


def sign(checkpoint: Checkpoint, key: SigningKey) -> bytes:
    """Return a checkpoint as a signed note."""
    text = checkpoint.text
    identifier = key.public.identifier(checkpoint.origin)
    signature = base64.b64encode(identifier + key.sign(text.encode())).decode()
    return f"{text}\n{_DASH} {checkpoint.origin} {signature}\n".encode()


def read_checkpoint(note: bytes, keys: Sequence[PublicKey], *, source: str) -> Checkpoint:
    """Return the checkpoint in a note that one of some keys signed.

    Signatures by other keys are passed over, so that a witness may add its own.

    Parameters
    ----------
    source : where it comes from, for errors

    Raises
    ------
    CheckpointError
        If it is malformed, altered, or signed by none of the keys.
    """
    text, signatures = _parts(note, source)
    checkpoint = _checkpoint(text, source)
    known = 0
    for name, identifier, signature in signatures:
        for key in keys:
            if name != checkpoint.origin or key.identifier(name) != identifier:
                continue
            known += 1
            try:
                key.verify(signature, text.encode())
            except InvalidSignature:
                raise CheckpointError(
                    f"{source} was altered: its signature does not hold", problem=ALTERED
                ) from None
    if not known:
        given = ", ".join(key.fingerprint for key in keys)
        raise CheckpointError(
            f"{source} is not signed by the key that was given ({given}): it is another "
            "installation's, or was signed with a key that was replaced since; give that one's "
            "public half with --public-key",
            problem=UNKNOWN_SIGNER,
        )
    return checkpoint


def _parts(note: bytes, source: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Split a note into its text and its signatures: name, key identifier, signature."""
    if len(note) > LARGEST:
        raise _malformed(source, "it is larger than a checkpoint is")
    try:
        content = note.decode()
    except UnicodeDecodeError:
        raise _malformed(source, "it is not UTF-8 text") from None
    if any(character < " " and character != "\n" for character in content):
        raise _malformed(source, "it has control characters")
    text, blank, tail = content.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise _malformed(source, "it has no signature")
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        try:
            dash, name, encoded = line.split(" ")
            decoded = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise _malformed(source, "a signature line cannot be read") from None
        if dash != _DASH or not name or len(decoded) <= 4:
            raise _malformed(source, "a signature line cannot be read")
        signatures.append((name, decoded[:4], decoded[4:]))
    return text + "\n", signatures


def _checkpoint(text: str, source: str) -> Checkpoint:
    origin, *rest = text.removesuffix("\n").split("\n")
    if len(rest) < 2 or not origin or not all(rest):
        raise _malformed(source, "it lacks origin, size or root")
    size, root, *extensions = rest
    if not (size.isascii() and size.isdecimal()) or str(int(size)) != size:
        raise _malformed(source, "its size is no number")
    try:
        decoded = base64.b64decode(root, validate=True)
    except binascii.Error:
        decoded = b""
    if len(decoded) != ROOT_BYTES:
        raise _malformed(source, "its root is no hash of 32 bytes")
    times = [line.removeprefix(_TIME) for line in extensions if line.startswith(_TIME)]
    try:
        [time] = times
        at = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise _malformed(source, "it does not say when it was made") from None
    if int(size) > 2**53:
        raise _malformed(source, "its size is absurd")
    return Checkpoint(origin=origin, size=int(size), root=decoded, at=at)


def _malformed(source: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"{source} is no checkpoint: {why}; give a file that `driftward audit checkpoint` wrote",
        problem=MALFORMED,
    )
