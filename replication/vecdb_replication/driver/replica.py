"""One node of the driver: a core that may be up, down or broken, and what it stores."""

from ..raft import (
    NO_LIMIT,
    Config,
    Entry,
    EntryType,
    RawNode,
    ReadOnlyOption,
    Snapshot,
)
from .codec import Json, decode_conf_change, write_conf_state
from .fields import BadRequestError, Fields, names_of
from .machine import DriverStorage

_READ_ONLY = names_of(ReadOnlyOption)


class NotRunningError(Exception):
    """The node has crashed and was not restarted."""


class BrokenError(Exception):
    """The node met a fatal error and was not restarted."""


def read_config(node: int, fields: Fields, storage: DriverStorage, applied: int) -> Config:
    """A core's configuration. A missing limit is no limit, timeouts are never randomized."""
    return Config(
        id=node,
        storage=storage,
        draw_timeout=lambda election_tick: election_tick,
        election_tick=fields.number("election_tick", 3),
        heartbeat_tick=fields.number("heartbeat_tick", 1),
        applied=applied,
        pre_vote=fields.flag("pre_vote"),
        check_quorum=fields.flag("check_quorum"),
        async_storage_writes=fields.flag("async_storage_writes"),
        read_only=fields.choice("read_only", _READ_ONLY, "safe"),
        max_inflight_msgs=fields.number("max_inflight_msgs", NO_LIMIT),
        max_inflight_bytes=fields.number("max_inflight_bytes", NO_LIMIT),
        max_size_per_msg=fields.number("max_size_per_msg", NO_LIMIT),
        max_committed_size_per_ready=fields.number("max_committed_size_per_ready", NO_LIMIT),
        max_uncommitted_entries_size=fields.number("max_uncommitted_entries_size", NO_LIMIT),
        disable_proposal_forwarding=fields.flag("disable_proposal_forwarding"),
        disable_conf_change_validation=fields.flag("disable_conf_change_validation"),
        step_down_on_removal=fields.flag("step_down_on_removal"),
    )


class Replica:
    """A node made from a configuration and, perhaps, a snapshot."""

    def __init__(self, node: int, fields: Fields, snapshot: Snapshot | None) -> None:
        self._node = node
        self._fields = fields
        self.storage = DriverStorage(snapshot)
        applied = fields.number("applied", self.storage.machine.index)
        self._core: RawNode | None = RawNode(read_config(node, fields, self.storage, applied))
        self._broken = False

    @property
    def core(self) -> RawNode:
        """The core. Raises NotRunningError or BrokenError while there is none to use."""
        if self._core is not None:
            return self._core
        if self._broken:
            raise BrokenError("the node met a fatal error: restart it")
        raise NotRunningError("the node has crashed: restart it")

    @property
    def running_storage(self) -> DriverStorage:
        """The storage, for writing on behalf of the core. Raises as `core` does where there is none."""
        _ = self.core
        return self.storage

    def break_down(self) -> None:
        """The core must not be used any more."""
        self._core = None
        self._broken = True

    def crash(self, *, lose_unsynced: bool) -> None:
        """Forget the core, and what a power failure would take too."""
        self._core = None
        self._broken = False
        if lose_unsynced:
            self.storage.lose_unsynced()

    def restart(self, fields: Fields | None, applied: int | None) -> None:
        """Make the core again from the storage, with the state machine as it was at `applied`."""
        machine = self.storage.machine
        if applied is None:
            applied = machine.index if fields is None else fields.number("applied", machine.index)
        if not machine.first <= applied <= machine.index:
            raise BadRequestError(f"applied must be from {machine.first} to {machine.index}")
        fields = self._fields if fields is None else fields
        config = read_config(self._node, fields, self.storage, applied)
        config.validate()
        self._fields = fields
        self.storage.machine = machine.as_of(applied)
        self.break_down()
        self._core = RawNode(config)
        self._broken = False

    def apply(self, entries: tuple[Entry, ...]) -> list[Json]:
        """Apply committed entries; the memberships after each change among them.

        Those at or below the applied index change nothing.
        """
        core, machine = self.core, self.storage.machine
        changes = [None if entry.type is EntryType.NORMAL else decode_conf_change(entry) for entry in entries]
        conf_states = []
        for entry, change in zip(entries, changes, strict=True):
            if entry.index <= machine.index:
                continue
            if change is None:
                machine.apply(entry, entry.data, None)
            else:
                conf_state = core.apply_conf_change(change)
                machine.apply(entry, change.context, conf_state)
                conf_states.append(write_conf_state(conf_state))
        return conf_states
