"""Mutants of the host, which runs the core over the log."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_RESPONSES = "        out.appends.append(Append(self.group, self.epoch, update, responses, message.snapshot))"
_HELD = (
    "            if held is None or held.failure is not None or self._locate(group, message.from_) != sender:"
)

HOST = (
    Mutant(
        "a mark on its way to the log is forgotten by a core that is made anew",
        "host/replica.py",
        "        self.storage.first = max(self.storage.first, state.first_index)\n",
        "        self.storage.first = state.first_index\n",
    ),
    Mutant(
        "a vote waits for the clock",
        "host/core.py",
        "return bool(self._dirty or self._retries or self._outgoing)",
        "return bool(self._dirty or self._retries)",
    ),
    Mutant(
        "what others may have is said to be lost when a replica is removed",
        "host/group.py",
        "        self.replica.abandon(failure, entered)",
        "        self.replica.abandon(failure, failure)",
    ),
    Mutant(
        "a message creates a replica",
        "host/core.py",
        "            held = self.groups.get(group)\n            # A message never",
        "            other = next(iter(self.groups.values()), None)\n"
        "            made = other and (lambda: self.open(group, type(other.machine)(), message.to))\n"
        "            held = self.groups.get(group) or (made and made())\n"
        "            # A message never",
        listed="a message that creates a replica",
    ),
    Mutant(
        "a vote is granted without being persisted",
        "host/replica.py",
        "needed = needed or (hard.term, hard.vote) != (logged.term, logged.vote)",
        "needed = needed or hard.term < logged.term",
        listed="grant a vote without persisting it",
    ),
    Mutant(
        "no sync when only the vote changed",
        "host/replica.py",
        "needed = needed or (hard.term, hard.vote) != (logged.term, logged.vote)",
        "needed = needed or hard.term != logged.term",
        listed="no sync when only the vote changed",
    ),
    Mutant(
        "votes and acknowledgements leave before they are durable",
        "host/replica.py",
        _RESPONSES,
        "        out.messages += [m for m in message.responses if m.to != self.id]\n" + _RESPONSES,
        listed="persist it after the reply",
    ),
    Mutant(
        "acknowledgements overtake what is being written",
        "host/replica.py",
        "if not needed and (not responses or not self.in_flight):",
        "if not needed:",
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
        "                requests.append(message)",
        "                out.messages.append(message)",
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
        listed="change applied twice after restart",
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
        listed="snapshot status never reported",
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
        listed="a replica id used again after its log was lost",
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
        "the log is shortened beyond a snapshot that seems to be lost",
        "host/followers.py",
        "        if match < index and self._now < until:",
        "        if False:",
    ),
    Mutant(
        "an entry may be larger than can be sent",
        "host/host.py",
        "        if len(data) > self.max_entry_bytes:",
        "        if False:",
    ),
    Mutant(
        "a newer snapshot is fetched while an older one is staged",
        "host/group.py",
        "        if self.replica.node.restoring or self.held_back is not None:",
        "        if False:",
    ),
    Mutant(
        "the log is shortened under a follower that is being brought up",
        "host/core.py",
        "            index = min(index, held.replica.needed)",
        "            pass",
    ),
)
