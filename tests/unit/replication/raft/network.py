"""A group in memory: cores, their storages, and a network that can be broken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from vecdb_replication.raft import (
    ConfChange,
    Config,
    ConfState,
    Entry,
    EntryType,
    MemoryStorage,
    Message,
    MessageType,
    RawNode,
    ReadState,
    Ready,
    Role,
    Snapshot,
    UnknownPeerError,
    from_entry,
)


def storage_with(
    *terms: int, voters: Iterable[int] = (1, 2, 3), learners: Iterable[int] = (), base: int = 0
) -> MemoryStorage:
    """A storage whose entries after index `base` have these terms."""
    storage = MemoryStorage()
    storage.apply_snapshot(
        Snapshot(base, 1 if base else 0, b"", ConfState(tuple(voters), learners=tuple(learners)))
    )
    storage.append([Entry(term, base + 1 + at) for at, term in enumerate(terms)])
    return storage


def make_config(node: int = 1, storage: MemoryStorage | None = None, **options: Any) -> Config:
    return Config(
        node,
        storage if storage is not None else storage_with(),
        options.pop("draw_timeout", lambda ticks: ticks),
        **options,
    )


class Peer:
    """One core and its host: stores, applies and advances whatever is ready."""

    def __init__(self, node: int, storage: MemoryStorage | None = None, **options: Any) -> None:
        self.storage = storage if storage is not None else storage_with()
        self.node = RawNode(make_config(node, self.storage, **options))
        self.applied: list[Entry] = []
        self.reads: list[ReadState] = []
        self.readies: list[Ready] = []
        self.restored = b""

    def pump(self) -> list[Message]:
        """Handle every Ready; the messages they send."""
        sent: list[Message] = []
        while self.node.has_ready():
            sent += self.once().messages
        return sent

    def once(self) -> Ready:
        ready = self.node.ready()
        self.readies.append(ready)
        if ready.hard_state:
            self.storage.hard_state = ready.hard_state
        if ready.snapshot:
            self.storage.apply_snapshot(ready.snapshot)
            self.restored, self.applied = ready.snapshot.data, []
        self.storage.append(ready.entries)
        self.reads += ready.read_states
        for entry in ready.committed_entries:
            self.applied.append(entry)
            if entry.type is not EntryType.NORMAL:
                state = self.node.apply_conf_change(from_entry(entry))
                self.storage.create_snapshot(entry.index, state, b" ".join(self.data))
        self.node.advance()
        return ready

    def step(self, type_: MessageType, from_: int = 0, **fields: Any) -> list[Message]:
        """Step a message and handle what follows; the messages sent."""
        self.node.step(Message(type_, to=self.node.id, from_=from_, **fields))
        return self.pump()

    @property
    def role(self) -> Role:
        return self.node.role

    @property
    def log(self) -> list[int]:
        """Terms of the stored entries."""
        first, last = self.storage.first_index(), self.storage.last_index()
        return [self.storage.term(index) for index in range(first, last + 1)]

    @property
    def data(self) -> list[bytes]:
        """What the proposals held that were applied, here or in the snapshot that was restored."""
        applied = [entry.data for entry in self.applied if entry.data and entry.type is EntryType.NORMAL]
        return self.restored.split() + applied


class Network:
    """Peers whose messages are delivered in order, unless their link is cut."""

    def __init__(self, *peers: Peer | None, **options: Any) -> None:
        voters = tuple(range(1, len(peers) + 1))
        self.peers: dict[int, Peer] = {}
        for node, peer in enumerate(peers, 1):
            self.peers[node] = peer or Peer(node, storage_with(voters=voters), **options)
        self._cut: set[tuple[int, int]] = set()
        self._ignored: set[MessageType] = set()
        self.seen: list[Message] = []

    def __getitem__(self, node: int) -> Peer:
        return self.peers[node]

    def cut(self, one: int, other: int) -> None:
        self._cut |= {(one, other), (other, one)}

    def isolate(self, node: int) -> None:
        for other in self.peers:
            self.cut(node, other)

    def ignore(self, *types: MessageType) -> None:
        self._ignored |= set(types)

    def heal(self) -> None:
        self._cut.clear()
        self._ignored.clear()

    def settle(self) -> None:
        """Deliver until nobody has anything to say."""
        queue: deque[Message] = deque()
        for peer in self.peers.values():
            queue += peer.pump()
        while queue:
            m = queue.popleft()
            if (m.from_, m.to) in self._cut or m.type in self._ignored or m.to not in self.peers:
                continue
            self.seen.append(m)
            peer = self.peers[m.to]
            with suppress(UnknownPeerError):
                peer.node.step(m)
            queue += peer.pump()

    def campaign(self, node: int) -> None:
        self[node].node.campaign()
        self.settle()

    def propose(self, node: int, *data: bytes) -> None:
        for one in data or (b"x",):
            self[node].node.propose(one)
        self.settle()

    def change(self, node: int, change: ConfChange) -> None:
        self[node].node.propose_conf_change(change)
        self.settle()

    def tick(self, node: int, times: int = 1) -> None:
        for _ in range(times):
            self[node].node.tick()
        self.settle()


def elected(peers: int = 3, **options: Any) -> Network:
    """A group that node 1 leads."""
    network = Network(*[None] * peers, **options)
    network.campaign(1)
    assert network[1].role is Role.LEADER
    return network
