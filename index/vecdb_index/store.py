"""One SQLite database a shard: its documents, its growing vectors, and what names its segment files.

Everything that one apply changes changes in one transaction, the applied index included, so that after a
crash the database is some prefix of history and the log replays the rest. In WAL mode with
synchronous=NORMAL a power loss may take the last transactions but never order: `durable` is the applied index
up to which it cannot, and moves with checkpoints, which this module does itself (SQLite's own would run
inside somebody's commit).

Tables: ``docs``; ``growing``, one blob of vectors for each upsert until it is sealed; ``dead``, the docnos
that still have a row in some part but no document any more; ``segments``, manifests; ``retries`` and
``sessions``, see ``retries.py``; ``meta``; and the tables of the field indexes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from vecdb_index import filters
from vecdb_index.errors import FormatTooNew, ShardClosed, ShardDamaged, StorageFailed
from vecdb_index.schema import ShardOptions

FORMAT: Final = 1
FILE: Final = "shard.db"

_PATIENCE_MS: Final = 200  # for readers, who are done in microseconds

# The columns that most reads want come first: SQLite walks a row's overflow pages only as far as it is read.
TABLES: Final = (
    """CREATE TABLE docs (
        docno INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        author TEXT NOT NULL,
        written_at_ms INTEGER NOT NULL,
        digest BLOB NOT NULL,
        source BLOB,
        payload BLOB NOT NULL,
        text TEXT
    )""",
    # Shards that were made before it lack it, and are walked where it would be asked.
    "CREATE INDEX docs_author ON docs (author)",
    """CREATE TABLE growing (
        first INTEGER PRIMARY KEY, count INTEGER NOT NULL, crc INTEGER NOT NULL, data BLOB NOT NULL
    )""",
    "CREATE TABLE dead (docno INTEGER PRIMARY KEY)",
    "CREATE TABLE segments (id INTEGER PRIMARY KEY, manifest BLOB NOT NULL)",
    """CREATE TABLE sessions (
        session BLOB PRIMARY KEY, floor INTEGER NOT NULL, seen INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX sessions_seen ON sessions (seen)",
    """CREATE TABLE retries (
        session BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        log_index INTEGER NOT NULL,
        result BLOB NOT NULL,
        PRIMARY KEY (session, sequence)
    ) WITHOUT ROWID""",
    "CREATE INDEX retries_log_index ON retries (log_index)",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
)


class Store:
    """Connections to a shard's database: one for the writer, a pool for readers."""

    def __init__(self, root: Path, options: ShardOptions, damaged: Callable[[ShardDamaged], None]) -> None:
        """``damaged`` is told of every damage that is found here."""
        self.path = root / FILE
        self._options = options
        self._damaged = damaged
        self.committed = False  # whether the last transaction is on disk, or may be
        self._idle: list[sqlite3.Connection] = []  # append and pop are atomic
        self._checkpoint_lock = threading.Lock()
        self._closed = False
        self.writer = self._connect()

    # --- connections ---------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=10.0
            )
        except sqlite3.Error as error:  # no file handle left, for one
            raise self.explain(error) from error
        for pragma in (
            "journal_mode = WAL",
            f"synchronous = {self._options.synchronous}",
            "wal_autocheckpoint = 0",
            f"cache_size = -{self._options.cache_bytes >> 10}",
            "mmap_size = 1073741824",
            "temp_store = MEMORY",
        ):
            try:
                connection.execute(f"PRAGMA {pragma}").fetchone()
            except sqlite3.DatabaseError as error:
                connection.close()
                raise self.explain(error) from error
        return connection

    def take(self) -> sqlite3.Connection:
        """A reader's connection; give it back with ``give``."""
        if self._closed:
            raise ShardClosed(str(self.path))
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def give(self, connection: sqlite3.Connection) -> None:
        """Return a reader's connection."""
        self._idle.append(connection)
        if self._closed:
            self._close_idle()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A reader's connection for a while; SQLite's complaints about the file become ShardDamaged."""
        connection = self.take()
        try:
            yield connection
        except ShardDamaged as damage:
            self._damaged(damage)
            raise
        except sqlite3.DatabaseError as error:
            raise self.explain(error) from error
        finally:
            self.give(connection)

    @contextmanager
    def moment(self) -> Iterator[sqlite3.Connection]:
        """A reader's connection whose statements all see what the first of them saw."""
        with self.reading() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connections; those that readers still hold close when they are given back."""
        self._closed = True
        self._close_idle()
        self.writer.close()

    def _close_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()

    def explain(self, error: sqlite3.Error) -> Exception:
        """The engine's error for one of SQLite's."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            damage = ShardDamaged(self.path, str(error))
            self._damaged(damage)
            return damage
        if code in (
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_CANTOPEN,
        ):
            return StorageFailed(f"{self.path}: {error}")
        return error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A writing transaction, rolled back by any exception. The caller holds the shard's write lock."""
        self.committed = False
        try:
            self.writer.execute("BEGIN IMMEDIATE")
            try:
                yield self.writer
                self._commit()
            except BaseException:
                if self.writer.in_transaction:
                    self.writer.execute("ROLLBACK")
                raise
        except ShardDamaged as damage:
            self._damaged(damage)
            raise
        except sqlite3.DatabaseError as error:
            raise self.explain(error) from error

    def _commit(self) -> None:
        # Before the statement: what interrupts it may come just after it took effect.
        self.committed = True
        try:
            self.writer.execute("COMMIT")
        except sqlite3.Error:
            self.committed = False
            raise

    # --- meta ----------------------------------------------------------------------------------------------

    def create(self, values: dict[str, Any]) -> None:
        """Make the tables and the first meta values."""
        with self.transaction() as connection:
            for statement in TABLES:
                connection.execute(statement)
            filters.create(connection)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            for key, value in values.items():
                put(connection, key, value)

    def check_format(self) -> None:
        """Raise FormatTooNew or ShardDamaged where this version must not read the database."""
        try:
            (version,) = self.writer.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise ShardDamaged(self.path, str(error)) from error
        if version > FORMAT:
            raise FormatTooNew(f"{self.path}: format {version}; this vecdb reads up to {FORMAT}")
        if version != FORMAT:
            raise ShardDamaged(self.path, f"format {version} was never written")

    def meta(self) -> dict[str, Any]:
        """Every meta value."""
        return dict(self.writer.execute("SELECT key, value FROM meta"))

    # --- checkpoints ---------------------------------------------------------------------------------------

    def wal_bytes(self) -> int:
        """The size of SQLite's write-ahead log file."""
        return _size(self.path.with_name(FILE + "-wal"))

    def bytes_on_disk(self) -> int:
        """The size of the database and its write-ahead log."""
        return _size(self.path) + self.wal_bytes()

    def checkpoint(self, *, truncate: bool = False) -> bool:
        """Move the write-ahead log into the database and sync it; whether all of it went.

        With ``truncate``, by a caller who keeps writers out, the log also starts anew: under steady writes
        it would otherwise never find the moment, and grow.
        """
        with self._checkpoint_lock:
            connection = self.take()
            try:
                connection.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS if truncate else 0}").fetchone()
                mode = "TRUNCATE" if truncate else "PASSIVE"
                _, frames, moved = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                connection.execute("PRAGMA busy_timeout = 10000").fetchone()
            except sqlite3.DatabaseError as error:
                raise self.explain(error) from error
            finally:
                self.give(connection)
            return bool(frames == moved and frames >= 0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def put(connection: sqlite3.Connection, key: str, value: Any) -> None:
    """Set a meta value."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
