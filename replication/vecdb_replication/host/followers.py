"""The others of a group, as the one that may lead it sees them: who is alive, and who is being brought up."""

from __future__ import annotations

from collections.abc import Callable

from vecdb_replication import raft
from vecdb_replication.host.storage import WalStorage
from vecdb_replication.host.work import Options


class Followers:
    """What the core's progress does not tell. `is_sending` says whether somebody fetches a snapshot now."""

    __slots__ = ("_heard", "_id", "_is_sending", "_now", "_offered", "_options", "_snapshots")

    def __init__(self, own_id: int, options: Options, is_sending: Callable[[], bool]) -> None:
        self._id = own_id
        self._options = options
        self._is_sending = is_sending
        self._now = 0
        self._heard: dict[int, int] = {}
        self._snapshots: dict[int, int] = {}
        """For how many ticks a word on the snapshot that was sent to somebody is waited for."""
        self._offered: dict[int, tuple[int, int]] = {}
        """The entry behind which somebody may go on with the log, and until when that is expected."""

    def begin(self) -> None:
        """A new life for the core, which has sent nothing yet."""
        self._snapshots.clear()

    def heard(self, peer: int) -> None:
        """It has said something."""
        self._heard[peer] = self._now

    def sent_snapshot(self, peer: int, index: int) -> None:
        """One of the state at `index` is on its way, or so it seems.

        The log is kept behind it for as long again as a word of it is waited for: that it seems to be
        lost does not end it, for its files come another way, and take their time. Of several the oldest
        counts. Whoever fetches it goes on with that.
        """
        before, until = self._offered.get(peer, (index, 0))
        if until > self._now:
            index = min(index, before)
        self._offered[peer] = (index, self._now + 2 * self._options.snapshot_ticks)
        self._snapshots[peer] = self._options.snapshot_ticks

    def report_snapshot(self, node: raft.RawNode, peer: int, *, failed: bool) -> None:
        """What became of the snapshot that was sent to a peer."""
        if self._snapshots.pop(peer, None) is not None:
            node.report_snapshot(peer, failed=failed)

    def tick(self, node: raft.RawNode) -> None:
        """Some time has passed: a snapshot of which nothing is heard is lost, unless somebody fetches it."""
        self._now += 1
        for peer in list(self._snapshots):
            self._snapshots[peer] -= 1
            if self._snapshots[peer] > 0:
                continue
            if self._is_sending():
                self.sent_snapshot(peer, self._offered[peer][0])
            else:
                self.report_snapshot(node, peer, failed=True)

    def heir(self, node: raft.RawNode, conf: raft.ConfState) -> int:
        """Who has most of the leader's log, and answers; 0 for nobody."""
        peers = node.status().progress.items()
        alive = [(peer.match, id_) for id_, peer in peers if id_ in conf.voters and peer.recent_active]
        _, heir = max((each for each in alive if each[1] != self._id), default=(0, raft.NO_NODE))
        return heir

    def needed(self, node: raft.RawNode, storage: WalStorage) -> int:
        """The log is worth keeping above this index: a follower that is alive goes on from there."""
        alive = self._now - 2 * self._options.election_ticks
        needed = storage.last
        for peer, progress in node.status().progress.items():
            if peer == self._id:
                continue
            starts = [self._place_behind_snapshot(peer, progress.match)]
            if self._heard.get(peer, alive) > alive:
                starts.append(max(progress.match, progress.pending_snapshot))
            # Further back nothing is left for it: it gets a snapshot, and goes on from that.
            needed = min([needed, *(start for start in starts if start >= storage.first - 1)])
        return needed

    def _place_behind_snapshot(self, peer: int, match: int) -> int:
        """Where the log goes on for somebody who was offered a snapshot; -1 where it needs none any more."""
        index, until = self._offered.get(peer, (-1, 0))
        if match < index and self._now < until:
            return index
        self._offered.pop(peer, None)
        return -1
