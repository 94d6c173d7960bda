"""The bytes of a segment: a header, then records.

    segment = header (64 bytes) record*
    record  = head (40 bytes) meta (msgpack) data
    data    = the data of the record's entries, one behind the other

A record is what one append wrote, for however many groups, so that a torn write is torn in exactly
one record. `meta` holds everything but the entries' data, with a CRC32C for each of those: an entry
is read back and verified alone, and each byte of data is checksummed once in its life.

Checks are salted with random bytes of the segment's header and with the record's offset. Entry data
may well contain bytes of a log (a backup of one, or an attacker's idea of one); without the salt
such bytes behind a tear would pass for a record. The record magic itself is taken from the salt, so
that nobody who does not read the disk can fill an entry with it and make the search behind a tear slow.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
from crc32c import crc32c

from vecdb_replication.wal.types import HardState, SnapshotMark, Tombstone

FORMAT = 1
SALT_BYTES = 16

# magic, format, sequence, first lsn, length and chain of the segment before, salt; then a CRC32C.
# A promise to later formats: these 64 bytes stay, so that every version can name the one it meets.
_SEGMENT = struct.Struct("<8sIQQQI16s4x")
_SEGMENT_MAGIC = b"VECDBLOG"
HEADER_BYTES = _SEGMENT.size + 4

# magic, length of meta, length of data, lsn, durable offset, CRC32C of meta; then one of all these.
_HEAD = struct.Struct("<4sIQQQI")
HEAD_BYTES = _HEAD.size + 4

_CRC = struct.Struct("<I")
_OFFSET = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself and of the one before it.

    `lsn` numbers the first record; records are numbered across segments. `previous_bytes` and
    `previous_chain` pin the end of the segment before: its length and the chain over its records.
    """

    sequence: int
    lsn: int
    previous_bytes: int
    previous_chain: int
    salt: bytes
    format: int = FORMAT

    @property
    def seed(self) -> int:
        """The value from which the checks of this segment's records start."""
        return int(crc32c(self.salt))

    def encode(self) -> bytes:
        """The header's 64 bytes."""
        body = _SEGMENT.pack(
            _SEGMENT_MAGIC,
            self.format,
            self.sequence,
            self.lsn,
            self.previous_bytes,
            self.previous_chain,
            self.salt,
        )
        return body + _CRC.pack(crc32c(body))

    @classmethod
    def decode(cls, raw: bytes | memoryview) -> SegmentHeader | None:
        """The header in the first 64 bytes, of whatever format; None where there is no valid one."""
        raw = bytes(raw[:HEADER_BYTES])
        if len(raw) < HEADER_BYTES or raw[-4:] != _CRC.pack(crc32c(raw[:-4])):
            return None
        magic, version, sequence, lsn, length, chain, salt = _SEGMENT.unpack(raw[:-4])
        return cls(sequence, lsn, length, chain, salt, version) if magic == _SEGMENT_MAGIC else None


@dataclass(frozen=True, slots=True)
class Head:
    """The fixed part of a record. `durable` is how much of the segment was synced when it was written."""

    meta_bytes: int
    data_bytes: int
    lsn: int
    durable: int
    meta_check: int

    @property
    def size(self) -> int:
        """Bytes of the whole record."""
        return HEAD_BYTES + self.meta_bytes + self.data_bytes

    def encode(self, seed: int, offset: int) -> bytes:
        """The record's first 40 bytes, when it lies at `offset` of a segment with that seed."""
        body = _HEAD.pack(
            record_magic(seed), self.meta_bytes, self.data_bytes, self.lsn, self.durable, self.meta_check
        )
        return body + _CRC.pack(crc32c(body, _place(seed, offset)))

    @classmethod
    def decode(cls, raw: memoryview, seed: int, offset: int) -> Head | None:
        """The head at `offset` of the segment `raw`; None where there is no valid one."""
        body = raw[offset : offset + HEAD_BYTES]
        if len(body) < HEAD_BYTES or body[:4] != record_magic(seed):
            return None
        if body[-4:] != _CRC.pack(crc32c(body[:-4], _place(seed, offset))):
            return None
        return cls(*_HEAD.unpack(body[:-4])[1:])


def record_magic(seed: int) -> bytes:
    """The first four bytes of every record of a segment with that seed."""
    return _CRC.pack(seed)


def _place(seed: int, offset: int) -> int:
    return int(crc32c(_OFFSET.pack(offset), seed))


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive entries without their data: column by column, from index `first`."""

    first: int
    terms: Sequence[int]
    kinds: bytes
    lengths: Sequence[int]
    checks: Sequence[int]

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def data_bytes(self) -> int:
        """Bytes of the entries' data."""
        return sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Update:
    """A `GroupUpdate` as it is logged. `reset` records whether the snapshot emptied the log.

    That is decided once, when the update is made, because a replay that starts behind dropped
    segments cannot know the terms of entries that were dropped.
    """

    group: int
    hard_state: HardState | None = None
    snapshot: SnapshotMark | None = None
    reset: bool = False
    tombstone: Tombstone | None = None
    run: Run | None = None


@dataclass(frozen=True, slots=True)
class Relocation:
    """Live entries of an old segment, written again so that it can be dropped. Changes no content."""

    group: int
    run: Run


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that is known of a group but its entries, as every segment tells it first."""

    group: int
    hard_state: HardState
    snapshot: SnapshotMark | None
    tombstone: Tombstone | None
    last_index: int


Item = Update | Relocation | Checkpoint

_UPDATE, _RELOCATION, _CHECKPOINT = 0, 1, 2


def encode_items(items: Sequence[Item]) -> bytes:
    """The `meta` of a record."""
    packed: bytes = msgpack.packb([_encode(item) for item in items])
    return packed


def _encode(item: Item) -> list[Any]:
    if isinstance(item, Relocation):
        return [_RELOCATION, item.group, *_encode_run(item.run)]
    fixed = [_encode_state(item.hard_state), _encode_mark(item.snapshot), _encode_stone(item.tombstone)]
    if isinstance(item, Checkpoint):
        return [_CHECKPOINT, item.group, *fixed, item.last_index]
    run = _encode_run(item.run) if item.run else []
    return [_UPDATE, item.group, *fixed, item.reset, *run]


def _encode_run(run: Run) -> list[Any]:
    return [run.first, list(run.terms), run.kinds, list(run.lengths), list(run.checks)]


def _encode_state(state: HardState | None) -> list[int] | None:
    return None if state is None else [state.term, state.vote, state.commit]


def _encode_mark(mark: SnapshotMark | None) -> list[Any] | None:
    return None if mark is None else [mark.index, mark.term, mark.conf]


def _encode_stone(stone: Tombstone | None) -> int | None:
    return None if stone is None else stone.replica_id


def decode_items(meta: bytes | memoryview) -> list[Item]:
    """The items of a record. ValueError where the bytes say something that this version cannot read."""
    try:
        return [_decode(*fields) for fields in msgpack.unpackb(meta)]
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise ValueError(f"a record of unknown content: {error}") from error


def _decode(code: int, group: int, *fields: Any) -> Item:
    if code == _RELOCATION:
        return Relocation(group, Run(*fields))
    hard_state = HardState(*fields[0]) if fields[0] is not None else None
    snapshot = SnapshotMark(*fields[1]) if fields[1] is not None else None
    tombstone = Tombstone(fields[2]) if fields[2] is not None else None
    if code == _CHECKPOINT:
        return Checkpoint(group, hard_state or HardState(), snapshot, tombstone, fields[3])
    if code == _UPDATE:
        run = Run(*fields[4:]) if len(fields) > 4 else None
        return Update(group, hard_state, snapshot, fields[3], tombstone, run)
    raise ValueError(f"unknown kind of item: {code}")


def run_of(item: Item) -> Run | None:
    """The entries that an item brings along, or None."""
    return None if isinstance(item, Checkpoint) else item.run
