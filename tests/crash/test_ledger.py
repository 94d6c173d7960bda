"""The campaigns' oracle refuses what it should: an oracle that accepts everything finds nothing."""

from __future__ import annotations

from typing import Any

import pytest
from vecdb_client import StoredDocument

from tests.crash.ledger import State, Track, Write, payload_of, text_of, vector_of

KEYS = [f"w0-{number}" for number in range(6)]
SHARD = 2


class Shown:
    """A document as a node would show it, changed at will."""

    def __init__(self, key: str, state: State, **changes: Any) -> None:
        self.id = key
        self.payload = payload_of(key, state)
        self.text = text_of(key, state.stamp)
        self.vector = vector_of(key, state.stamp, 4)
        self.version = state.version
        vars(self).update(changes)


def _track() -> Track:
    """Two acknowledged writes (all keys at 5, three of them again at 9), and one that is under way."""
    track = Track("docs", KEYS, 4, [SHARD])
    track.attempt(Write("upsert", tuple(KEYS), 1))
    track.acknowledge({SHARD: 5})
    track.attempt(Write("upsert", tuple(KEYS[:3]), 2))
    track.acknowledge({SHARD: 9})
    track.attempt(Write("update", tuple(KEYS[2:4]), 3))
    return track


NOW = {key: State(2, 2, 9) for key in KEYS[:3]} | {key: State(1, 1, 5) for key in KEYS[3:]}
NEXT = NOW | {KEYS[2]: State(2, 3, 12), KEYS[3]: State(1, 3, 12)}


def _accepted(documents: list[Any]) -> bool:
    track = _track()
    found: list[StoredDocument] = documents
    try:
        track.check(track.before(), found)
    except AssertionError:
        return False
    return True


def _shown(states: dict[str, State]) -> list[Any]:
    return [Shown(key, state) for key, state in states.items()]


@pytest.mark.parametrize("states", [NOW, NEXT])
def test_a_prefix_is_accepted(states: dict[str, State]) -> None:
    """What was acknowledged, without and with the write under way."""
    assert _accepted(_shown(states))


@pytest.mark.parametrize(
    "states",
    [
        {key: State(1, 1, 5) for key in KEYS},
        NOW | {KEYS[2]: NEXT[KEYS[2]]},
        NOW | {KEYS[5]: State(1, 1, 6)},
        NEXT | {KEYS[2]: State(2, 3, 13)},
        NOW | {KEYS[2]: State(2, 3, 9), KEYS[3]: State(1, 3, 9)},
        {key: NOW[key] for key in KEYS[1:]},
        {},
    ],
    ids=["gone back", "half a batch", "other version", "two versions", "old version", "one lost", "all lost"],
)
def test_what_is_no_prefix_is_refused(states: dict[str, State]) -> None:
    """Lost, half done, or at versions that cannot be."""
    assert not _accepted(_shown(states))


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": payload_of(KEYS[0], State(1, 1, 5))},
        {"text": text_of(KEYS[0], 1)},
        {"vector": vector_of(KEYS[0], 1, 4)},
        {"vector": None},
    ],
    ids=["payload", "text", "vector", "no vector"],
)
def test_a_half_document_is_refused(changes: dict[str, Any]) -> None:
    """One part of a document that is of another write than the rest."""
    rest = _shown({key: NOW[key] for key in KEYS[1:]})
    assert not _accepted([Shown(KEYS[0], NOW[KEYS[0]], **changes), *rest])


def test_a_document_that_is_there_twice_is_refused() -> None:
    """Also where both are right."""
    assert not _accepted([*_shown(NOW), Shown(KEYS[0], NOW[KEYS[0]])])


def test_a_deleted_document_stays_deleted() -> None:
    """Once acknowledged, a delete cannot be undone by a crash."""
    track = Track("docs", KEYS, 4, [SHARD])
    track.attempt(Write("upsert", tuple(KEYS), 1))
    track.acknowledge({SHARD: 5})
    track.attempt(Write("delete", (KEYS[0],), 2))
    track.acknowledge({SHARD: 6})
    left: list[Any] = _shown({key: State(1, 1, 5) for key in KEYS[1:]})
    track.check(track.before(), left)
    with pytest.raises(AssertionError, match="is there"):
        track.check(track.before(), [*left, *_shown({KEYS[0]: State(1, 1, 5)})])
