"""The catalogue: commands as a function of the state, and a file that is replaced whole."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.host import StorageFull

from tests.unit.vecdb.catalog.records import record, token
from vecdb.catalog import (
    AlterCollection,
    CatalogDamaged,
    CatalogMachine,
    CatalogState,
    CatalogTooNew,
    Command,
    CreateCollection,
    CreateToken,
    DropCollection,
    Genesis,
    QuarantineAuthor,
    Quarantined,
    ReleaseAuthor,
    RevokeToken,
    UnknownCommand,
    UpdateAliases,
    decode,
    encode,
)
from vecdb.catalog.commands import perform

NAMES = st.sampled_from(["a", "b", "c", "d"])
FIELDS = st.lists(
    st.tuples(st.sampled_from(["f", "g", "h"]), st.sampled_from(["int", "keyword"])), max_size=3
).map(lambda pairs: tuple(dict(pairs).items()))


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Genesis, st.text(max_size=5), st.integers(1, 2**63 - 1)),
    st.builds(
        CreateCollection,
        st.builds(record, NAMES, fields=FIELDS, target_recall=st.floats(0.5, 1)),
        st.integers(1, 5),
    ),
    st.builds(
        AlterCollection,
        NAMES,
        FIELDS,
        st.lists(st.sampled_from(["f", "g", "h"]), max_size=2, unique=True).map(tuple),
        st.none() | st.floats(0.5, 1),
        st.none() | st.just("other"),
    ),
    st.builds(UpdateAliases, st.lists(st.tuples(NAMES, NAMES | st.just("")), max_size=3).map(tuple)),
    st.builds(DropCollection, NAMES),
    st.builds(CreateToken, st.builds(token, NAMES, expires_at_ms=st.integers(0, 2**42))),
    st.builds(RevokeToken, NAMES),
    st.builds(QuarantineAuthor, st.builds(Quarantined, NAMES, st.text(max_size=5), st.integers(1, 2**42))),
    st.builds(ReleaseAuthor, NAMES),
)


def after(commands: Sequence[Command], state: CatalogState | None = None) -> CatalogState:
    made = state or CatalogState()
    for command in commands:
        made, _ = perform(made, command)
    return made


@given(COMMANDS)
def test_commands_survive_the_log(command: Command) -> None:
    """decode is the inverse of encode."""
    assert decode(encode(command)) == command


@given(st.lists(COMMANDS, max_size=25))
def test_the_catalogue_stays_sound(commands: list[Command]) -> None:
    """After any history: aliases point somewhere and hide nothing, no id is used twice, a refused command
    changes nothing, and the state survives being written down."""
    state = CatalogState()
    used_shards: set[int] = set()
    used_ids: set[int] = set()
    for command in commands:
        held = state
        state, result = perform(state, command)
        if result.code:
            assert state == held
            assert result.message
            assert result.reason
        elif isinstance(command, CreateCollection):
            made = result.record
            assert made is not None
            assert len(made.shards) == command.shard_count
            assert min(made.shards) > 1, "1 is the catalogue's own group"
            assert not used_shards & set(made.shards)
            assert made.collection_id not in used_ids
            used_shards |= set(made.shards)
            used_ids.add(made.collection_id)
        assert set(state.aliases.values()) <= set(state.collections)
        assert not set(state.aliases) & set(state.collections)
        assert all(name == kept.name for name, kept in state.collections.items())
        assert all(name == kept.token_id for name, kept in state.tokens.items())
        assert all(name == kept.author for name, kept in state.quarantined.items())
        assert CatalogState.load(msgpack.unpackb(msgpack.packb(state.dump()))) == state


def test_there_is_one_genesis() -> None:
    """The first names the cluster; a second is refused, so that an epoch never changes by a replay."""
    state, result = perform(CatalogState(), Genesis("one", 5))
    assert (result.code, state.cluster_id, state.epoch) == ("", "one", 5)
    again, result = perform(state, Genesis("two", 6))
    assert (again, result.code) == (state, "FAILED_PRECONDITION")


def test_names_are_resolved_through_aliases() -> None:
    """An alias leads to its collection; switching it is one step; a bad step among good ones undoes all."""
    state = after([CreateCollection(record("a"), 1), CreateCollection(record("b"), 2)])
    state = after([UpdateAliases((("live", "a"),))], state)
    assert state.resolve("live") == state.collections["a"]
    assert state.resolve("b") == state.collections["b"]
    assert state.resolve("no") is None
    state = after([UpdateAliases((("live", "b"), ("old", "a")))], state)
    assert state.resolve("live") == state.collections["b"]
    assert (state.aliases_of("a"), state.aliases_of("b")) == (["old"], ["live"])
    kept, result = perform(state, UpdateAliases((("old", ""), ("x", "no"))))
    assert (kept, result.code) == (state, "NOT_FOUND")
    kept, result = perform(state, UpdateAliases((("never", ""),)))
    assert (kept, result.code) == (state, "NOT_FOUND")
    assert "old" not in after([UpdateAliases((("old", ""),))], state).aliases


def test_fields_change_in_one_step() -> None:
    """Drops come before adds, so that a field changes its type in one command; a clash is refused."""
    state = after([CreateCollection(record("a"), 1)])
    state = after([AlterCollection("a", (("year", "keyword"),), ("year",), 0.8, "m")], state)
    held = state.collections["a"]
    assert (held.fields, held.target_recall, held.model) == ((("year", "keyword"),), 0.8, "m")
    for command, code in (
        (AlterCollection("a", (("year", "int"),)), "ALREADY_EXISTS"),
        (AlterCollection("a", (), ("no",)), "NOT_FOUND"),
        (AlterCollection("no"), "NOT_FOUND"),
    ):
        kept, result = perform(state, command)
        assert (kept, result.code) == (state, code)


def test_tokens_are_added_and_removed() -> None:
    """A token is there until it is revoked; one of the same id replaces it; revoking nothing says so."""
    state = after([CreateToken(token("t")), CreateToken(token("u"))])
    state = after([CreateToken(token("t", digest=b"2" * 32))], state)
    assert {name: held.digest for name, held in state.tokens.items()} == {"t": b"2" * 32, "u": b"1" * 32}
    state = after([RevokeToken("t")], state)
    assert list(state.tokens) == ["u"]
    kept, result = perform(state, RevokeToken("t"))
    assert (kept, result.code, result.reason) == (state, "NOT_FOUND", "TOKEN_NOT_FOUND")


def test_tokens_that_expired_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a token drops those that expired 30 days before it, by the times in the log alone; only then is
    it refused where there are too many."""
    day = 24 * 3_600_000
    old, late, kept = token("old", expires_at_ms=day), token("late", expires_at_ms=2 * day), token("kept")
    state = after([CreateToken(each) for each in (old, late, kept)])
    state = after([CreateToken(token("new", created_at_ms=31 * day + 1))], state)
    assert list(state.tokens) == ["late", "kept", "new"]
    monkeypatch.setattr("vecdb.catalog.access.MAX_TOKENS", 3)
    refused, result = perform(state, CreateToken(token("more", created_at_ms=31 * day + 1)))
    assert (refused, result.code, result.reason) == (state, "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert perform(state, CreateToken(token("new", created_at_ms=31 * day + 1)))[1].code == ""
    assert perform(state, CreateToken(token("more", created_at_ms=32 * day + 1)))[1].code == ""


def test_authors_are_quarantined_and_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again, with another reason, is no second time: since when stays. Releasing nobody says so."""
    state = after([QuarantineAuthor(Quarantined("eve", "spam", 5))])
    state = after([QuarantineAuthor(Quarantined("eve", "more spam", 9))], state)
    assert state.quarantined == {"eve": Quarantined("eve", "more spam", 5)}
    monkeypatch.setattr("vecdb.catalog.access.MAX_QUARANTINED", 1)
    refused, result = perform(state, QuarantineAuthor(Quarantined("bob", "", 9)))
    assert (refused, result.code, result.reason) == (state, "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert perform(state, QuarantineAuthor(Quarantined("eve", "", 9)))[1].code == ""
    state = after([ReleaseAuthor("eve")], state)
    assert not state.quarantined
    kept, result = perform(state, ReleaseAuthor("eve"))
    assert (kept, result.code, result.reason) == (state, "NOT_FOUND", "AUTHOR_NOT_FOUND")


@pytest.mark.parametrize("entry", [[2, "genesis", "x", 1], [1, "fly"], [1, "drop"]])
def test_an_unknown_command_stops_the_replica(entry: list[Any]) -> None:
    """An entry of a newer version or an unknown kind is never skipped."""
    with pytest.raises(UnknownCommand):
        decode(msgpack.packb(entry))


# --- the file -------------------------------------------------------------------


@given(st.lists(st.lists(COMMANDS, min_size=1, max_size=4), max_size=6))
@settings(deadline=None, max_examples=30)
def test_an_opened_catalogue_is_the_one_that_was_applied(batches: list[list[Command]]) -> None:
    """Whatever the batches, opening the file again gives the state, and applying goes on from there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        seen: list[CatalogState] = []
        machine = CatalogMachine(path, seen.append)
        index = 0
        model = CatalogState()
        for batch in batches:
            entries = [(index := index + 1, encode(command)) for command in batch]
            results = machine.apply(entries)
            assert len(results) == len(batch)
            model = replace(after(batch, model), applied=index)
            assert machine.state == model == seen[-1]
            machine = CatalogMachine(path, seen.append)
            assert machine.state == model
            assert machine.applied_index == machine.durable_index == machine.checkpoint() == index


def filled(folder: Path) -> Path:
    path = folder / "state"
    machine = CatalogMachine(path)
    machine.apply([(1, encode(Genesis("c", 1))), (2, encode(CreateCollection(record("a"), 2)))])
    return path


def test_any_flipped_bit_is_damage(tmp_path: Path) -> None:
    """One changed bit anywhere in the file is found, and the message names the file."""
    path = filled(tmp_path)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises((CatalogDamaged, CatalogTooNew), match=str(path)):
            CatalogMachine(path)


def test_a_cut_file_is_damage(tmp_path: Path) -> None:
    """A file that ends early, even an empty one, is damage and not an empty catalogue."""
    path = filled(tmp_path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(CatalogDamaged, match=str(path)):
            CatalogMachine(path)


def test_a_newer_format_is_told_as_such(tmp_path: Path) -> None:
    """A file of a later format version says so, whatever else is in it."""
    path = filled(tmp_path)
    data = bytearray(path.read_bytes())
    data[8:12] = (3).to_bytes(4, "little")
    data[12:16] = crc32c(bytes(data[16:]), crc32c(bytes(data[:12]))).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CatalogTooNew, match="format version 3"):
        CatalogMachine(path)


def test_a_file_of_the_first_format_is_read(tmp_path: Path) -> None:
    """A catalogue that was written before there were tokens opens, has none, and goes on."""
    path = filled(tmp_path)
    state = CatalogMachine(path).state
    stored = state.dump()
    del stored["tokens"], stored["quarantined"]
    head, body = b"vecdbcat" + (1).to_bytes(4, "little"), msgpack.packb(stored)
    path.write_bytes(head + crc32c(body, crc32c(head)).to_bytes(4, "little") + body)
    machine = CatalogMachine(path)
    assert machine.state == state
    machine.apply([(3, encode(CreateToken(token("t"))))])
    assert CatalogMachine(path).state.tokens == {"t": token("t")}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_replace_leaves_one_state_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, when: str
) -> None:
    """A process that dies at any step of a write leaves the old file or the new one, whole."""
    path = filled(tmp_path)
    old = CatalogMachine(path).state
    new = replace(after([DropCollection("a")], old), applied=3)
    for nth in range(3):
        machine = CatalogMachine(path)
        with monkeypatch.context() as patch:
            _dies(patch, call, when, nth)
            with suppress(Killed):
                machine.apply([(3, encode(DropCollection("a")))])
        assert CatalogMachine(path).state in (old, new)
        if CatalogMachine(path).state == new:
            path.unlink()
            filled(tmp_path)


def _dies(patch: pytest.MonkeyPatch, call: str, when: str, nth: int) -> None:
    owner: Any = {"open": Path, "fsync": os, "replace": Path}[call]
    real: Callable[..., Any] = getattr(owner, call)
    calls = iter(range(100))

    def dying(*args: Any, **kwargs: Any) -> Any:
        if next(calls) != nth:
            return real(*args, **kwargs)
        if when == "after":
            real(*args, **kwargs)
        raise Killed

    patch.setattr(owner, call, dying)


def test_the_bytes_are_synced_before_the_name_and_the_name_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power loss between any two steps leaves a whole file: content synced, renamed, folder synced."""
    path = filled(tmp_path)
    machine = CatalogMachine(path)
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        sync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replaced)
    machine.apply([(3, encode(DropCollection("a")))])
    assert steps == ["file", "rename", "folder"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_without_room_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """ENOSPC and EDQUOT are StorageFull, EIO is not; each leaves the old state, in memory and on disk."""
    path = filled(tmp_path)
    machine = CatalogMachine(path)
    old = machine.state
    entry = [(3, encode(DropCollection("a")))]
    with monkeypatch.context() as patch:

        def full(_: int) -> None:
            raise OSError(error, os.strerror(error))

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError if error == errno.EIO else StorageFull):
            machine.apply(entry)
    assert machine.state == old == CatalogMachine(path).state
    assert [each.name for each in tmp_path.iterdir()] == ["state"]
    machine.apply(entry)
    assert machine.state.applied == 3
