"""Nodes in one process: the in-memory twin of a transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

from vecdb_replication import raft
from vecdb_replication.host.work import Envelope

Receive = Callable[[str, Envelope], None]
Report = Callable[[int, int, bool], None]
Open = Callable[[str, int, str, str], BinaryIO]


class MemoryNetwork:
    """Carries envelopes and files between hosts on one event loop, in order, unless a link is cut.

    Files come in chunks of `chunk_bytes`.
    """

    def __init__(self, chunk_bytes: int = 256 << 10) -> None:
        self.chunk_bytes = chunk_bytes
        self._peers: dict[str, tuple[Receive, Report]] = {}
        self._files: dict[str, Open] = {}
        self._cut: set[tuple[str, str]] = set()

    def attach(self, peer: str, receive: Receive, report: Report, open_: Open | None = None) -> None:
        """Bring a host in: `receive(sender, envelope)`; `report(group, replica, failed)` is of snapshots.

        `open_(peer, group, snapshot, name)` opens a file for somebody, see `Host.open`.
        """
        self._peers[peer] = (receive, report)
        if open_ is not None:
            self._files[peer] = open_

    def detach(self, peer: str) -> None:
        """Take a host out."""
        self._peers.pop(peer, None)
        self._files.pop(peer, None)

    def cut(self, one: str, other: str) -> None:
        """Lose what is sent between two hosts, both ways."""
        self._cut |= {(one, other), (other, one)}

    def mend(self) -> None:
        """All links work again."""
        self._cut.clear()

    def outbox(self, sender: str) -> _Outbox:
        """The outbox of one host."""
        return _Outbox(self, sender)

    def files(self, reader: str) -> _Files:
        """The way of one host to the files of the others."""
        return _Files(self, reader)

    async def fetch(
        self, reader: str, peer: str, group: int, snapshot: str, name: str, offset: int
    ) -> AsyncIterator[bytes]:
        """The chunks of a file. ConnectionError where the link is cut, or is being cut."""
        with await asyncio.to_thread(self._open(reader, peer), reader, group, snapshot, name) as file:
            file.seek(offset)
            while chunk := await asyncio.to_thread(file.read, self.chunk_bytes):
                self._open(reader, peer)
                yield chunk

    def _open(self, reader: str, peer: str) -> Open:
        if (peer, reader) in self._cut or peer not in self._files:
            raise ConnectionError(f"{peer} cannot be reached")
        return self._files[peer]

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
            # One that arrives is answered by its receiver, once it has all that belongs to it.
            if message.type is raft.MessageType.SNAP and not arrives:
                self._peers[sender][1](group, message.to, True)


class _Outbox:
    def __init__(self, network: MemoryNetwork, sender: str) -> None:
        self._network = network
        self._sender = sender

    def send(self, peer: str, envelope: Envelope) -> None:
        """See `Outbox.send`."""
        self._network.carry(self._sender, peer, envelope)


class _Files:
    def __init__(self, network: MemoryNetwork, reader: str) -> None:
        self._network = network
        self._reader = reader

    def fetch(self, peer: str, group: int, snapshot: str, name: str, offset: int = 0) -> AsyncIterator[bytes]:
        """See `Files.fetch`."""
        return self._network.fetch(self._reader, peer, group, snapshot, name, offset)
