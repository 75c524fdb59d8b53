"""Canonical JSON and digests: one byte string per value, so that it can be hashed."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from enum import Enum
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def canonical_bytes(value: Json) -> bytes:
    r"""Return the canonical UTF-8 JSON of `value`.

    Keys are sorted, white space is absent, floats are written in their
    shortest form that reads back equal, and NaN or infinity is refused
    (RFC 8785 in spirit; full number formatting follows where exports need it).

    Raises
    ------
    ValueError
        For a float that is not finite.

    >>> canonical_bytes({"b": 1, "a": [True, None, "é"]})
    b'{"a":[true,null,"\xc3\xa9"],"b":1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Json) -> str:
    """Return the SHA-256 of the canonical JSON of `value`."""
    return sha256(canonical_bytes(value))


def to_json(value: object) -> Json:
    """Turn a column value into JSON: bytes become their digest, times become ISO 8601 in UTC.

    Raises
    ------
    TypeError
        For a type that has no canonical form here.
    """
    match value:
        case Enum():
            return to_json(value.value)
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return "sha256:" + sha256(value)
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds")
        case list() | tuple():
            return [to_json(item) for item in value]
        case dict():
            return {str(key): to_json(item) for key, item in value.items()}
        case _:
            raise TypeError(f"no canonical form for {type(value).__name__}")


def merkle_root(leaves: list[str]) -> str:
    """Return the Merkle root of hexadecimal leaf digests, as RFC 6962 section 2.1 hashes them.

    Leaves and nodes are hashed under different prefixes, so that a node can
    never pass for a leaf. No leaves give the hash of the empty string.
    """
    if not leaves:
        return sha256(b"")
    level = [hashlib.sha256(b"\x00" + bytes.fromhex(leaf)).digest() for leaf in leaves]
    while len(level) > 1:
        paired = [
            hashlib.sha256(b"\x01" + left + right).digest()
            for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        # RFC 6962 promotes a lone last node unchanged.
        level = paired + level[len(paired) * 2 :]
    return level[0].hex()
