"""Changes of membership and their encoding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vecdb_replication.raft import (
    Change,
    ChangeType,
    ConfChange,
    Entry,
    EntryType,
    Transition,
    from_entry,
    to_entry,
)

SINGLES = st.builds(Change, st.sampled_from(ChangeType), st.integers(0, 2**64 - 1))
CHANGES = st.builds(
    ConfChange, st.lists(SINGLES, max_size=5).map(tuple), st.sampled_from(Transition), st.binary()
)
V1_CHANGES = st.builds(
    lambda single, context: ConfChange((single,), context=context, v1=True), SINGLES, st.binary()
)


@settings(deadline=None)
@given(CHANGES | V1_CHANGES)
def test_a_change_survives_its_encoding(change: ConfChange) -> None:
    """What was proposed is what is applied."""
    assert from_entry(to_entry(change)) == change


def test_the_encoding_is_etcds() -> None:
    """Byte for byte what raftpb's Marshal writes: id, type, node_id; transition, changes."""
    add = Change(ChangeType.ADD_VOTER, 2)
    learn = Change(ChangeType.ADD_LEARNER, 300)
    assert to_entry(ConfChange((add,), v1=True)).data == b"\x08\x00\x10\x00\x18\x02"
    assert to_entry(ConfChange((add,), context=b"x", v1=True)).data == b"\x08\x00\x10\x00\x18\x02\x22\x01x"
    assert to_entry(ConfChange()).data == b"\x08\x00"
    assert (
        to_entry(ConfChange((add, learn), Transition.EXPLICIT, b"yz")).data
        == b"\x08\x02\x12\x04\x08\x00\x10\x02\x12\x05\x08\x03\x10\xac\x02\x1a\x02yz"
    )


def test_an_entry_without_data_leaves_a_joint_state() -> None:
    """The change that the core itself proposes is the empty one."""
    change = from_entry(Entry(type=EntryType.CONF_CHANGE_V2))
    assert change == ConfChange()
    assert change.leaves_joint
    assert not change.enters_joint


def test_which_changes_use_a_joint_state() -> None:
    """More than one does, and any for which it is asked; only an explicit one is left on request."""
    one = (Change(ChangeType.ADD_VOTER, 2),)
    two = (*one, Change(ChangeType.REMOVE, 3))
    table = [
        (ConfChange(one), False, False),
        (ConfChange(two), True, False),
        (ConfChange(one, Transition.IMPLICIT), True, False),
        (ConfChange(one, Transition.EXPLICIT), True, False),
        (ConfChange((), Transition.EXPLICIT), True, False),
        (ConfChange((), context=b"why"), False, True),
    ]
    for change, enters, leaves in table:
        assert (change.enters_joint, change.leaves_joint) == (enters, leaves)
    assert ConfChange(two).auto_leave
    assert ConfChange(one, Transition.IMPLICIT).auto_leave
    assert not ConfChange(two, Transition.EXPLICIT).auto_leave


def test_the_older_encoding_holds_exactly_one_change() -> None:
    """Two changes, none, or a transition are refused before they are proposed."""
    one = Change(ChangeType.ADD_VOTER, 2)
    for change in (
        ConfChange(v1=True),
        ConfChange((one, one), v1=True),
        ConfChange((one,), Transition.EXPLICIT, v1=True),
    ):
        with pytest.raises(ValueError, match="exactly one change"):
            to_entry(change)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EntryType.CONF_CHANGE_V2, b"\x08"),
        (EntryType.CONF_CHANGE_V2, b"\x08\xff"),
        (EntryType.CONF_CHANGE_V2, b"\x08" + b"\xff" * 11),
        (EntryType.CONF_CHANGE_V2, b"\x08\x07"),
        (EntryType.CONF_CHANGE_V2, b"\x12\x05\x08"),
        (EntryType.CONF_CHANGE_V2, b"\x12\x02\x08\x09"),
        (EntryType.CONF_CHANGE_V2, b"\x12\x03\x0a\x01x"),
        (EntryType.CONF_CHANGE, b"\x80"),
        (EntryType.CONF_CHANGE, b"\x0d\x00\x00\x00\x00"),
        (EntryType.CONF_CHANGE, b"\x10\x09"),
    ],
)
def test_broken_data_is_refused(kind: EntryType, data: bytes) -> None:
    """Cut short, of an unknown kind or type, or too long a number: a ValueError, nothing else."""
    with pytest.raises(ValueError):
        from_entry(Entry(type=kind, data=data))


@settings(deadline=None)
@given(st.binary(max_size=30), st.sampled_from([EntryType.CONF_CHANGE, EntryType.CONF_CHANGE_V2]))
def test_any_bytes_are_a_change_or_a_value_error(data: bytes, kind: EntryType) -> None:
    """Decoding raises nothing but ValueError, and what it accepts can be encoded again."""
    try:
        change = from_entry(Entry(type=kind, data=data))
    except ValueError:
        return
    assert from_entry(to_entry(change)) == change


def test_unknown_fields_are_skipped() -> None:
    """A later version may add fields; those known are read all the same."""
    data = b"\x08\x01\x50\x07\x5a\x02hi\x12\x04\x08\x01\x10\x05"
    change = from_entry(Entry(type=EntryType.CONF_CHANGE_V2, data=data))
    assert change == ConfChange((Change(ChangeType.REMOVE, 5),), Transition.IMPLICIT)
    old = from_entry(Entry(type=EntryType.CONF_CHANGE, data=b"\x08\x09\x50\x07\x18\x05"))
    assert old == ConfChange((Change(ChangeType.ADD_VOTER, 5),), v1=True)


def test_a_normal_entry_holds_no_change() -> None:
    """Asking for one is an error, whatever its data."""
    with pytest.raises(ValueError, match="normal"):
        from_entry(Entry(data=b"\x08\x00"))
