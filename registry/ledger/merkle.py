"""The Merkle tree of RFC 6962, grown leaf by leaf: what checkpoints are signed over."""

from __future__ import annotations

import hashlib


class MerkleTree:
    """A tree that is only appended to; keeps one hash for each bit of its size."""

    def __init__(self) -> None:
        self.size = 0
        #: roots of perfect subtrees, the largest first
        self._roots: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        """Append one leaf's content."""
        node = hashlib.sha256(b"\x00" + leaf).digest()
        size = self.size
        while size & 1:
            node = hashlib.sha256(b"\x01" + self._roots.pop() + node).digest()
            size >>= 1
        self._roots.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the Merkle tree hash of every leaf so far (RFC 6962 section 2.1), 32 bytes."""
        if not self._roots:
            return hashlib.sha256(b"").digest()
        root = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            root = hashlib.sha256(b"\x01" + left + root).digest()
        return root
