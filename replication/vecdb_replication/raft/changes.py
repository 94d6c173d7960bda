"""Changes of membership as entries carry them, and their encoding.

The encoding is the protobuf one of etcd's ConfChange and ConfChangeV2, so that sizes and traces
compare. It has three kinds of fields only, hence the few lines of it here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from .messages import Entry, EntryType


class ChangeType(IntEnum):
    """What happens to one node."""

    ADD_VOTER = 0
    REMOVE = 1
    UPDATE = 2
    ADD_LEARNER = 3


class Transition(IntEnum):
    """How the group gets to the new membership.

    AUTO uses joint consensus for more than one change. IMPLICIT always does, and leaves the joint
    state by itself; EXPLICIT stays in it until an empty change is proposed.
    """

    AUTO = 0
    IMPLICIT = 1
    EXPLICIT = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One node's change. Node 0 means none: it is skipped when applied."""

    type: ChangeType
    node: int


@dataclass(frozen=True, slots=True)
class ConfChange:
    """A change of membership, applied as a whole.

    One with neither changes nor a transition leaves a joint state. `context` is opaque and goes to
    whoever applies it. `v1` asks for the older encoding, which holds exactly one change.
    """

    changes: tuple[Change, ...] = ()
    transition: Transition = Transition.AUTO
    context: bytes = b""
    v1: bool = False

    @property
    def leaves_joint(self) -> bool:
        """Whether this ends a joint state."""
        return not self.changes and self.transition is Transition.AUTO

    @property
    def enters_joint(self) -> bool:
        """Whether this begins a joint state."""
        return self.transition is not Transition.AUTO or len(self.changes) > 1

    @property
    def auto_leave(self) -> bool:
        """Whether the joint state that this begins is left without being asked."""
        return self.transition is not Transition.EXPLICIT


def to_entry(change: ConfChange) -> Entry:
    """The entry to propose. Raises ValueError for a v1 change that is not exactly one change."""
    if change.v1:
        if len(change.changes) != 1 or change.transition is not Transition.AUTO:
            raise ValueError("a v1 change holds exactly one change and no transition")
        (single,) = change.changes
        data = _varint_field(1, 0) + _varint_field(2, single.type) + _varint_field(3, single.node)
        return Entry(
            type=EntryType.CONF_CHANGE,
            data=data + (_bytes_field(4, change.context) if change.context else b""),
        )
    parts = [_varint_field(1, change.transition)]
    parts += [
        _bytes_field(2, _varint_field(1, single.type) + _varint_field(2, single.node))
        for single in change.changes
    ]
    if change.context:
        parts.append(_bytes_field(3, change.context))
    return Entry(type=EntryType.CONF_CHANGE_V2, data=b"".join(parts))


def from_entry(entry: Entry) -> ConfChange:
    """The change that an entry carries.

    Raises ValueError if the entry's data is not an encoded change, or the entry is a normal one.
    """
    if entry.type is EntryType.CONF_CHANGE:
        kind, node, context = 0, 0, b""
        for number, value in _fields(entry.data):
            match number, value:
                case 2, int():
                    kind = value
                case 3, int():
                    node = value
                case 4, bytes():
                    context = value
        return ConfChange((Change(ChangeType(kind), node),), context=context, v1=True)
    if entry.type is not EntryType.CONF_CHANGE_V2:
        raise ValueError("a normal entry holds no change of membership")
    transition, changes, context = 0, [], b""
    for number, value in _fields(entry.data):
        match number, value:
            case 1, int():
                transition = value
            case 2, bytes():
                single = dict(_fields(value))
                changes.append(Change(ChangeType(_number(single, 1)), _number(single, 2)))
            case 3, bytes():
                context = value
    return ConfChange(tuple(changes), Transition(transition), context)


def _number(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    if isinstance(value, bytes):
        raise ValueError(f"field {number} of a change is no number")
    return value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a change of membership is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value & (2**64 - 1), at


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The (number, value) pairs of an encoded message; raises ValueError where it is none."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        match key & 7:
            case 0:
                yield key >> 3, value
            case 2:
                end = at + value
                if end > len(data):
                    raise ValueError("a change of membership is cut short")
                yield key >> 3, data[at:end]
                at = end
            case wire:
                raise ValueError(f"a change of membership has a field of wire type {wire}")
