"""What makes a retried mutation apply once.

A mutation with a session is remembered by (session, sequence) with its result, and coming again gets that
result. The memory is bounded by log order, never by time, so that every replica forgets the same: results
are kept for WINDOW log indexes, and of what was forgotten a session keeps the highest sequence, its floor:
an unknown sequence at or below it may have been applied, and is refused as expired. Floors are kept for the
SESSIONS sessions that were used last.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgpack

from vecdb_index.results import ApplyResult, Failure

WINDOW: Final = 100_000
SESSIONS: Final = 100_000

# Left alone, SQLite reads all that is remembered in the order of sessions, to group without sorting.
EXPIRED: Final = (
    "SELECT session, MAX(sequence) FROM retries INDEXED BY retries_log_index"
    " WHERE log_index <= ? GROUP BY session"
)
EVICTED: Final = (
    "DELETE FROM sessions WHERE session IN (SELECT session FROM sessions"
    " WHERE session NOT IN (SELECT session FROM retries) ORDER BY seen, session LIMIT ?)"
)


class Retries:
    """The window, inside the writer's transaction."""

    def __init__(
        self, connection: sqlite3.Connection, count: int, *, window: int = WINDOW, sessions: int = SESSIONS
    ) -> None:
        """``count`` is how many sessions are remembered; the attribute of that name follows."""
        self._connection = connection
        self.count = count
        self._window, self._sessions = window, sessions

    def recall(self, session: bytes, sequence: int) -> ApplyResult | None:
        """The result of a mutation that came before (perhaps only that it expired), or None for a new one."""
        row = self._connection.execute(
            "SELECT log_index, result FROM retries WHERE session = ? AND sequence = ?", (session, sequence)
        ).fetchone()
        if row is not None:
            count, failures = msgpack.unpackb(row[1])
            return ApplyResult(row[0], count, tuple(Failure(*failure) for failure in failures))
        row = self._connection.execute("SELECT floor FROM sessions WHERE session = ?", (session,)).fetchone()
        if row is not None and sequence <= row[0]:
            reason = f"sequence {sequence} is older than what this shard remembers of its session"
            return ApplyResult(0, 0, (Failure(-1, "expired", reason),))
        return None

    def remember(self, session: bytes, sequence: int, result: ApplyResult) -> None:
        """Note a result under its log index."""
        packed = msgpack.packb(
            [result.count, [(item.position, item.code, item.message) for item in result.failures]]
        )
        self._connection.execute(
            "INSERT INTO retries VALUES (?, ?, ?, ?)", (session, sequence, result.index, packed)
        )
        known = self._connection.execute(
            "UPDATE sessions SET seen = ? WHERE session = ?", (result.index, session)
        ).rowcount
        if not known:
            self._connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?)", (session, -(2**63), result.index)
            )
            self.count += 1
            self._evict()

    def forget(self, index: int) -> None:
        """Drop what lies outside the window at a log index; called for each, so batching changes nothing."""
        oldest = index - self._window
        expired = self._connection.execute(EXPIRED, (oldest,)).fetchall()
        if not expired:
            return
        self._connection.executemany(
            "UPDATE sessions SET floor = MAX(floor, ?) WHERE session = ?",
            [(sequence, session) for session, sequence in expired],
        )
        self._connection.execute("DELETE FROM retries WHERE log_index <= ?", (oldest,))

    def _evict(self) -> None:
        if self.count > self._sessions:
            self.count -= self._connection.execute(EVICTED, (self.count - self._sessions,)).rowcount


def count_sessions(connection: sqlite3.Connection) -> int:
    """How many sessions are remembered: for opening a shard, as this looks at every one."""
    (count,) = connection.execute("SELECT COUNT(*) FROM sessions").fetchone()
    return int(count)
