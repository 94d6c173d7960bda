"""The mutants: named one-line changes to the core, the log, the host and around it that break a promise."""

from __future__ import annotations

from dataclasses import dataclass

_RESPONSES = "        out.appends.append(Append(self.group, self.epoch, update, responses, message.snapshot))"
_HELD = (
    "            if held is None or held.failure is not None or self._locate(group, message.from_) != sender:"
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` is in `file`, under replication/vecdb_replication, exactly once, and becomes `new`."""

    name: str
    file: str
    old: str
    new: str

    @property
    def area(self) -> str:
        """Whose unit tests are to notice."""
        return self.file.split("/")[0]


MUTANTS = (
    Mutant(
        "a vote is granted without being persisted",
        "host/replica.py",
        "needed = needed or (hard.term, hard.vote) != (logged.term, logged.vote)",
        "needed = needed or hard.term < logged.term",
    ),
    Mutant(
        "no sync when only the vote changed",
        "host/replica.py",
        "needed = needed or (hard.term, hard.vote) != (logged.term, logged.vote)",
        "needed = needed or hard.term != logged.term",
    ),
    Mutant(
        "votes and acknowledgements leave before they are durable",
        "host/replica.py",
        _RESPONSES,
        "        out.messages += [m for m in message.responses if m.to != self.id]\n" + _RESPONSES,
    ),
    Mutant(
        "acknowledgements overtake what is being written",
        "host/replica.py",
        "if not needed and (not responses or not self.in_flight):",
        "if not needed:",
    ),
    Mutant(
        "what builds on a refused write is taken",
        "wal/plan.py",
        "        if here != term or (as_last and index != self.last):",
        "        if here is None:",
    ),
    Mutant(
        "a commit index does not say which entries it is of",
        "host/replica.py",
        "after = None if snapshot else (last, self.node.term_of(last))",
        "after = (last, self.node.term_of(last)) if entries and not snapshot else None",
    ),
    Mutant(
        "votes are asked for before the log they speak of is durable",
        "host/replica.py",
        "        requests = tuple(m for m in ready.messages if m.type is raft.MessageType.VOTE)",
        "        out.messages += [m for m in ready.messages if m.type is raft.MessageType.VOTE]\n"
        "        requests = ()",
    ),
    Mutant(
        "a leader that is alone counts what is not durable",
        "host/replica.py",
        "            out.appends.append(self._solo.append(self.node, self._hard, self.epoch, inbox))\n",
        "            out.appends.append(self._solo.append(self.node, self._hard, self.epoch, inbox))\n"
        "            out.batches += out.appends[-1].batches\n",
    ),
    Mutant(
        "a leader that is alone acknowledges what the log refused",
        "host/replica.py",
        "                batch.reject(refusal(self.refused))",
        "                out.batches.append(batch)",
    ),
    Mutant(
        "a change of membership overtakes what a leader that is alone has under way",
        "host/replica.py",
        "if self._solo and (changes or self.refused is not None):",
        "if self._solo and self.refused is not None:",
    ),
    Mutant(
        "what was foreseen of a refused write is applied",
        "host/core.py",
        "        if error is not None:\n            held.refused(append)\n",
        "",
    ),
    Mutant(
        "a snapshot is newer than its membership",
        "host/replica.py",
        "        if index > self.applied:\n",
        "        if index < 0:\n",
    ),
    Mutant(
        "a change of membership is applied again after a restart",
        "host/replica.py",
        "            if entry.index > self.storage.memberships.since:",
        "            if entry.index > 0:",
    ),
    Mutant(
        "a shorter log of the same term is up to date",
        "raft/log.py",
        "return (term, index) >= (self.last_term(), self.last_index())",
        "return term >= self.last_term()",
    ),
    Mutant(
        "an election is won by the incoming half",
        "raft/quorum.py",
        "results = {majority_vote(incoming, votes), majority_vote(outgoing, votes)}",
        "results = {majority_vote(incoming, votes)}",
    ),
    Mutant(
        "a torn tail is accepted",
        "wal/scan.py",
        "    if head is None or offset + head.size > len(segment):",
        "    if head is None:",
    ),
    Mutant(
        "a refused write is taken for a durable one",
        "host/replica.py",
        "        elif current and not append.batches:\n            self._refuse(error)",
        "        elif current and not append.batches:\n"
        "            self._deliver(append.responses, out.messages)",
    ),
    Mutant(
        "the core goes on after a refused write",
        "host/replica.py",
        "if self._broken and not self.in_flight:",
        "if self._broken and self.in_flight < 0:",
    ),
    Mutant(
        "entries are applied again by a core that was made anew",
        "host/replica.py",
        "if entry.index > self._handed_out]",
        "if entry.index > 0]",
    ),
    Mutant(
        "another leader's entry is taken for one's own",
        "host/proposed.py",
        "        if term != entry.term:",
        "        if term > entry.term:",
    ),
    Mutant(
        "read contexts are used again",
        "host/reads.py",
        "        self._count += 1\n",
        "        self._boot = bytes(8)\n",
    ),
    Mutant(
        "nobody hears what became of a snapshot",
        "host/followers.py",
        "            node.report_snapshot(peer, failed=failed)",
        "            self._snapshots[peer] = 1 << 30",
    ),
    Mutant(
        "membership is forgotten at a restart",
        "host/replica.py",
        "        self.storage.replay_memberships(applied)",
        "        self.storage.replay_memberships(0)",
    ),
    Mutant(
        "a mark forgets the membership",
        "host/replica.py",
        "        return pack_conf(conf)",
        "        return b''",
    ),
    Mutant(
        "a newcomer gets a snapshot that does not know it",
        "host/replica.py",
        "        if index < max(self.storage.memberships.since, self.storage.first - 1):",
        "        if index < self.storage.first - 1:",
    ),
    Mutant(
        "the log is cut beyond what the core knows to be applied",
        "host/core.py",
        "min(held.machine.durable_index, held.replica.node.applied, storage.last)",
        "min(held.machine.applied_index, storage.last)",
    ),
    Mutant(
        "strangers are heard",
        "host/core.py",
        _HELD,
        "            if held is None or held.failure is not None:",
    ),
    Mutant(
        "a replica begins on what an older one left in the log",
        "host/recovery.py",
        "    return (stone.replica_id if stone is not None else 0) < replica_id - 1",
        "    return stone is not None and stone.replica_id > replica_id",
    ),
    Mutant(
        "a replica id is used again",
        "host/recovery.py",
        "if state.tombstone is not None and replica_id <= state.tombstone.replica_id:",
        "if state.tombstone is not None and replica_id < 0:",
    ),
    Mutant(
        "the up-to-date check is skipped",
        "raft/elections.py",
        " and raft.log.is_up_to_date(m.log_term, m.index):",
        ":",
    ),
    Mutant(
        "only a longer log is up to date",
        "raft/log.py",
        "return (term, index) >= (self.last_term(), self.last_index())",
        "return (term, index) > (self.last_term(), self.last_index())",
    ),
    Mutant(
        "entries of older terms are committed by counting",
        "raft/log.py",
        "if index > self.committed and self.term_or_zero(index) == term:",
        "if index > self.committed:",
    ),
    Mutant(
        "every append truncates",
        "raft/log.py",
        "            if not self.match_term(entry.index, entry.term):\n                return position",
        "            return position",
    ),
    Mutant(
        "a conflict does not truncate",
        "raft/log.py",
        "            if not self.match_term(entry.index, entry.term):\n                return position",
        "            if entry.index > self.last_index():\n                return position",
    ),
    Mutant(
        "a follower commits what the leader did not send",
        "raft/log.py",
        "self.commit_to(min(committed, last_new))",
        "self.commit_to(min(committed, self.last_index()))",
    ),
    Mutant(
        "a leader counts itself before it is durable",
        "raft/state.py",
        "        self.send(MessageType.APP_RESP, self.id, index=last)\n",
        "        self.tracker.progress[self.id].maybe_update(last)\n",
    ),
    Mutant(
        "commit is not raised to applied on opening",
        "raft/state.py",
        "            log.commit_to(self.config.applied)\n",
        "",
    ),
    Mutant(
        "half is a majority for entries",
        "raft/quorum.py",
        "return indexes[(len(indexes) - 1) // 2]",
        "return indexes[len(indexes) // 2]",
    ),
    Mutant(
        "half is a majority for votes",
        "raft/quorum.py",
        "needed = len(cast) // 2 + 1",
        "needed = (len(cast) + 1) // 2",
    ),
    Mutant(
        "a joint quorum is that of the incoming half",
        "raft/quorum.py",
        "return min(majority_commit(incoming, acked), majority_commit(outgoing, acked))",
        "return majority_commit(incoming, acked)",
    ),
    Mutant(
        "acknowledgements of older terms count",
        "raft/step.py",
        "    elif 0 < m.term < raft.term:",
        "    elif 0 < m.term < raft.term and m.type is not MessageType.APP_RESP:",
    ),
    Mutant(
        "a leader's term begins without an entry",
        "raft/roles.py",
        "    raft.append([Entry()])",
        "    raft.first_own_index = 0",
    ),
    Mutant(
        "a pre-candidate raises its term",
        "raft/roles.py",
        "    raft.tracker.votes = {}\n    raft.lead = NO_NODE",
        "    raft.reset(raft.term + 1)",
    ),
    Mutant(
        "reads do not wait for an entry of the term",
        "raft/leader.py",
        "    if raft.committed_in_term:\n        _begin_read",
        "    if raft.term:\n        _begin_read",
    ),
    Mutant(
        "an acknowledgement confirms later reads too",
        "raft/reads.py",
        "self._acks[peer] = max(self._acks.get(peer, 0), position)",
        "self._acks[peer] = self._last_position",
    ),
    Mutant(
        "two changes of membership at once",
        "raft/leader.py",
        "    pending = raft.pending_conf_index > raft.log.applied",
        "    pending = False",
    ),
    Mutant(
        "a snapshot keeps the old suffix",
        "raft/unstable.py",
        "        self.entries = []\n        self.snapshot = snapshot",
        "        self.snapshot = snapshot",
    ),
    Mutant(
        "a snapshot's membership is ignored",
        "raft/follower.py",
        "    raft.restore_configuration(members)\n",
        "",
    ),
    Mutant(
        "the last vote of a voter counts",
        "raft/tracker.py",
        "self.votes.setdefault(voter, granted)",
        "self.votes[voter] = granted",
    ),
    Mutant(
        "what is known to match moves backwards",
        "raft/progress.py",
        "        if index <= self.match:\n            return False",
        "        if index == self.match:\n            return False",
    ),
    Mutant(
        "a failed sync is tried again",
        "wal/appender.py",
        '                self._fail(f"fdatasync of {active.path}", error)',
        "                active.file.fdatasync()",
    ),
    Mutant(
        "a sync does not sync",
        "wal/appender.py",
        "                active.file.fdatasync()\n",
        "                active.file.size()\n",
    ),
    Mutant(
        "a new segment forgets the votes of idle groups",
        "wal/appender.py",
        "        meta = encode_items(self._checkpoints())",
        "        meta = encode_items([])",
    ),
    Mutant(
        "the check of a record is not checked",
        "wal/scan.py",
        "    if crc32c(meta) != head.meta_check:",
        "    if crc32c(meta) < 0:",
    ),
    Mutant(
        "the check of the data is not checked",
        "wal/scan.py",
        "            if crc32c(data[at : at + length]) != check:",
        "            if crc32c(data[at : at + length]) < 0:",
    ),
    Mutant(
        "a snapshot is offered that is older than the log",
        "host/replica.py",
        "        if index < max(self.storage.memberships.since, self.storage.first - 1):",
        "        if index < self.storage.memberships.since:",
    ),
    Mutant(
        "a snapshot is believed before its files are here",
        "host/core.py",
        "        if isinstance(machine, FileMachine) and held.replica.lacks(message):",
        "        if False:",
    ),
    Mutant(
        "the log is shortened under a follower that is being brought up",
        "host/core.py",
        "            index = min(index, held.replica.needed)",
        "            pass",
    ),
    Mutant(
        "a file of a snapshot is not compared with its checksum",
        "snapshots/incoming.py",
        "        if self.whole and self._crc == self._entry.crc:",
        "        if self.whole:",
    ),
    Mutant(
        "what lies on the disk already is believed",
        "snapshots/incoming.py",
        "                    crc = crc32c.crc32c(piece, crc)",
        "                    crc = entry.crc",
    ),
    Mutant(
        "a file of a snapshot is not synced",
        "snapshots/incoming.py",
        "            self._disk.sync_file(self._path)",
        "            pass",
    ),
    Mutant(
        "the names in a manifest are not looked at",
        "snapshots/manifest.py",
        "    if len(entry.name) > MAX_NAME or not _FILE.fullmatch(entry.name):",
        "    if len(entry.name) > MAX_NAME:",
    ),
    Mutant(
        "a staged snapshot's name is not synced",
        "snapshots/area.py",
        "        self.disk.sync_folder(target.parent)\n",
        "",
    ),
    Mutant(
        "the old state is removed before the new one is known to be in its place",
        "snapshots/area.py",
        "        disk.rename(new, path)\n    disk.sync_folder(path.parent)\n",
        "        disk.remove(old)\n        disk.rename(new, path)\n",
    ),
    Mutant(
        "a snapshot is removed under its reader",
        "snapshots/outgoing.py",
        "        return held.pins > 0 or self._clock() - held.read < _READING_SECONDS",
        "        return self._clock() - held.read < _READING_SECONDS",
    ),
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
        "            if self._closed:",
        "            if False:",
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
