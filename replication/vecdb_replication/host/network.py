"""Nodes in one process: the in-memory twin of a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vecdb_replication import raft
from vecdb_replication.host.work import Envelope

Receive = Callable[[str, Envelope], None]
Report = Callable[[int, int, bool], None]


class MemoryNetwork:
    """Carries envelopes between hosts on one event loop, in order, unless a link is cut."""

    def __init__(self) -> None:
        self._peers: dict[str, tuple[Receive, Report]] = {}
        self._cut: set[tuple[str, str]] = set()

    def attach(self, peer: str, receive: Receive, report: Report) -> None:
        """Bring a host in: `receive(sender, envelope)`; `report(group, replica, failed)` is of snapshots."""
        self._peers[peer] = (receive, report)

    def detach(self, peer: str) -> None:
        """Take a host out."""
        self._peers.pop(peer, None)

    def cut(self, one: str, other: str) -> None:
        """Lose what is sent between two hosts, both ways."""
        self._cut |= {(one, other), (other, one)}

    def mend(self) -> None:
        """All links work again."""
        self._cut.clear()

    def outbox(self, sender: str) -> _Outbox:
        """The outbox of one host."""
        return _Outbox(self, sender)

    def carry(self, sender: str, peer: str, envelope: Envelope) -> None:
        """Deliver in a later turn of the loop."""
        asyncio.get_running_loop().call_soon(self._deliver, sender, peer, envelope)

    def _deliver(self, sender: str, peer: str, envelope: Envelope) -> None:
        arrives = (sender, peer) not in self._cut and peer in self._peers
        if arrives:
            self._peers[peer][0](sender, envelope)
        if sender not in self._peers:
            return
        for group, message in envelope.messages:
            if message.type is raft.MessageType.SNAP:
                self._peers[sender][1](group, message.to, not arrives)


class _Outbox:
    def __init__(self, network: MemoryNetwork, sender: str) -> None:
        self._network = network
        self._sender = sender

    def send(self, peer: str, envelope: Envelope) -> None:
        """See `Outbox.send`."""
        self._network.carry(self._sender, peer, envelope)
