"""A history of writes for shards, and where SQLite's log may be cut."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from vecdb_index import Delete, Update, Upsert, encode

DIM = 8


def mutation(random: np.random.Generator, number: int) -> bytes:
    """One entry of a history that upserts, rewrites, updates and deletes some hundred documents."""
    ids = [f"d{key}" for key in random.choice(400, 24, replace=False)]
    if number % 6 == 4:
        return encode(Delete(ids[:8]))
    if number % 6 == 5:
        return encode(Update(ids, b"\x81\xa1n\xcd" + number.to_bytes(2, "big")))
    vectors = random.standard_normal((24, DIM)).astype(np.float32)
    return encode(Upsert(ids, vectors, texts=[f"text {number}"] * 24, session=b"s", sequence=number))


def frame_ends(wal: Path) -> list[int]:
    """The lengths at which a SQLite log ends between two frames (its format: sqlite.org/fileformat2.html)."""
    data = wal.read_bytes()
    page = struct.unpack_from(">I", data, 8)[0]
    return list(range(32, len(data) + 1, 24 + page))


def synced_frames(database: Path) -> int:
    """How many frames of a SQLite log no power loss can take: those that a checkpoint has begun to move.

    SQLite syncs its log before it moves frames into the database, and notes how far in its shared memory
    (`nBackfillAttempted`, sqlite.org/walformat.html). A cut below would be no power loss but damage.
    """
    found: int = struct.unpack_from("=I", database.with_name(database.name + "-shm").read_bytes(), 128)[0]
    return found
