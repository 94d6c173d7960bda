"""What waits for one peer."""

from __future__ import annotations

from vecdb_replication.transport.codec import MAX_MESSAGES, encode
from vecdb_replication.transport.lanes import Lanes, fits, weight

from tests.unit.replication.transport.peers import append, heartbeat, snapshot

ROOM = 1 << 20


def filled(lanes: Lanes, *messages: object) -> list[bool]:
    return [lanes.put(7, message, weight(message)) for message in messages]  # type: ignore[arg-type]


def test_appends_and_snapshots_stay_in_order_and_all_else_goes_first() -> None:
    """A heartbeat overtakes what is large; nothing overtakes within a lane."""
    lanes = Lanes(10, ROOM)
    filled(lanes, append(1, b"a"), heartbeat(1), snapshot(5), append(5), heartbeat(2))
    taken = [message for _, message in lanes.take(ROOM)]
    assert taken == [heartbeat(1), heartbeat(2), append(1, b"a"), snapshot(5), append(5)]
    assert len(lanes) == lanes.bytes == 0


def test_a_full_lane_refuses_what_comes_later_and_leaves_the_other_alone() -> None:
    """By messages: appends fill up without a heartbeat being refused."""
    lanes = Lanes(2, ROOM)
    assert filled(lanes, append(1), append(2), append(3), heartbeat(1)) == [True, True, False, True]
    assert [message for _, message in lanes.take(ROOM)] == [heartbeat(1), append(1), append(2)]


def test_a_lane_is_bounded_in_bytes_but_takes_a_message_of_any_size_when_empty() -> None:
    """What is larger than the limit can still go, alone."""
    lanes = Lanes(10, 1_000)
    large = append(1, bytes(5_000))
    assert filled(lanes, large, append(2, b"x")) == [True, False]
    assert lanes.bytes == weight(large)
    lanes.take(ROOM)
    assert filled(lanes, append(2, bytes(400)), append(3, bytes(400)), append(4)) == [True, False, True]


def test_what_is_large_leaves_however_much_is_urgent() -> None:
    """Each frame takes one append along, by bytes and by messages: otherwise it might wait for ever."""
    for size, count in ((ROOM, 1), (10, MAX_MESSAGES)):
        lanes = Lanes(2 * MAX_MESSAGES, 4 * ROOM)
        filled(lanes, append(1, bytes(size)), append(2, bytes(size)))
        for index in (1, 2):
            filled(lanes, *[heartbeat(n) for n in range(count)])
            taken = [message for _, message in lanes.take(ROOM)]
            assert taken[-1].index == index
            assert len(taken) <= MAX_MESSAGES


def test_what_goes_first_can_be_taken_alone() -> None:
    """Between the pieces of something large."""
    lanes = Lanes(10, ROOM)
    filled(lanes, append(1), heartbeat(1), heartbeat(2))
    assert [message for _, message in lanes.take_light(ROOM)] == [heartbeat(1), heartbeat(2)]
    assert lanes.take_light(ROOM) == []
    assert len(lanes) == 1


def test_what_fits_is_known_beforehand() -> None:
    """An entry goes in pieces, up to a limit; all else of its message has to fit into one frame."""
    small = append(1, *[b"x"] * 100_000)
    for message, can in (
        (append(1, bytes(5 * ROOM)), True),
        (append(1, bytes(5 * ROOM + 1)), False),
        (append(1, bytes(5 * ROOM), bytes(2 * ROOM)), True),
        (append(1, bytes(5 * ROOM), bytes(3 * ROOM)), False),
        (small, True),
        (snapshot(1), True),
    ):
        assert fits(message, weight(message), ROOM, 4 * ROOM, 5 * ROOM) == can
    assert len(encode([(7, small)])) < 2_100_000


def test_a_frame_takes_what_fits_and_at_least_one() -> None:
    """A large message goes in a frame of its own."""
    lanes = Lanes(10, ROOM)
    filled(lanes, append(1, bytes(600)), append(2, bytes(600)), append(3, bytes(9_000)), append(4))
    frames = [[message.index for _, message in lanes.take(1_000)] for _ in range(4)]
    assert frames == [[1], [2], [3], [4]]


def test_a_frame_has_no_more_messages_than_a_peer_takes() -> None:
    """4,096 of them."""
    lanes = Lanes(MAX_MESSAGES + 1, ROOM * 8)
    filled(lanes, *[heartbeat(n) for n in range(MAX_MESSAGES + 1)])
    assert [len(lanes.take(ROOM * 8)) for _ in range(2)] == [MAX_MESSAGES, 1]


def test_relaxed_is_less_than_half_full() -> None:
    """In messages and in bytes, in both lanes."""
    lanes = Lanes(4, 1_000)
    assert lanes.relaxed
    filled(lanes, append(1))
    assert lanes.relaxed
    filled(lanes, append(2, bytes(400)))
    assert not lanes.relaxed
    assert [group for group, _ in lanes.clear()] == [7, 7]
    assert lanes.relaxed
    assert len(lanes) == 0
