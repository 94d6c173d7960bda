"""The content hash: one number for what a shard contains, whatever its layout.

It is a multiset hash: every document is hashed alone (BLAKE2b, 256 bits) over its id, version, raw vector,
payload and text, and the digests are added modulo 2**256. Addition commutes and has inverses, so documents
come and go in any order at the cost of one digest each, and replicas that sealed, merged or rebuilt at other
times still agree. (AdHash in M. Bellare, D. Micciancio, "A New Paradigm for Collision-Free Hashing:
Incrementality at Reduced Cost", EUROCRYPT 1997. At 256 bits it detects divergence and damage; it is no proof
against someone who chooses documents to collide, which the generalized birthday attack makes cheaper than
2**128.)

Nothing computed from floats enters it, only the bytes that were written: norms differ in their last bits
between processors.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Final

MODULUS: Final = 1 << 256
DIGEST_BYTES: Final = 32

_HEAD = Struct("<IqIq")  # bytes of id, version, bytes of payload, bytes of text (-1: none)


def document_digest(
    id_: bytes, version: int, vector: bytes | memoryview, payload: bytes, text: bytes | None
) -> bytes:
    """The digest of one document. Lengths come first, so that no two documents share their hashed bytes."""
    head = _HEAD.pack(len(id_), version, len(payload), -1 if text is None else len(text))
    digest = blake2b(head, digest_size=DIGEST_BYTES, person=b"vecdb.document")
    digest.update(id_)
    digest.update(vector)
    digest.update(payload)
    if text:
        digest.update(text)
    return digest.digest()


class MultisetHash:
    """A running sum of digests."""

    __slots__ = ("_sum",)

    def __init__(self, stored: bytes = bytes(DIGEST_BYTES)) -> None:
        self._sum = int.from_bytes(stored, "little")

    def add(self, digest: bytes) -> None:
        """A document came."""
        self._sum += int.from_bytes(digest, "little")

    def subtract(self, digest: bytes) -> None:
        """A document went."""
        self._sum -= int.from_bytes(digest, "little")

    def digest(self) -> bytes:
        """The sum modulo 2**256, 32 bytes, little-endian."""
        return (self._sum % MODULUS).to_bytes(DIGEST_BYTES, "little")
