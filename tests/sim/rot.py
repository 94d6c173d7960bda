"""Bits that turn on a disk at rest, where the log has to notice."""

from __future__ import annotations

import random

from vecdb_replication.wal import LogDamaged
from vecdb_replication.wal.codec import HEADER_BYTES, SegmentHeader
from vecdb_replication.wal.scan import records

from tests.sim.facts import fail
from tests.sim.node import SimNode


def flip(node: SimNode, dice: random.Random) -> bool:
    """Turn a bit that whole records follow, in the log of a node that is down. False where there is none.

    One in the last record of all looks like a torn write, and is taken for one: see docs/log.md.
    """
    image = node.disk.image()
    logs = [path for path in image if path.suffix == ".log"]
    if not logs:
        return False
    path = dice.choice(logs)
    raw = image[path]
    end = len(raw)
    if path == logs[-1]:
        header = SegmentHeader.decode(raw)
        if header is None:
            return False
        found = list(records(memoryview(raw), HEADER_BYTES, header.seed))
        end = found[-1].offset if len(found) > 1 else 0
    if not end:
        return False
    node.disk.flip(path, dice.randrange(end * 8))
    return True


def start_damaged(node: SimNode) -> None:
    """Open a log with a flipped bit: it has to be noticed."""
    try:
        log = node.opened()
    except LogDamaged:
        return
    log.close()
    fail(f"node {node.number} opened a log with a flipped bit")
