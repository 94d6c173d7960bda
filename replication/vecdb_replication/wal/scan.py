"""Reading a segment's bytes: whole records, and what lies behind the first that is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crc32c import crc32c

from vecdb_replication.wal.codec import HEAD_BYTES, Head, Item, decode_items, record_magic, run_of


@dataclass(frozen=True, slots=True)
class Record:
    """A verified record: its head, its place, its items and where their data begins."""

    head: Head
    offset: int
    items: list[Item]
    data_offset: int
    raw_head: bytes

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + self.head.size


def read_record(segment: memoryview, offset: int, seed: int) -> Record | None:
    """The record at `offset`, every byte of it verified; None where there is no valid one.

    ValueError for a record whose bytes are right but whose content is not understood.
    """
    head = Head.decode(segment, seed, offset)
    if head is None or offset + head.size > len(segment):
        return None
    data_offset = offset + HEAD_BYTES + head.meta_bytes
    meta = segment[offset + HEAD_BYTES : data_offset]
    if crc32c(meta) != head.meta_check:
        return None
    items = decode_items(meta)
    if not _data_is_whole(items, segment[data_offset : offset + head.size]):
        return None
    return Record(head, offset, items, data_offset, bytes(segment[offset : offset + HEAD_BYTES]))


def _data_is_whole(items: list[Item], data: memoryview) -> bool:
    at = 0
    for run in filter(None, map(run_of, items)):
        for length, check in zip(run.lengths, run.checks, strict=True):
            if crc32c(data[at : at + length]) != check:
                return False
            at += length
    return at == len(data)


def records(segment: memoryview, offset: int, seed: int) -> Iterator[Record]:
    """The records from `offset` on, up to the end or the first that is not valid."""
    while (record := read_record(segment, offset, seed)) is not None:
        yield record
        offset = record.end


def proof_behind(segment: memoryview, bad: int, seed: int) -> int | None:
    """Where something behind the bad bytes proves that they were whole once, or None: a tear.

    Two things prove it. A whole record: then the write that tore was not the last one. And the mere
    head of a record which says that more than `bad` bytes were durable when it was written: then the
    bad bytes had been synced, even if that later record is itself torn. The length field at `bad`
    cannot be trusted, so the magic is looked for at every byte; the salted check of the head keeps
    chance look-alikes from costing more than these 40 bytes each.
    """
    raw = segment.obj
    assert isinstance(raw, bytes), "segments are read as bytes"
    magic = record_magic(seed)
    at = raw.find(magic, bad + 1)
    while at >= 0:
        head = Head.decode(segment, seed, at)
        if head is not None and (head.durable > bad or _is_whole(segment, at, seed)):
            return at
        at = raw.find(magic, at + 1)
    return None


def _is_whole(segment: memoryview, offset: int, seed: int) -> bool:
    try:
        return read_record(segment, offset, seed) is not None
    except ValueError:
        return True
