"""What waits to be sent to one peer."""

from __future__ import annotations

from collections import deque

from vecdb_replication import raft
from vecdb_replication.transport.codec import MAX_MESSAGES, Addressed

# What a frame has beside its messages, by a wide margin.
_FRAME_OVERHEAD = 4_096
# What a message counts for beside its entries, so that empty ones fill a lane too.
_OVERHEAD = 64
# What an entry takes in a frame beside its data; never more.
_IN_FRAME = 20
_HEAVY = frozenset({raft.MessageType.APP, raft.MessageType.SNAP})


def weight(message: raft.Message) -> int:
    """Bytes that a message takes, nearly; never too few."""
    size = _OVERHEAD + len(message.context)
    for entry in message.entries:
        size += _OVERHEAD + len(entry.data)
    if message.snapshot is not None:
        size += _OVERHEAD + len(message.snapshot.data)
    return size


def fits(message: raft.Message, size: int, piece: int, frame: int, entry: int) -> bool:
    """Whether a message of weight `size` can be sent at all: in frames of at most `frame` bytes.

    Its first entry may have up to `entry` bytes: all but `piece` bytes of that go ahead.
    """
    first = len(message.entries[0].data) if message.entries else 0
    rest = size - first - (_OVERHEAD - _IN_FRAME) * len(message.entries)
    return first <= entry and rest + min(first, piece) + _FRAME_OVERHEAD <= frame


class _Lane:
    __slots__ = ("bytes", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, raft.Message, int]] = deque()
        self.bytes = 0

    def put(self, group: int, message: raft.Message, size: int) -> None:
        self.waiting.append((group, message, size))
        self.bytes += size

    def take(self, taken: list[Addressed], room: int, limit: int) -> int:
        """Move messages over, the first in any case and others while there is room; the room left."""
        first = True
        while self.waiting and len(taken) < limit:
            group, message, size = self.waiting[0]
            if size > room and not first:
                break
            first = False
            self.waiting.popleft()
            self.bytes -= size
            room -= size
            taken.append((group, message))
        return room


class Lanes:
    """Two bounded queues: appends and snapshots in one, all else in the other, which goes first.

    Otherwise megabytes for one group would hold up the heartbeats of all, and
    with them the votes of their followers. Raft allows for it: nothing that
    goes first depends on an append having arrived. Appends of one group stay
    in order, which spares them being rejected.

    Each lane takes `max_messages` and `max_bytes`; an empty one takes a message
    of any size. What comes later is refused: what waits already is older and
    makes sense without it, but not the other way round.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._light = _Lane()
        self._heavy = _Lane()

    def __len__(self) -> int:
        return len(self._light.waiting) + len(self._heavy.waiting)

    @property
    def bytes(self) -> int:
        """How much waits."""
        return self._light.bytes + self._heavy.bytes

    @property
    def relaxed(self) -> bool:
        """Whether both lanes are less than half full."""
        return all(
            2 * len(lane.waiting) < self._max_messages and 2 * lane.bytes < self._max_bytes
            for lane in (self._light, self._heavy)
        )

    def put(self, group: int, message: raft.Message, size: int) -> bool:
        """Queue a message of `size` bytes; false where there is no room for it."""
        lane = self._heavy if message.type in _HEAVY else self._light
        full = len(lane.waiting) >= self._max_messages or lane.bytes + size > self._max_bytes
        if lane.waiting and full:
            return False
        lane.put(group, message, size)
        return True

    def take(self, max_bytes: int) -> list[Addressed]:
        """The next messages to send: at most so many bytes and 4,096 of them, but one of each lane.

        Otherwise an append as large as a frame would wait for as long as anything else comes.
        """
        taken: list[Addressed] = []
        limit = MAX_MESSAGES - 1 if self._heavy.waiting else MAX_MESSAGES
        room = self._light.take(taken, max_bytes, limit)
        self._heavy.take(taken, room, MAX_MESSAGES)
        return taken

    def take_light(self, max_bytes: int) -> list[Addressed]:
        """The next of what goes first, which may be nothing."""
        taken: list[Addressed] = []
        self._light.take(taken, max_bytes, MAX_MESSAGES)
        return taken

    def clear(self) -> list[Addressed]:
        """Take all out."""
        left = [(group, message) for lane in (self._light, self._heavy) for group, message, _ in lane.waiting]
        self._light, self._heavy = _Lane(), _Lane()
        return left
