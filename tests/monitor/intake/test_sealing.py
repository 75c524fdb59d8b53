from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from dicom_instances import as_file, radiograph

from monitor.intake.reading import read_instance
from monitor.intake.sealing import Sealer, unseal
from registry.errors import BadInputError, IntegrityError

INSTANCE = read_instance(
    as_file(radiograph(SpecificCharacterSet="ISO_IR 192", IssuerOfPatientID="山田"))
)


def write_pair(
    folder: Path, name: str = "key", *, password: bytes | None = None
) -> tuple[Path, Path]:
    """Write a key pair as `openssl genpkey -algorithm x25519` does; return public, private."""
    key = X25519PrivateKey.generate()
    public, private = folder / f"{name}.pub.pem", folder / f"{name}.pem"
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return public, private


def test_the_private_key_opens_what_the_public_one_sealed(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path)
    sealed = Sealer.from_file(public).seal(INSTANCE)
    assert unseal(sealed, private_key=private) == {
        "PatientID": "4711-0815",
        "IssuerOfPatientID": "山田",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.3",
        "SOPInstanceUID": "1.2.826.0.1.3680043.8.498.1",
    }
    for needle in (b"4711", b"1.2.826"):
        assert needle not in sealed


def test_the_same_originals_never_look_alike(tmp_path: Path) -> None:
    sealer = Sealer.from_file(write_pair(tmp_path)[0])
    assert sealer.seal(INSTANCE)[:48] != sealer.seal(INSTANCE)[:48]


def test_a_private_key_may_have_a_password(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path, password=b"secret")
    sealed = Sealer.from_file(public).seal(INSTANCE)
    assert unseal(sealed, private_key=private, password=b"secret")["PatientID"] == "4711-0815"
    for password in (None, b"wrong"):
        with pytest.raises(BadInputError, match="cannot be read"):
            unseal(sealed, private_key=private, password=password)


def test_another_key_or_a_changed_text_opens_nothing(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path)
    _, other = write_pair(tmp_path, "other")
    sealed = Sealer.from_file(public).seal(INSTANCE)
    with pytest.raises(IntegrityError, match="not sealed to"):
        unseal(sealed, private_key=other)
    for position in (0, 40, -1):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(IntegrityError):
            unseal(bytes(changed), private_key=private)
    for length in (0, 20, 32, 40):
        with pytest.raises(IntegrityError):
            unseal(sealed[:length], private_key=private)


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    public, private = write_pair(tmp_path)
    text = tmp_path / "text.pem"
    text.write_text("no key")
    signing = tmp_path / "signing.pem"
    signing.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    for path in (text, tmp_path / "absent.pem", private):
        with pytest.raises(BadInputError, match="public key"):
            Sealer.from_file(path)
    for path in (text, tmp_path / "absent.pem", public, signing):
        with pytest.raises(BadInputError, match="private key"):
            unseal(bytes(64), private_key=path)
