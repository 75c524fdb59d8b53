"""Canonical JSON and digests: one byte string per value, so that it can be hashed.

There are two forms. `jcs_bytes` is RFC 8785: what the ledger writes. `canonical_bytes` is
the form that the ledger began with, which writes floats as Python does (`1.0`, `1e-07`) and
sorts keys by code point. What was named by a digest of it (bundles, spaces, data sets,
specifications, the ledger's first entries) keeps its name, so that form never changes.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from enum import Enum
from typing import TypeAlias

import rfc8785

#: Beyond it, JSON's numbers tell integers apart no more (RFC 7493 section 2.2).
LARGEST_INTEGER = 2**53 - 1

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None


def canonical_bytes(value: Json) -> bytes:
    r"""Return the canonical UTF-8 JSON of `value`, in the form that names stored things.

    Keys are sorted by code point, white space is absent, floats are written in
    the shortest form that reads back equal, as Python writes it, and NaN or
    infinity is refused.

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


def jcs_bytes(value: Json) -> bytes:
    r"""Return the canonical UTF-8 JSON of `value` by RFC 8785 (JCS).

    Raises
    ------
    ValueError
        For a float that is not finite, an integer beyond 2^53 - 1, or text with
        half of a surrogate pair.

    >>> jcs_bytes({"b": 1.0, "a": [True, 1e-7, "é"]})
    b'{"a":[true,1e-7,"\xc3\xa9"],"b":1}'
    """
    # The C encoder is four times as fast, and writes most values as the RFC does.
    return canonical_bytes(value) if _alike(value) else rfc8785.dumps(value)


def _alike(value: Json) -> bool:
    """Say whether both forms write a value alike."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return -LARGEST_INTEGER <= value <= LARGEST_INTEGER  # type: ignore[operator]
    if kind is float:
        # Outside of this, one writes an exponent and the other does not, or not so.
        return 1e-4 <= abs(value) < 1e16 and not value.is_integer()  # type: ignore[arg-type, union-attr]
    if kind is list:
        return all(map(_alike, value))  # type: ignore[arg-type]
    # Among ASCII keys, the order of code points is that of UTF-16.
    return kind is dict and all(
        key.isascii() and _alike(item)
        for key, item in value.items()  # type: ignore[union-attr]
    )


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: Json) -> str:
    """Return the SHA-256 of the `canonical_bytes` of `value`."""
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
