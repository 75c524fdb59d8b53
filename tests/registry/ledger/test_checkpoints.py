"""Checkpoints: what is signed can be read again, and whatever is not so is refused by its name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import CheckpointError, CheckpointKeyError
from registry.ledger import checkpoint_keys, checkpoints
from registry.ledger.checkpoint_keys import (
    PublicKey,
    SigningKey,
    create_signing_key,
    load_public_key,
    load_signing_key,
)
from registry.ledger.checkpoints import Checkpoint, read_checkpoint, sign

CHECKPOINT = Checkpoint(
    origin="driftward/0123456789abcdef",
    size=20852163,
    root=bytes(range(32)),
    at=datetime(2026, 3, 2, 12, tzinfo=UTC),
)
SEED = bytes(range(32))


@pytest.fixture
def seeded() -> SigningKey:
    return SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(SEED))


def problem(note: bytes, *keys: PublicKey) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(note, keys, source="the file")
    assert "the file" in str(raised.value)
    return raised.value.problem


def test_a_checkpoint_is_a_signed_note_of_a_transparency_log(seeded: SigningKey) -> None:
    text, signature = sign(CHECKPOINT, seeded).decode().split("\n\n")
    assert text.splitlines() == [
        "driftward/0123456789abcdef",
        "20852163",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "time 2026-03-02T12:00:00Z",
    ]
    assert signature.startswith("— driftward/0123456789abcdef ")
    assert read_checkpoint(sign(CHECKPOINT, seeded), [seeded.public], source="f") == CHECKPOINT


def test_the_example_of_the_specification_is_verified(tmp_path: Path) -> None:
    # golang.org/x/mod/sumdb/note, whose keys and notes signed-note describes.
    (tmp_path / "key").write_text(
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    )
    key = load_public_key(tmp_path / "key")
    assert key.identifier("PeterNeumann").hex() == "c74f20a3"
    assert key.verifier("PeterNeumann") == (tmp_path / "key").read_text()
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    note = (
        f"{text}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgK"
        "vqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )
    [(_, identifier, signature)] = checkpoints._parts(note.encode(), "f")[1]
    assert identifier == key.identifier("PeterNeumann")
    key.verify(signature, text.encode())


@pytest.mark.parametrize(
    "change",
    [
        {"size": 20852162},
        {"root": bytes(32)},
        {"at": datetime(2026, 3, 2, 12, 0, 1, tzinfo=UTC)},
    ],
)
def test_an_altered_checkpoint_is_refused(
    seeded: SigningKey, change: dict[str, object]
) -> None:
    note = sign(CHECKPOINT, seeded).decode()
    altered = note.replace(CHECKPOINT.text, replace(CHECKPOINT, **change).text)  # type: ignore[arg-type]
    assert altered != note
    assert problem(altered.encode(), seeded.public) == checkpoints.ALTERED


def test_a_checkpoint_by_another_key_is_refused(seeded: SigningKey, key: SigningKey) -> None:
    assert problem(sign(CHECKPOINT, key), seeded.public) == checkpoints.UNKNOWN_SIGNER


def test_a_witness_may_sign_beside_and_both_keys_may_be_known(
    seeded: SigningKey, key: SigningKey
) -> None:
    own, witness = (sign(CHECKPOINT, one).decode() for one in (seeded, key))
    both = (own + witness.split("\n\n")[1]).encode()
    for keys in ([seeded.public], [key.public], [key.public, seeded.public]):
        assert read_checkpoint(both, keys, source="f") == CHECKPOINT


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\xff\xfe",
        b"driftward/0\n5\n",
        b"driftward/0\n5\nAAAA\n\n\xe2\x80\x94 driftward/0 AAAAAAA=\n",
        b"driftward/0\n05\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 driftward/0 AAAAAAA=\n",
        b"driftward/0\n-5\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 driftward/0 AAAAAAA=\n",
        b"driftward/0\n5\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 driftward/0 AAAAAAA=\n",
        b"driftward/0\n5\n"
        + b"A" * 43
        + b"=\ntime noon\n\n\xe2\x80\x94 driftward/0 AAAAAAA=\n",
        b"driftward/0\r\n5\n" + b"A" * 43 + b"=\n\n\xe2\x80\x94 driftward/0 AAAAAAA=\n",
        b"a\n5\n" + b"A" * 43 + b"=\ntime 2026-03-02T12:00:00Z\n\n\xe2\x80\x94 a not-base64\n",
        b"a" * (1 << 17),
    ],
)
def test_what_is_no_checkpoint_is_called_malformed(seeded: SigningKey, note: bytes) -> None:
    assert problem(note, seeded.public) == checkpoints.MALFORMED


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_nothing_that_is_read_is_anything_but_refused(note: bytes) -> None:
    with pytest.raises(CheckpointError):
        read_checkpoint(note, [PublicKey(bytes(32))], source="f")


def test_a_key_file_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.key"
    key = create_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(path).public == key.public
    assert load_signing_key(path.read_text()).public == key.public
    content = path.read_bytes()
    with pytest.raises(CheckpointKeyError, match="never overwritten"):
        create_signing_key(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def pem(key: object, password: bytes | None = None) -> bytes:
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)  # type: ignore[attr-defined, no-any-return]


def test_a_key_that_cannot_be_used_is_refused_by_its_name(tmp_path: Path) -> None:
    good = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "key"

    def said(content: bytes | None, mode: int = 0o600) -> str:
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
            path.chmod(mode)
        with pytest.raises(CheckpointKeyError) as raised:
            load_signing_key(path)
        assert str(path) in str(raised.value)
        return raised.value.problem

    assert said(None) == checkpoint_keys.MISSING
    assert said(pem(good), 0o640) == checkpoint_keys.OPEN
    assert said(pem(good, b"sesame")) == checkpoint_keys.LOCKED
    for wrong in (
        b"",
        b"no key",
        pem(x25519.X25519PrivateKey.generate()),
        pem(rsa.generate_private_key(65537, 2048)),
        good.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ):
        assert said(wrong) == checkpoint_keys.WRONG_KIND
    path.unlink()
    path.mkdir()
    with pytest.raises(CheckpointKeyError) as raised:
        load_signing_key(path)
    assert raised.value.problem == checkpoint_keys.UNREADABLE


def test_a_public_key_that_cannot_be_used_is_refused_by_its_name(
    tmp_path: Path, seeded: SigningKey
) -> None:
    path = tmp_path / "key"
    path.write_bytes(seeded.public.pem)
    assert load_public_key(path) == seeded.public
    line = seeded.public.verifier("driftward/0")
    path.write_text(line)
    assert load_public_key(path) == seeded.public
    strange = x25519.X25519PrivateKey.generate().public_key()
    for content, expected in (
        (pem(ed25519.Ed25519PrivateKey.generate()), "holds a private key"),
        (
            strange.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "of the wrong kind",
        ),
        (b"", "holds no public key"),
        (line.replace("driftward/0", "driftward/1").encode(), "or a damaged one"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointKeyError, match=expected) as raised:
            load_public_key(path)
        assert raised.value.problem == checkpoint_keys.WRONG_KIND
    with pytest.raises(CheckpointKeyError) as raised:
        load_public_key(tmp_path / "nowhere")
    assert raised.value.problem == checkpoint_keys.MISSING


def test_no_text_of_a_key_shows_it(seeded: SigningKey) -> None:
    assert SEED.hex() not in repr(seeded)
    assert "PrivateKey" not in repr(seeded)
