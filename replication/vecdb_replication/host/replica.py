"""One replica: the Raft core over the log, and DESIGN's rules between the two.

No threads, no clock, no I/O but reading the log: what has to be written, sent
and applied comes out of `collect`, and what became of it goes in by `written`
and `finished`. The core runs with asynchronous storage writes, so that a group
has as many writes under way as the disk takes.

Where the log refuses a write, the core believes in entries that will never be
durable. It is then thrown away and made again from the log, as after a crash:
nothing that was not durable has been vouched for, so crashing is always safe.
`epoch` counts these lives; what comes back to an earlier one is not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vecdb_replication import raft, wal
from vecdb_replication.host.errors import GroupBlocked, NotLeader, OutcomeUnknown, refusal
from vecdb_replication.host.followers import Followers
from vecdb_replication.host.proposed import Proposed
from vecdb_replication.host.reads import Reads
from vecdb_replication.host.solo import Solo
from vecdb_replication.host.storage import WalStorage, changed, pack_conf, to_log
from vecdb_replication.host.work import Append, Batch, Item, Options, Output, Proposal, Reader

# How many election timeouts a proposal waits here once this replica does not lead any more.
_PATIENCE = 3


class Replica:
    """A replica of one group. Raises raft.RaftFatal, wal.LogDamaged: then it must not be used any more.

    `founders` are the voters that the group began with, the same for every
    replica, also for those that joined later: changes of membership in the log
    start from there. `boot` is unique to this start of the node. `draw` draws
    election timeouts.
    """

    def __init__(
        self,
        log: wal.Wal,
        group: int,
        replica_id: int,
        *,
        founders: Iterable[int],
        applied: int,
        capture: Callable[[], tuple[int, bytes]],
        is_sending: Callable[[], bool],
        boot: bytes,
        draw: Callable[[int], int],
        options: Options,
    ) -> None:
        self.group = group
        self.id = replica_id
        self.epoch = 0
        self.applied = applied
        """The newest entry that is dealt with; the machine does not see all of them."""
        self.in_flight = 0
        """Appends that the log has not answered."""
        self.refused: Exception | None = None
        """Why the log refused an append, until one goes through."""
        self.stalled = False
        """Whether a group of one waits for `retry`, having failed to begin a term."""
        self.inbox: list[Proposal] = []
        self._log = log
        self._founders = tuple(founders)
        self._capture = capture
        self._draw = draw
        self._options = options
        self._broken = False
        self._handed_out = applied
        self._proposed = Proposed()
        self._solo = Solo(group, options.max_apply_bytes)
        self._reads = Reads(boot, options.read_ticks)
        self._held_up = 0
        """For how many ticks nothing has come back from the log, or the state has had no room."""
        self._deposed = 0
        """For how many ticks somebody has waited for a proposal that this replica can do nothing for."""
        self._followers = Followers(replica_id, options, is_sending)
        self.wants_snapshot = False
        """Whether somebody needs a newer snapshot than the state could give."""
        self._machine_at = applied
        self.storage = WalStorage(log, group, self._founders, self._snapshot, options.max_apply_bytes)
        self.storage.replay_memberships(applied)
        self._begin()

    def _begin(self) -> None:
        """A new life for the core, from what is durable."""
        options, storage = self._options, self.storage
        self.epoch += 1
        self._broken = False
        self._followers.begin()
        self.applied = max(self.applied, storage.first - 1)
        self._handed_out = max(self._handed_out, self.applied)
        storage.applied = self.applied
        self._hard = self._logged = storage.hard_state
        self.node = raft.RawNode(options.of_core(self.id, storage, self._draw, self.applied))

    # How it stands

    @property
    def conf(self) -> raft.ConfState:
        """Who belongs to the group, as far as it is applied here."""
        return self.storage.memberships.newest

    @property
    def alone(self) -> bool:
        """Whether this replica is the only voter: it needs nobody to lead."""
        conf = self.storage.memberships.newest
        return conf.voters == (self.id,) and not conf.voters_outgoing

    @property
    def ticks(self) -> bool:
        """Whether time means anything to it: who leads alone has nobody to send heartbeats to."""
        if self.alone and not self.conf.learners:
            return self.node.role is not raft.Role.LEADER and not self.stalled
        return True

    @property
    def idle(self) -> bool:
        """Whether nothing that was taken is on its way into the log, as far as that depends on this node."""
        if self.in_flight or self.inbox or self._broken or self.node.has_ready():
            return False
        return not (self.alone and self._proposed)

    # What goes in

    def retry(self) -> None:
        """Try again what the log refused: to begin a term, alone."""
        self.stalled = False

    def tick(self, *, blocked: bool = False) -> None:
        """Some time has passed. `blocked` is whether the state has no room for what is committed."""
        self._held_up = self._held_up + 1 if self.in_flight or blocked else 0
        leads_others = self.node.role is raft.Role.LEADER and len(self.conf.voters) > 1
        if leads_others and self._held_up == self._options.election_ticks:
            self._hand_over()
        if not (leads_others and self.is_hung):
            # Otherwise its followers hear nothing of it any more, and elect somebody else.
            self.node.tick()
        self._followers.tick(self.node)
        self._reads.tick(self.node)
        waiting = self._proposed and self.node.role is not raft.Role.LEADER
        self._deposed = self._deposed + 1 if waiting else 0
        if self._deposed > _PATIENCE * self._options.election_ticks:
            self._proposed.abandon(OutcomeUnknown("this replica leads no more, and does not hear who does"))

    @property
    def is_hung(self) -> bool:
        """Whether log or state have been silent for so long that a leader is to be given up."""
        return self._held_up > 2 * self._options.election_ticks

    def _hand_over(self) -> None:
        """Ask whoever has most of the log to lead, for here nothing comes to an end."""
        if heir := self._followers.heir(self.node, self.conf):
            self.node.transfer_leader(heir)

    def step(self, message: raft.Message) -> None:
        """Take in a message from another replica; one that means nothing here is dropped."""
        if self._broken or message.to != self.id:
            return
        if self.node.leads_alone:
            # There is nobody else: whoever says this was removed, or never belonged here.
            return
        if message.type is raft.MessageType.TRANSFER_LEADER and self.node.role is not raft.Role.LEADER:
            # It was said to whoever led, and no longer does.
            return
        self._followers.heard(message.from_)
        try:
            self.node.step(message)
        except raft.UnknownPeerError:
            # A stranger, or one who was removed: the group's own configuration is the truth.
            return

    def lacks(self, message: raft.Message) -> bool:
        """Whether the snapshot that a message offers would take this replica further than its log can."""
        snapshot = message.snapshot
        if snapshot is None or message.term < self.node.term or snapshot.index <= self.node.committed:
            return False
        storage = self.storage
        return snapshot.index > storage.last or storage.term(snapshot.index) != snapshot.term

    def report_snapshot(self, peer: int, *, failed: bool) -> None:
        """What became of the snapshot that was sent to a peer."""
        self._followers.report_snapshot(self.node, peer, failed=failed)

    def read(self, reader: Reader) -> None:
        """Ask from which index on a read is linearizable. Forgotten readers have to be `unread`."""
        self._reads.add(reader)

    def unread(self, reader: Reader) -> None:
        """Somebody has stopped waiting."""
        self._reads.forget(reader)

    def _snapshot(self) -> tuple[int, bytes]:
        """The state to bring somebody up with: its index is beyond the last change of membership.

        A newcomer takes no snapshot that does not know it.
        """
        try:
            index, data = self._capture()
        except LookupError:
            self.wants_snapshot = True
            raise
        if index >= self._machine_at:
            # What lies between is none of the machine's business: it is the same state.
            index = max(index, self.applied)
        if index > self.applied:
            raise LookupError("what is beyond the snapshot's membership is not known here yet")
        if index < max(self.storage.memberships.since, self.storage.first - 1):
            self.wants_snapshot = True
            raise LookupError("the newest snapshot is older than the membership or the log")
        return index, data

    def abandon(self, failure: Exception, entered: Exception) -> None:
        """Tell everybody who waits that this replica has come to its end; those in its log, by `entered`."""
        self._reject_inbox(failure)
        self._proposed.abandon(entered)
        self._solo.abandon(failure)
        self._reads.abandon(failure)

    # What comes out

    def collect(self) -> Output:
        """All there is to do now. To be called after anything went in."""
        out = Output()
        if self.alone and self.node.role is raft.Role.FOLLOWER:
            self._stand()
        if self.inbox and not self._broken:
            self._offer(out)
        if not self._broken:
            self._reads.ask(self.node)
        while not self._broken and self.node.has_ready():
            self._take(self.node.ready(), out)
        return out

    def _stand(self) -> None:
        """Stand for election at once: nobody else can. A change that is not applied might say otherwise."""
        node = self.node
        if not self.stalled and not self._broken and node.applied == node.committed:
            node.campaign()

    def _offer(self, out: Output) -> None:
        """Propose what waits, or say why not."""
        changes = any(proposal.change is not None for proposal in self.inbox)
        if self._solo and (changes or self.refused is not None):
            # Until all that is under way is through, or refused with what is before it, nobody knows
            # which index is next.
            return
        if self.node.leads_alone and self.node.is_settled and not changes:
            inbox, self.inbox = self.inbox, []
            out.appends.append(self._solo.append(self.node, self._hard, self.epoch, inbox))
            self.in_flight += 1
            return
        if self.node.role is not raft.Role.LEADER:
            if not self.alone:
                self._reject_inbox(NotLeader("this replica does not lead the group", self.node.lead))
            elif self.stalled:
                self._reject_inbox(refusal(self.refused))
            # Alone, it leads as soon as its vote is durable.
            return
        if self.is_hung:
            self._reject_inbox(GroupBlocked("the disk has not answered for a while"))
            return
        inbox, self.inbox = self.inbox, []
        normal: list[Proposal] = []
        for proposal in inbox:
            if proposal.change is None:
                normal.append(proposal)
                continue
            self._propose(normal)
            normal = []
            self._propose([proposal])
        self._propose(normal)

    def _propose(self, proposals: list[Proposal]) -> None:
        if not proposals:
            return
        # Who joins by a change that comes later is sent them only once they are durable here.
        private = self.node.leads_alone and not self.node.is_changing
        try:
            if (change := proposals[0].change) is not None:
                self.node.propose_conf_change(change)
            else:
                self.node.propose_batch([proposal.data for proposal in proposals])
        except raft.ProposalDroppedError as dropped:
            heir = self.node.status().lead_transferee
            for proposal in proposals:
                proposal.reject(NotLeader(str(dropped), heir))
            return
        first = self.node.last_index - len(proposals) + 1
        self._proposed.put(self.node.term, first, proposals, private=private)

    def _reject_inbox(self, error: Exception) -> None:
        inbox, self.inbox = self.inbox, []
        for proposal in inbox:
            proposal.reject(error)

    def _take(self, ready: raft.Ready, out: Output) -> None:
        if ready.soft_state is not None and ready.soft_state.role is raft.Role.LEADER:
            # What was asked before went nowhere, and alone no tick asks again.
            self._reads.again(self.node)
        for state in ready.read_states:
            out.reads += self._reads.answered(state)
        # Asked for before the own log is durable, and again in the same term after a crash, votes for the
        # longer log would count for the shorter one.
        requests: list[raft.Message] = []
        # Those to the storage's threads come last.
        for message in ready.messages:
            if message.type is raft.MessageType.VOTE:
                requests.append(message)
            elif message.to == raft.APPEND_THREAD:
                self._append(message, ready, tuple(requests), out)
            elif message.to == raft.APPLY_THREAD:
                out.batches.append(self._batch(message))
            else:
                if message.snapshot is not None:
                    self._followers.sent_snapshot(message.to, message.snapshot.index)
                out.messages.append(message)

    def _append(
        self, message: raft.Message, ready: raft.Ready, requests: tuple[raft.Message, ...], out: Output
    ) -> None:
        if ready.hard_state is not None:
            self._hard = ready.hard_state
        hard, logged, responses = self._hard, self._logged, message.responses + requests
        needed = bool(message.entries) or message.snapshot is not None
        needed = needed or (hard.term, hard.vote) != (logged.term, logged.vote)
        if not needed and (not responses or not self.in_flight):
            # A commit index need not be durable: it goes with the next record. And without anything
            # under way, all that the responses vouch for is durable already.
            self._deliver(responses, out.messages)
            return
        update = self._update(message) if needed else None
        if message.entries:
            self.storage.fresh.put(message.entries)
            if self._proposed and self.node.role is not raft.Role.LEADER:
                self._proposed.replaced(message.entries[-1].index)
        out.appends.append(Append(self.group, self.epoch, update, responses, message.snapshot))
        self.in_flight += 1

    def _update(self, message: raft.Message) -> wal.GroupUpdate:
        """One record: hard state and entries are lost together or not at all."""
        snapshot, entries, hard = message.snapshot, message.entries, self._hard
        # Should the log refuse what is on its way, it must refuse this too: a commit index, a vote and
        # entries are worth something only with all that they were given for.
        last = entries[0].index - 1 if entries else self.node.last_index
        after = None if snapshot else (last, self.node.term_of(last))
        self._logged = hard
        return wal.GroupUpdate(
            self.group,
            [to_log(entry) for entry in entries],
            wal.HardState(hard.term, hard.vote, hard.commit),
            wal.SnapshotMark(snapshot.index, snapshot.term, pack_conf(snapshot.conf_state))
            if snapshot
            else None,
            after=after,
        )

    def _batch(self, message: raft.Message) -> Batch:
        last = message.entries[-1].index
        new = [entry for entry in message.entries if entry.index > self._handed_out]
        items = [Item(entry, self._proposed.claim(entry)) for entry in new]
        self._handed_out = max(self._handed_out, last)
        self.storage.fresh.drop(last)
        changes = [entry for entry in message.entries if entry.type is not raft.EntryType.NORMAL]
        return Batch(self.epoch, last, items, changes, message.responses)

    def _deliver(self, responses: Iterable[raft.Message], out: list[raft.Message]) -> None:
        for message in responses:
            if message.to != self.id:
                out.append(message)
                continue
            try:
                self.node.step(message)
            except raft.UnknownPeerError:
                # It was removed from the group between its write and this.
                continue

    # What became of it

    def written(self, append: Append, error: Exception | None) -> Output:
        """An append is durable, or was refused. To be called in the order they came out."""
        out = Output()
        self.in_flight -= 1
        self._held_up = 0
        current = append.epoch == self.epoch and not self._broken
        if append.batches:
            self._written_alone(append.batches, error, out)
        if error is None:
            if append.snapshot is not None:
                out.batches.append(self._replaced(append.snapshot))
            if append.update is not None:
                self._stored(append.update)
            if current:
                self.refused = None
                if append.batches:
                    self._hard = self.node.commit_alone(append.batches[-1].last)
                self._deliver(append.responses, out.messages)
        elif current and not append.batches:
            self._refuse(error)
        if self._broken and not self.in_flight:
            self._restart()
        return out

    def _written_alone(self, batches: Sequence[Batch], error: Exception | None, out: Output) -> None:
        """What went to the log without the core."""
        self._solo.written(batches)
        for batch in batches:
            if error is None:
                out.batches.append(batch)
                self._handed_out = batch.last
            else:
                # What was behind it fails as well, for it would leave a gap: the first reason is the one.
                self.refused = self.refused or error
                batch.reject(refusal(self.refused))
        if not self._solo:
            self.refused = None

    def _stored(self, update: wal.GroupUpdate) -> None:
        storage = self.storage
        if update.entries:
            storage.last = update.entries[-1].index
        if update.hard_state is not None:
            hard = update.hard_state
            storage.hard_state = raft.HardState(hard.term, hard.vote, hard.commit)

    def _replaced(self, snapshot: raft.Snapshot) -> Batch:
        """The log begins behind a snapshot now, and the state has to follow."""
        # What the log kept of itself is read back: the mark may have matched an entry.
        state = self._log.state(self.group)
        storage = self.storage
        storage.first, storage.last = state.first_index, state.last_index
        storage.memberships.add(snapshot.index, snapshot.conf_state)
        storage.memberships.forget(snapshot.index)
        storage.fresh.clear()
        self._handed_out = max(self._handed_out, snapshot.index)
        self._proposed.overtaken(snapshot.index)
        return Batch(self.epoch, snapshot.index, (), install=snapshot.index)

    def _refuse(self, error: Exception) -> None:
        """The log took none of it: this life of the core is over."""
        # Having led, it was at rest until now and tries at once; otherwise the log refuses all it does.
        self.stalled = self.alone and self.node.role is not raft.Role.LEADER
        self.refused = error
        self._broken = True
        self._proposed.refused(self.storage.last, refusal(error))
        if self.stalled:
            self._reject_inbox(refusal(error))

    def _restart(self) -> None:
        state = self._log.state(self.group)
        # A mark that shortens the log may be on its way to it: what it drops must not be asked for any more.
        self.storage.first = max(self.storage.first, state.first_index)
        self.storage.last = state.last_index
        self.storage.fresh.clear()
        self._begin()
        self._reads.again(self.node)

    def finished(self, batch: Batch) -> Output:
        """A batch is applied: changes of membership take effect, and the core hears of it."""
        out = Output()
        current = batch.epoch == self.epoch and not self._broken
        for entry in batch.changes:
            change = raft.from_entry(entry)
            if entry.index > self.storage.memberships.since:
                conf = changed(self.conf, change, self.storage.last)
                self.storage.memberships.add(entry.index, conf)
            if current:
                self.node.apply_conf_change(change)
        if batch.changes and self.alone:
            # Who was to confirm that this is still the leader is gone, and no tick asks again.
            self._reads.again(self.node)
        self.applied = max(self.applied, batch.last)
        seen = [item.entry.index for item in batch.items if item.is_for_machine]
        self._machine_at = max([self._machine_at, batch.install, *seen[-1:]])
        if current:
            if batch.alone:
                self.node.apply_alone(batch.last)
            self._deliver(batch.responses, out.messages)
        return out

    # Shortening the log

    @property
    def needed(self) -> int:
        """The log is worth keeping above this index: a follower that is alive goes on from there."""
        return self._followers.needed(self.node, self.storage)

    def shorten(self, index: int) -> bytes:
        """The core sees nothing up to `index` from now on: the log may drop it. Gives what the mark keeps."""
        storage = self.storage
        storage.first = index + 1
        conf = storage.memberships.at(index)
        storage.memberships.forget(index)
        return pack_conf(conf)

    @property
    def unwritten(self) -> wal.GroupUpdate | None:
        """The commit index where the log has an older one: worth writing when the node stops."""
        commit = min(self._hard.commit, self.storage.last)
        hard = self.storage.hard_state
        if self._broken or commit <= hard.commit:
            return None
        return wal.GroupUpdate(self.group, hard_state=wal.HardState(hard.term, hard.vote, commit))
