"""Mutants of the transport between nodes."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

TRANSPORT = (
    Mutant(
        "a peer may say that it is another",
        "transport/codec.py",
        "    if hello.peer != peer:",
        "    if not hello.peer:",
    ),
    Mutant(
        "a peer of another cluster is let in",
        "transport/codec.py",
        "    if hello.cluster != cluster:",
        "    if not hello.cluster:",
    ),
    Mutant(
        "a certificate that is two peers' is taken for one's",
        "transport/trust.py",
        "        if len(found) != 1:",
        "        if not found:",
    ),
    Mutant(
        "a client needs no certificate",
        "transport/trust.py",
        "again, require_client_authentication=True",
        "again, require_client_authentication=False",
    ),
    Mutant(
        "a renewed certificate is not served",
        "transport/trust.py",
        "            if found == self._served:",
        "            if found:",
    ),
    Mutant(
        "a removed peer comes back",
        "transport/link.py",
        "            if self._closed or comer < self._comers:",
        "            if comer < self._comers:",
    ),
    Mutant(
        "a broken stream is not told",
        "transport/link.py",
        "(group, replica)\n        self._loop.call_soon(self._receiver.unreachable, self.peer)",
        "(group, replica)",
    ),
    Mutant(
        "a snapshot that a stream took with it is not told",
        "transport/link.py",
        "        for group, replica in lost:\n            self._report_lost(group, replica)\n",
        "",
    ),
    Mutant(
        "a queue has no limit",
        "transport/lanes.py",
        "        if lane.waiting and full:",
        "        if False:",
    ),
    Mutant(
        "what is urgent waits behind appends",
        "transport/lanes.py",
        "        lane = self._heavy if message.type in _HEAVY else self._light",
        "        lane = self._heavy",
    ),
    Mutant(
        "a removed peer reads on",
        "transport/server.py",
        "            if self._links.get(link.peer) is not link:",
        "            if False:",
    ),
    Mutant(
        "what is large leaves once nothing urgent waits",
        "transport/lanes.py",
        "            if size > room and not first:",
        "            if size > room and taken:",
    ),
    Mutant(
        "what is urgent waits for all pieces of an entry",
        "transport/link.py",
        "            if urgent := self._lanes.take_light(self._options.frame_bytes):",
        "            if urgent := []:",
    ),
    Mutant(
        "an entry that comes in pieces may be of any size",
        "transport/codec.py",
        "        if self._size > self._max_entry_bytes:",
        "        if False:",
    ),
    Mutant(
        "a heartbeat that a read waits for waits for company",
        "transport/link.py",
        "            calm = calm and message.type in _CALM and not message.context",
        "            calm = calm and message.type in _CALM",
    ),
    Mutant(
        "a connection that went silent is not found out",
        "transport/wire.py",
        '        ("grpc.http2.ping_timeout_ms", int(options.keepalive_timeout_seconds * 1000)),\n',
        "",
    ),
    Mutant(
        "a fetch begins anew",
        "transport/server.py",
        "        await asyncio.to_thread(file.seek, offset)\n",
        "        await asyncio.to_thread(file.seek, 0)\n",
    ),
)
