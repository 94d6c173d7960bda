"""Sizes of entries, computed rather than encoded.

The limits on messages and batches count the bytes that an entry takes in etcd's protobuf encoding
(raftpb.Entry, proto2: type, term and index are always written, data when there is any), so that a
limit means the same here and there. Limits on what is uncommitted or in flight count payloads
only, which keeps the empty entries of new leaders free.
"""

from collections.abc import Iterable, Sequence

from .messages import Entry


def varint_size(value: int) -> int:
    """Bytes of `value`, unsigned, as a protobuf varint: seven bits a byte."""
    return 1 if value < 0x80 else (value.bit_length() + 6) // 7


def entry_size(entry: Entry) -> int:
    """Bytes of one encoded entry."""
    size = 4 + varint_size(entry.term) + varint_size(entry.index)
    length = len(entry.data)
    return size + 1 + varint_size(length) + length if length else size


def entries_size(entries: Iterable[Entry]) -> int:
    """Bytes of encoded entries, one after the other."""
    return sum(entry_size(entry) for entry in entries)


def payload_size(entries: Iterable[Entry]) -> int:
    """Bytes of the entries' data alone."""
    return sum(len(entry.data) for entry in entries)


def limit_size(entries: Sequence[Entry], max_size: int) -> Sequence[Entry]:
    """The longest prefix of at most `max_size` encoded bytes, but never less than one entry."""
    if len(entries) < 2:
        return entries
    size = 0
    for position, entry in enumerate(entries):
        size += entry_size(entry)
        if size > max_size and position > 0:
            return entries[:position]
    return entries
