"""Files of vectors, written as they are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from vecdb.cli.progress import Progress

if TYPE_CHECKING:
    from vecdb_client import Client

    from vecdb.knowledge.vectors import Row
    from vecdb.knowledge.walk import FoundFile

# Enough for the client to keep two requests under way, little enough to
# show progress and to hold in memory.
_BLOCK_BYTES = 32 << 20


def upsert_file(client: Client, collection: str, found: FoundFile, quiet: bool) -> int:
    """Writes every row of a .npy, .fvecs or .bvecs file; says how many there were.

    Ids, texts and payloads come from the file beside it (docs/knowledge.md);
    without one the ids are row numbers. Writing a file again replaces the same
    documents, so an interrupted run can be repeated.

    Raises SourceError for a file that cannot be used, and what the client raises.
    """
    from vecdb.knowledge.source import Limits
    from vecdb.knowledge.vectors import iter_vectors, open_vectors

    matrix = open_vectors(found.path, found.name)
    rows, dimension = matrix.shape
    # The limits protect a server from what it is sent; this is the user's own file.
    blocks = iter_vectors(
        matrix,
        found.name,
        _rows_beside(found),
        block_rows=max(1, _BLOCK_BYTES // (4 * dimension)),
        limits=Limits(max_records=sys.maxsize),
    )
    with Progress(found.name, rows, unit="rows", quiet=quiet) as progress:
        for block in blocks:
            client.upsert(
                collection,
                ids=block.ids,
                vectors=block.vectors,
                payloads=block.payloads if any(block.payloads) else None,
                texts=block.texts if any(block.texts) else None,
            )
            progress.advance(len(block.ids))
    return int(rows)


def _rows_beside(found: FoundFile) -> list[Row] | None:
    from vecdb.knowledge.source import Limits
    from vecdb.knowledge.vectors import find_rows_beside, read_rows

    beside = find_rows_beside(found.path)
    if beside is None:
        return None
    return read_rows(beside.as_posix(), beside.read_bytes(), Limits(max_records=sys.maxsize))
