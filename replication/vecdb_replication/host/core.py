"""The host without threads, clock or sockets: all groups of a node, one pass at a time.

Things go in by methods; `step` goes through the groups that anything happened
to and gives out what is to be sent, written and applied. `written` and
`applied` tell what became of it. The same inputs give the same outputs, to the
byte: tests/sim runs whole clusters of this.

A pass's envelopes may leave before its write is durable: all that vouches for
something durable (votes, acknowledgements) comes out after `written`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ParamSpec

from vecdb_replication import raft, wal
from vecdb_replication.host.errors import (
    GroupBlocked,
    GroupDamaged,
    GroupStopped,
    UnknownGroup,
    refusal,
)
from vecdb_replication.host.group import Group
from vecdb_replication.host.incidents import Incidents
from vecdb_replication.host.machine import FileMachine, SnapshotMachine, StateMachine
from vecdb_replication.host.recovery import check, needs_burial
from vecdb_replication.host.replica import Replica
from vecdb_replication.host.sanity import nonsense
from vecdb_replication.host.wheel import Wheel
from vecdb_replication.host.work import (
    Append,
    Envelope,
    Fetch,
    Options,
    Output,
    Pass,
    Proposal,
    Reader,
    Staging,
    Task,
    Write,
)

# What a replica is known to end with.
_FATAL = (raft.RaftFatal, raft.RaftError, wal.LogDamaged, wal.Compacted, wal.Unavailable, ValueError)

P = ParamSpec("P")

Locate = Callable[[int, int], str | None]
"""Which peer holds replica `id` of a group; None where nobody is known to."""


class HostCore:
    """The groups of a node over its log. Belongs to one thread.

    `boot` is random and new at every start. `draw(ticks)` gives an election
    timeout in [ticks, 2 * ticks). `locate(group, replica)` names the peer that
    holds a replica; it may be called on any thread.
    """

    def __init__(
        self,
        log: wal.Wal,
        *,
        boot: bytes,
        draw: Callable[[int], int],
        locate: Locate = lambda _group, _replica: None,
        options: Options | None = None,
    ) -> None:
        self._log = log
        self._boot = boot
        self._draw = draw
        self._locate = locate
        self.options = options or Options()
        self.groups: dict[int, Group] = {}
        self.wheel = Wheel(self.options.tick_seconds)
        self._dirty: dict[int, None] = {}
        self._outgoing: dict[str, list[tuple[int, raft.Message]]] = {}
        self._retries: list[int] = []
        self._appends: list[Append] = []
        """Of snapshots that are staged, and what was held back behind them."""
        self._fetches: list[Fetch] = []
        self.incidents = Incidents()

    # Groups

    def open(
        self, group: int, machine: StateMachine, replica_id: int = 1, founders: Iterable[int] = (1,)
    ) -> Group:
        """Bring up a replica from its log. Alone, it stands for election at once.

        Raises ValueError where the group is open already or the log has not
        been told yet that older replicas are buried, and GroupDamaged where
        log and state do not fit together.
        """
        if group in self.groups:
            raise ValueError(f"group {group} is open already")
        if needs_burial(self._log, group, replica_id):
            raise ValueError(f"what the log has of group {group} may be an older replica's")
        check(self._log, group, replica_id, machine)
        try:
            replica = Replica(
                self._log,
                group,
                replica_id,
                founders=founders,
                applied=machine.applied_index,
                capture=_capture(machine),
                is_sending=machine.is_sending if isinstance(machine, FileMachine) else _never,
                boot=self._boot,
                draw=self._draw,
                options=self.options,
            )
        except _FATAL as fatal:
            raise GroupDamaged(f"group {group} cannot go on: {fatal}") from fatal
        held = Group(group, machine, replica, self.options.max_apply_bytes)
        self.groups[group] = held
        self._touch(held)
        return held

    def forget(self, group: int) -> None:
        """Hold a group no longer. Nothing of it may be under way."""
        del self.groups[group]
        self.wheel.drop(group)
        self._dirty.pop(group, None)

    def _touch(self, held: Group) -> None:
        self._dirty[held.id] = None

    def _held(self, group: int) -> Group:
        held = self.groups.get(group)
        if held is None:
            raise UnknownGroup(f"no replica of group {group} is here")
        return held

    # What goes in

    def propose(self, group: int, proposal: Proposal) -> None:
        """Take a proposal, which is answered later. UnknownGroup, GroupStopped, GroupBlocked."""
        held = self._held(group)
        if held.failure is not None:
            raise GroupStopped(str(held.failure)) from held.failure
        if held.blocked:
            raise GroupBlocked(held.blocked)
        if held.replica.stalled:
            raise refusal(held.replica.refused)
        held.replica.inbox.append(proposal)
        self._touch(held)

    def read(self, group: int, reader: Reader) -> None:
        """Answer the reader once everything that is acknowledged now, anywhere, is applied here."""
        held = self._held(group)
        if held.failure is not None:
            reader.failed(held.failure)
            return
        self._guarded(held, held.replica.read, reader)
        self._touch(held)

    def transfer(self, group: int, to: int) -> None:
        """Ask for leadership to move to a replica. UnknownGroup."""
        held = self._held(group)
        self._guarded(held, held.replica.node.transfer_leader, to)
        self._touch(held)

    def receive(self, sender: str, envelope: Envelope) -> None:
        """Take in what a peer said. What is not for a replica here, or not from one there, is dropped."""
        for group, message in envelope.messages:
            held = self.groups.get(group)
            # A message never makes a replica: only the catalogue does.
            if held is None or held.failure is not None or self._locate(group, message.from_) != sender:
                continue
            self._guarded(held, self._listen, held, sender, message)
            if held.has_work:
                self._touch(held)

    def _listen(self, held: Group, sender: str, message: raft.Message) -> None:
        if problem := nonsense(message, held.replica.node):
            self.incidents.made_no_sense(held.id, sender, problem)
        elif message.type is raft.MessageType.SNAP:
            self._offered(held, sender, message)
            self._touch(held)
        else:
            held.replica.step(message)

    def _offered(self, held: Group, sender: str, message: raft.Message) -> None:
        """Hold a snapshot's message back until its files are here: it must not be believed before.

        And until none is under way: what is fetched must not get in the way of what is being staged.
        """
        machine = held.machine
        held.newer = (sender, message) if held.takes_snapshot else None
        if held.newer is not None:
            return
        if isinstance(machine, FileMachine) and held.replica.lacks(message):
            self._fetches.append(Fetch(held.id, sender, machine, message))
        else:
            self._take_snapshot(held, sender, message)

    def _take_snapshot(self, held: Group, sender: str, message: raft.Message) -> None:
        held.offer = (sender, message)
        held.replica.step(message)

    def fetched(self, fetch: Fetch) -> None:
        """The files of a snapshot are here: its message goes in."""
        held = self.groups.get(fetch.group)
        if held is not None and held.machine is fetch.machine and held.failure is None:
            self._guarded(held, self._arrived, held, fetch.sender, fetch.message)
            self._touch(held)

    def _arrived(self, held: Group, sender: str, message: raft.Message) -> None:
        if held.takes_snapshot:
            held.newer = (sender, message)
        else:
            self._take_snapshot(held, sender, message)

    def unreachable(self, peer: str) -> None:
        """The connection to a peer broke: what was sent is probably lost."""
        for held in self.groups.values():
            for replica in held.members:
                if replica != held.replica.id and self._locate(held.id, replica) == peer:
                    self._guarded(held, held.replica.node.report_unreachable, replica)
                    self._touch(held)

    def report_snapshot(self, group: int, replica: int, *, failed: bool) -> None:
        """What became of a snapshot that was sent to a replica."""
        if (held := self.groups.get(group)) is not None and held.failure is None:
            self._guarded(held, held.replica.report_snapshot, replica, failed=failed)
            self._touch(held)

    def tick(self, now: float) -> None:
        """Tell the time, in seconds of a clock that never goes back; how often does not matter."""
        for group in self.wheel.due(now):
            held = self.groups[group]
            if held.failure is None:
                self._guarded(held, held.replica.tick, blocked=bool(held.blocked))
                if held.has_work:
                    self._touch(held)

    def retry(self, group: int) -> None:
        """Try again what had no room."""
        held = self.groups.get(group)
        if held is None or held.failure is not None:
            return
        held.blocked = ""
        self._guarded(held, held.replica.retry)
        offer = held.newer or held.offer
        if offer is not None and not held.takes_snapshot:
            # The leader waits for a word of it, and for long.
            self._guarded(held, self._offered, held, *offer)
        self._touch(held)

    # What comes out

    @property
    def is_due(self) -> bool:
        """Whether a pass has anything to do."""
        return bool(self._dirty or self._retries or self._outgoing)

    def step(self) -> Pass:
        """One pass: everything there is to do for the groups that anything happened to."""
        found = Pass()
        appends, self._appends = self._appends, []
        touched: dict[int, None] = {}
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            touched.update(dirty)
            for group in dirty:
                held = self.groups[group]
                if held.failure is None:
                    self._guarded(held, self._collect, held, appends)
        for group in touched:
            held = self.groups[group]
            if (task := held.next_task()) is not None:
                found.tasks.append(task)
            if held.replica.wants_snapshot:
                held.replica.wants_snapshot = False
                found.snapshots.append(group)
            if held.replica.ticks and held.failure is None:
                self.wheel.put(group)
            else:
                self.wheel.drop(group)
        if appends := [append for append in appends if not self._holds_back(append, found)]:
            found.write = self._write(appends)
        outgoing, self._outgoing = self._outgoing, {}
        found.envelopes = {peer: Envelope(tuple(messages)) for peer, messages in outgoing.items()}
        found.retries, self._retries = self._retries, []
        found.fetches, self._fetches = self._fetches, []
        found.incidents = self.incidents.take()
        return found

    def _collect(self, held: Group, appends: list[Append]) -> None:
        out = held.replica.collect()
        appends += out.appends
        self._absorb(held, out)
        if held.queue:
            self._absorb(held, held.skip())
            if held.replica.node.has_ready():
                self._touch(held)

    def _holds_back(self, append: Append, found: Pass) -> bool:
        """Whether an append has to wait until a snapshot of its group is staged. Other groups need not."""
        held = self.groups[append.group]
        if held.held_back is not None:
            held.held_back.append(append)
            return True
        if append.snapshot is None or append is held.staged:
            return False
        held.held_back = [append]
        found.stagings.append(Staging(held.id, held.machine, append.snapshot))
        return True

    def staged(self, staging: Staging, error: Exception | None) -> None:
        """A snapshot is staged, or could not be."""
        held = self.groups[staging.group]
        waiting, held.held_back = held.held_back or [], None
        held.staged = waiting[0]
        if error is None and held.failure is None:
            self._appends += waiting
        else:
            for append in waiting:
                self._hear(held, append, error)
        self._touch(held)

    def _write(self, appends: Sequence[Append]) -> Write:
        updates = [append.update for append in appends if append.update is not None]
        foreseen = [task for append in appends if (task := self.groups[append.group].foresee(append))]
        return Write(appends, updates, foreseen)

    def _absorb(self, held: Group, out: Output) -> None:
        for message in out.messages:
            peer = self._locate(held.id, message.to)
            if peer is not None:
                self._outgoing.setdefault(peer, []).append((held.id, message))
        if out.batches:
            held.enqueue(out.batches)
        for reader in out.reads:
            held.wait(reader)

    def _guarded(self, held: Group, act: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do something with a replica; should it turn out to be broken, it ends, and the others go on."""
        try:
            act(*args, **kwargs)
        except Exception as fatal:
            # Whatever it was, it may have stopped half way through something.
            failure = GroupDamaged(f"group {held.id} cannot go on: {fatal}")
            failure.__cause__ = fatal
            unforeseen = None if isinstance(fatal, _FATAL) else fatal
            self.incidents.ended(held.id, str(fatal), unforeseen)
            held.end(failure)

    # What became of it

    def written(self, write: Write, error: Exception | None) -> None:
        """A write is durable, or was refused. To be called in the order that `step` gave them out."""
        if isinstance(error, wal.LogFailed):
            self._halt(error)
        for append in write.appends:
            self._hear(self.groups[append.group], append, write.failure_of(append.group, error))

    def _hear(self, held: Group, append: Append, error: Exception | None) -> None:
        if error is not None:
            held.refused(append)
        if held.failure is not None:
            held.replica.in_flight -= 1
            return
        self._guarded(held, self._written, held, append, error)
        if error is not None or held.has_work:
            self._touch(held)

    def _written(self, held: Group, append: Append, error: Exception | None) -> None:
        stalled = held.replica.stalled
        self._absorb(held, held.replica.written(append, error))
        if append.snapshot is not None and error is None:
            held.offer = None
        if (held.replica.stalled and not stalled) or (append.snapshot is not None and error is not None):
            self._retries.append(held.id)

    def _halt(self, failed: wal.LogFailed) -> None:
        """Nothing is known of the disk any more: nothing may be acknowledged from here on."""
        for held in self.groups.values():
            if held.failure is None:
                failure = GroupStopped(f"the log failed, the node has to end: {failed}")
                failure.__cause__ = failed
                held.end(failure)

    def applied(self, task: Task, results: Sequence[object] | BaseException) -> None:
        """A task is done, with a result for each entry, or failed."""
        held = self.groups[task.group]
        if isinstance(results, BaseException):
            held.failed(results)
            if held.blocked:
                self._retries.append(held.id)
        else:
            self._guarded(held, self._done, held, results)
        self._touch(held)

    def _done(self, held: Group, results: Sequence[object]) -> None:
        self._absorb(held, held.done(results))
        if held.newer is not None and not held.takes_snapshot:
            # After a while: the log may do, now that the older one is there.
            self._retries.append(held.id)

    # Shortening the log

    def shorten(self, group: int) -> wal.GroupUpdate | None:
        """The mark that lets the log drop a group's entries as far as its state is durable; None for none.

        It must go to the log, in order with the writes. From here on the core reads nothing that may go.
        What followers still need is kept, unless the log has become too long for that: an entry that is
        kept keeps all behind it, of every group.
        """
        held = self.groups.get(group)
        if held is None or held.failure is not None or held.removed:
            return None
        storage = held.replica.storage
        # As far as the core itself knows it to be applied: made anew, it may be behind the state.
        index = min(held.machine.durable_index, held.replica.node.applied, storage.last)
        if self._log.size() <= self.options.max_kept_bytes:
            index = min(index, held.replica.needed)
        # A snapshot's record may be there already that this core has not heard of.
        if index < max(storage.first, self._log.state(group).first_index):
            return None
        mark = wal.SnapshotMark(index, storage.term(index), held.replica.shorten(index))
        return wal.GroupUpdate(group, snapshot=mark)

    def unshorten(self, group: int) -> None:
        """The mark was refused: all that it was about is still there."""
        if (held := self.groups.get(group)) is not None:
            held.replica.storage.first = self._log.state(group).first_index

    def last_words(self) -> list[wal.GroupUpdate]:
        """Commit indexes that the log does not have yet: to be written when the node stops."""
        updates = [held.replica.unwritten for held in self.groups.values() if held.failure is None]
        return [update for update in updates if update is not None]


def _never() -> bool:
    return False


def _capture(machine: StateMachine) -> Callable[[], tuple[int, bytes]]:
    if isinstance(machine, SnapshotMachine):
        return machine.capture

    def none() -> tuple[int, bytes]:
        raise LookupError("this state gives no snapshots")

    return none
