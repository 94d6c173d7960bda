"""Names of chunks."""

from __future__ import annotations

import hashlib

# A document id is 1 to 512 bytes of UTF-8.
MAX_ID_BYTES = 512
# What is left for the source beside "#", an ordinal of up to 20 digits, "-" and 12 digits of a hash.
_MAX_SOURCE_BYTES = MAX_ID_BYTES - 34


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
    return f"{chunk_prefix(source)}{ordinal}-{digest}"


def chunk_prefix(source: str) -> str:
    """What the ids of a source's chunks begin with.

    Ids of a record in it ("data.jsonl#7#0-...") begin so too: look at the source that a chunk names.
    """
    encoded = source.encode()
    if len(encoded) > _MAX_SOURCE_BYTES:
        mark = "~" + hashlib.sha256(encoded).hexdigest()[:32]
        source = encoded[: _MAX_SOURCE_BYTES - len(mark)].decode("utf-8", "ignore") + mark
    return source + "#"
