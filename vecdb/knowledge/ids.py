"""Names of chunks."""

from __future__ import annotations

import hashlib

# A document id is 1 to 512 bytes of UTF-8.
MAX_ID_BYTES = 512


def chunk_id(source: str, ordinal: int, text: str) -> str:
    """The id of a chunk: "docs/guide.md#3-5f0c2a91d3be", at most 512 bytes.

    The same source, ordinal and text always give the same id, so an ingest that is repeated after a crash
    writes the same documents again and not others beside them. A chunk whose text changed has another id: the
    old one stays whole, and citable, until the new one is acknowledged.

    Args:
        source: name of the source. A long one is cut and its hash put in place of the rest.
        ordinal: the chunk's number in its source, from 0.
        text: the chunk's text.

    """
    digest = hashlib.sha256(source.encode() + b"\0" + text.encode()).hexdigest()[:12]
    tail = f"#{ordinal}-{digest}"
    room = MAX_ID_BYTES - len(tail)
    encoded = source.encode()
    if len(encoded) > room:
        mark = "~" + hashlib.sha256(encoded).hexdigest()[:32]
        source = encoded[: room - len(mark)].decode("utf-8", "ignore") + mark
    return source + tail
