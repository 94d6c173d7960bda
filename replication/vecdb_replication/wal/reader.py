"""Reading entries back: neighbours in one go, every one verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from crc32c import crc32c

from vecdb_replication.wal.errors import LogDamaged
from vecdb_replication.wal.group import Location
from vecdb_replication.wal.recovery import Segment
from vecdb_replication.wal.types import Entry

Wanted = tuple[int, Location]


def fetch(wanted: Sequence[Wanted], segments: Mapping[int, Segment]) -> Iterator[Entry]:
    """The entries at the given indexes and locations, in that order.

    Raises LogDamaged where the bytes are not those that were written.
    """
    for stretch in _stretches(wanted):
        first, last = stretch[0][1], stretch[-1][1]
        segment = segments[first.segment]
        length = last.offset + last.length - first.offset
        try:
            raw = segment.file.pread(first.offset, length)
        except OSError as error:
            raise LogDamaged(segment.path, first.offset, f"it cannot be read: {error}") from error
        for index, place in stretch:
            start = place.offset - first.offset
            data = raw[start : start + place.length]
            if crc32c(data) != place.check or len(data) != place.length:
                raise LogDamaged(segment.path, place.offset, f"entry {index} is not what was written")
            yield Entry(place.term, index, place.kind, data)


def _stretches(wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    """Cut where one entry's data does not begin where the data before it ends."""
    start = 0
    for at, ((_, before), (_, place)) in enumerate(pairwise(wanted), start=1):
        if (place.segment, place.offset) != (before.segment, before.offset + before.length):
            yield wanted[start:at]
            start = at
    if wanted:
        yield wanted[start:]
