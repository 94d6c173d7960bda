"""The state of an open shard: the one place where views are made and swapped.

Two kinds of writers exist. ``apply`` (whoever holds the log) changes documents; the builder replaces growing
blocks and segments by equal segments. Both do it under ``lock``, first in SQLite, then in memory.
Readers take ``view`` and need no lock. Nor does the builder to look at ``blocks``, which are swapped whole as
the view is: all but the last have every row that they will ever have.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from pyroaring import BitMap

from vecdb_index import sealed
from vecdb_index.apply import Applier, Effects
from vecdb_index.documents import have_texts, texts_of, vectors_of
from vecdb_index.errors import (
    ShardBroken,
    ShardClosed,
    ShardDamaged,
    ShardError,
    ShardInUse,
    StorageFailed,
)
from vecdb_index.files import checksum
from vecdb_index.filters import FieldIndexes
from vecdb_index.fulltext.analysis import Analyzer, analyzer
from vecdb_index.growing import Block
from vecdb_index.hashing import MultisetHash
from vecdb_index.hidden import NOBODY, Hidden
from vecdb_index.knn import F32, I64
from vecdb_index.parts import Part, Rows, View
from vecdb_index.results import ApplyResult, Row
from vecdb_index.retries import count_sessions
from vecdb_index.schema import Schema, ShardOptions
from vecdb_index.sealed import Manifest
from vecdb_index.store import FILE, Store, put

LOCK_FILE: Final = "LOCK"

MAX_BLOCKS: Final = 16  # full growing blocks that may wait to be sealed before writers do
PATIENCE: Final = 5.0  # seconds that a writer then waits

_NO_DOCNOS: Final[I64] = np.empty(0, dtype=np.int64)


class Core:
    """An open shard without its background threads and its public face."""

    def __init__(self, root: Path, options: ShardOptions, schema: Schema | None) -> None:
        """Open ``root``, or create it where a schema is given."""
        self.root, self.options = root, options
        self.rows = options.row_cache.open()
        self.lock = threading.RLock()
        self.closed = False
        self.damage: ShardDamaged | None = None
        self.broken: ShardBroken | None = None
        self.error: str | None = None
        self.changed = threading.Condition()  # notified after every new view
        self.on_commit: Callable[[], None] = lambda: None  # called after each, with or without a new view
        self.last_write = time.monotonic()
        self._lock_handle = _lock(root)
        try:
            self.store = Store(root, options, self.damaged)
            try:
                if schema is not None:
                    self._create(schema)
                self._load()
            except BaseException:
                self.store.close()
                raise
        except BaseException:
            os.close(self._lock_handle)
            raise

    # --- opening -------------------------------------------------------------------------------------------

    def _create(self, schema: Schema) -> None:
        self.store.create(
            {
                "schema": schema.pack(),
                "applied": 0,
                "documents": 0,
                "next_docno": 0,
                "next_segment": 1,
                "content_hash": MultisetHash().digest(),
            }
        )
        self.store.checkpoint(truncate=True)
        self.options.files.sync_directory(self.root)
        self.options.files.sync_directory(self.root.parent)

    def _load(self) -> None:
        self.store.check_format()
        try:
            meta = self.store.meta()
            self.schema = Schema.unpack(meta["schema"])
            packed = [
                row[0] for row in self.store.writer.execute("SELECT manifest FROM segments ORDER BY id")
            ]
            manifests = [Manifest.unpack(data) for data in packed]
            dead = [row[0] for row in self.store.writer.execute("SELECT docno FROM dead ORDER BY docno")]
            self._next_docno: int = meta["next_docno"]
            self._next_segment: int = meta["next_segment"]
            self._sessions = count_sessions(self.store.writer)
            self._content = MultisetHash(meta["content_hash"])
            applied, documents = int(meta["applied"]), int(meta["documents"])
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise ShardDamaged(self.store.path, str(error)) from error
        dropped = sealed.remove_orphans(self.root, self.options.files, manifests, self._next_segment)
        self.indexes = FieldIndexes(self.schema.fields)
        gone = np.array(dead, dtype=np.int64)
        opened = [self.open_rows(manifest) for manifest in manifests]
        parts = tuple(Part(rows).without_docnos(gone) for rows in opened)
        self.blocks = self._load_growing(gone)
        self.view = View(applied, documents, parts, self._growing())
        self._hidden = Hidden(NOBODY, BitMap())
        with self.lock:
            self._shown()  # now, rather than when the first reader waits for it
        living = sum(part.living for part in self.view.sealed + self.view.growing)
        if living != documents:
            raise ShardDamaged(
                self.store.path, f"{documents} documents, but {living} vectors that are theirs"
            )
        # What was read may sit in a write-ahead log that a process crash left unsynced.
        self.durable = 0
        self._commits, self._durable_commits = 1, 0
        self._trash = [(self._commits, dropped)]

    def _load_growing(self, dead: I64) -> tuple[Block, ...]:
        blocks = [self._new_block()]
        limit = self.options.block_rows(self.schema.dim)
        stored = self.store.writer.execute("SELECT first, count, crc, data FROM growing ORDER BY first")
        for first, count, crc, data in stored:
            if checksum(data) != crc or len(data) != 4 * count * self.schema.dim:
                raise ShardDamaged(
                    self.store.path, f"the vectors of docno {first} on do not fit their checksum"
                )
            if blocks[-1].count >= limit:
                blocks.append(self._new_block())
            docnos = np.arange(first, first + count, dtype=np.int64)
            blocks[-1].append(docnos, np.frombuffer(data, dtype="<f4").reshape(count, -1))
        for block in blocks:
            block.publish(dead)
        return tuple(blocks)

    def _new_block(self) -> Block:
        return Block(self.schema.dim, self.schema.metric, self.words)

    def close(self) -> None:
        """Checkpoint, close the database and unlock the directory."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            with self.changed:
                self.changed.notify_all()
            try:
                if self.damage is None and self.broken is None:
                    self._checkpoint_locked()
            except StorageFailed as error:
                self.error = str(error)
            finally:
                self.store.close()
                os.close(self._lock_handle)

    def check(self) -> None:
        """Raise if the shard was closed, or is damaged or broken: neither is ever served."""
        if self.closed:
            raise ShardClosed(str(self.root))
        if self.damage is not None:
            raise ShardDamaged(self.damage.path, self.damage.reason)
        if self.broken is not None:
            raise ShardBroken(str(self.broken)) from self.broken

    def damaged(self, damage: ShardDamaged) -> None:
        """Note damage, whoever found it; the first is what is told."""
        with self.changed:
            self.damage = self.damage or damage
            self.changed.notify_all()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A change of database and memory both. The caller holds the lock.

        Memory that was left behind what is committed would be the base of the next transaction, and wrong
        for good: the entry would be applied twice. So that is the end of this Core; the database is right.
        """
        self.store.committed = False
        try:
            yield
        except BaseException as error:
            if self.store.committed:
                self.broken = ShardBroken(f"{self.root} must be reopened: a write was interrupted: {error!r}")
                with self.changed:
                    self.changed.notify_all()
            raise

    def shown(self) -> View:
        """The view without the documents of quarantined authors: what readers are shown."""
        view = self.view
        authors, hidden = self.options.quarantine.authors, self._hidden
        if hidden.authors is authors or hidden.authors == authors:
            return hidden.without(view) if authors else view
        with self.lock:
            self.check()
            return self._shown()

    def _shown(self) -> View:
        """The same. The caller holds the lock, so that view and database are of one moment."""
        authors = self.options.quarantine.authors
        if self._hidden.authors != authors:
            try:
                self._hidden = Hidden.read(self.store.writer, authors)
            except sqlite3.DatabaseError as error:
                raise self.store.explain(error) from error
        return self._hidden.without(self.view) if authors else self.view

    @contextmanager
    def pinned(self, *, whole: bool = False) -> Iterator[tuple[sqlite3.Connection, View]]:
        """A connection and a view that see the same moment; it waits for a writer in the middle of one.

        The view is what readers are shown, unless it is to be ``whole``.
        """
        with self.store.moment() as connection:
            with self.lock:
                self.check()
                connection.execute(
                    "SELECT 1 FROM meta"
                ).fetchone()  # SQLite's moment is that of the first read
                view = self.view if whole else self._shown()
            yield connection, view

    # --- apply ---------------------------------------------------------------------------------------------

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[ApplyResult]:
        """See ``Shard.apply``."""
        self._wait_for_room()
        with self.lock:
            self.check()
            view = self.view
            _check_order(entries)
            fresh = [entry for entry in entries if entry[0] > view.applied]
            if not fresh:
                return []
            effects = Effects(
                applied=view.applied,
                documents=view.documents,
                next_docno=self._next_docno,
                sessions=self._sessions,
                content=MultisetHash(self._content.digest()),
                schema=self.schema,
            )
            with self._whole():
                try:
                    with self.store.transaction() as connection:
                        applier = Applier(connection, effects, self.indexes, self._vectors)
                        results = applier.apply(fresh)
                        applier.finish()
                except BaseException:
                    self.indexes.rolled_back()
                    raise
                self._publish(effects)
            return results

    def _wait_for_room(self) -> None:
        """Let the builder catch up where it is far behind: what is not sealed yet is held in memory.

        Not for ever, and not when it fails: a shard that cannot seal can still be written to.
        """
        if len(self.blocks) > MAX_BLOCKS:
            with self.changed:
                self.changed.wait_for(
                    lambda: len(self.blocks) <= MAX_BLOCKS or self.closed or self.error or self.damage,
                    PATIENCE,
                )

    def _vectors(self, docnos: I64) -> F32:
        vectors, here = vectors_of(self.view, docnos)
        if not here.all():
            raise ShardDamaged(self.store.path, f"document {docnos[~here][0]} has no vector")
        return vectors

    def _publish(self, effects: Effects) -> None:
        # The indexes first: they must know every document of a view before a reader can have the view.
        self.indexes.committed()
        self._hidden = self._hidden.followed(self.store.writer, self._next_docno)
        self._next_docno, self._content, self.schema = effects.next_docno, effects.content, effects.schema
        self._sessions = effects.sessions
        limit = self.options.block_rows(self.schema.dim)
        blocks = list(self.blocks)
        touched = set()
        for batch in effects.batches:
            if blocks[-1].count >= limit:
                blocks.append(self._new_block())
            blocks[-1].append(batch.docnos, batch.vectors)
            touched.add(blocks[-1])
        dead = np.array(sorted(effects.dead), dtype=np.int64)
        for block in blocks:
            if len(dead) or block in touched:
                block.publish(dead)
        # Only now: the builder seals any block but the last, with the rows that are published in it.
        self.blocks = tuple(blocks)
        sealed_parts = self.view.sealed
        if len(dead):
            sealed_parts = tuple(part.without_docnos(dead) for part in sealed_parts)
        self.rows.drop(effects.dead)
        self._committed()
        self.last_write = time.monotonic()
        view = View(effects.applied, effects.documents, sealed_parts, self._growing())
        view.inherit(self.view, [batch.docnos for batch in effects.batches], effects.dead)
        self._show(view)

    def _committed(self) -> None:
        self._commits += 1
        self.on_commit()

    def _growing(self) -> tuple[Part, ...]:
        return tuple(block.part for block in self.blocks)

    def _show_layout(self, sealed_parts: tuple[Part, ...]) -> None:
        """The same documents in other parts."""
        view = View(self.view.applied, self.view.documents, sealed_parts, self._growing())
        view.inherit(self.view, [], [])
        self._show(view)

    def _show(self, view: View) -> None:
        self.view = view
        with self.changed:
            self.changed.notify_all()

    def remember(self, view: View, rows: Iterable[Row]) -> None:
        """Keep rows that were read while the shard looked like this; if it no longer does, they may be dead.

        Nobody waits for a writer on behalf of a cache.
        """
        if self.lock.acquire(blocking=False):
            try:
                if self.view is view:
                    self.rows.put(rows)
            finally:
                self.lock.release()

    def content_hash(self) -> bytes:
        """The multiset hash of the documents."""
        with self.lock:
            return self._content.digest()

    # --- words ---------------------------------------------------------------------------------------------

    @property
    def words(self) -> Analyzer:
        """What makes terms of this shard's texts."""
        return analyzer(self.schema.language)

    def texts(self, docnos: I64) -> dict[int, str | None]:
        """Texts by docno, see ``texts_of``."""
        with self.store.reading() as connection:
            return texts_of(connection, docnos.tolist())

    def has_texts(self, first: int, last: int) -> bool:
        """Whether any document with a docno from the first to the last has a text."""
        with self.store.reading() as connection:
            return have_texts(connection, first, last)

    # --- the builder's changes -----------------------------------------------------------------------------

    def new_segment_id(self) -> int:
        """An id that no segment had or will have, crash or not."""
        with self.lock, self._whole():
            id_ = self._next_segment
            with self.store.transaction() as connection:
                put(connection, "next_segment", id_ + 1)
            self._next_segment = id_ + 1
            self._committed()
            return id_

    def open_rows(self, manifest: Manifest) -> Rows:
        """Map a segment's files. ShardDamaged, naming one that is not what the manifest says."""
        return sealed.open_rows(self.root, manifest, self.schema.metric, self.words)

    def open_new(self, manifest: Manifest) -> Rows:
        """Map the files of a segment that has just been written. What cannot be mapped is removed."""
        try:
            return self.open_rows(manifest)
        except BaseException:
            self.discard(manifest)
            raise

    def discard(self, manifest: Manifest) -> None:
        """Remove the files of a segment that no transaction names: tried again, they would fill the disk."""
        if self.broken is None:  # else the transaction that names it may be on disk
            for path in manifest.paths(self.root):
                path.unlink(missing_ok=True)

    def rotate(self) -> None:
        """Close the active block, so that it can be sealed."""
        with self.lock:
            if self.blocks[-1].count:
                self.blocks = (*self.blocks, self._new_block())
                self._show_layout(self.view.sealed)

    def replace(self, new: Rows | None, old: Iterable[int], block: Block | None = None) -> None:
        """Put a segment in the place of others (their ids) or of a block, with the tombstones as of now.

        The new segment has every living row of the old ones; rows that died since it was written become
        tombstones, and those of the dead that have no row any more are forgotten. ShardError, with nothing
        changed, where that is not so: a document must not lose its row, whatever went wrong before.
        """
        ids = set(old)
        with self.lock, self._whole():
            leaving = [part for part in self.view.sealed if part.rows.id in ids]
            if block is not None:
                leaving.append(block.part)
            dead = np.concatenate([part.dead_docnos() for part in leaving] or [_NO_DOCNOS])
            part = None
            if new is not None:
                part = Part(new).without_docnos(dead)
                dead = dead[~new.find(dead)[1]]
            _check_kept(leaving, part)
            with self.store.transaction() as connection:
                self._record(connection, part, ids, block)
                connection.executemany(
                    "DELETE FROM dead WHERE docno = ?", [(docno,) for docno in dead.tolist()]
                )
            self._committed()
            kept = [item for item in self.view.sealed if item.rows.id not in ids]
            if part is not None:
                kept.append(part)
            if block is not None:
                others = tuple(item for item in self.blocks if item is not block)
                self.blocks = others or (self._new_block(),)
            paths = [
                path for item in leaving if item.rows.manifest for path in item.rows.manifest.paths(self.root)
            ]
            if paths:
                self._trash.append((self._commits, paths))
            kept.sort(key=lambda item: item.rows.id)
            self._show_layout(tuple(kept))

    def _record(
        self, connection: sqlite3.Connection, part: Part | None, ids: set[int], block: Block | None
    ) -> None:
        connection.executemany("DELETE FROM segments WHERE id = ?", [(id_,) for id_ in ids])
        if part is not None:
            manifest = part.rows.manifest
            assert manifest is not None, "only sealed rows are recorded"
            connection.execute("INSERT INTO segments VALUES (?, ?)", (manifest.id, manifest.pack()))
        if block is not None and block.count:
            docnos = block.part.rows.docnos
            connection.execute(
                "DELETE FROM growing WHERE first BETWEEN ? AND ?", (int(docnos[0]), int(docnos[-1]))
            )

    # --- checkpoints ---------------------------------------------------------------------------------------

    @property
    def unsynced(self) -> bool:
        """Whether a power loss could take something back."""
        return self._durable_commits < self._commits or self.durable < self.view.applied

    def checkpoint(self, *, insist: bool = True) -> int:
        """Make everything applied so far durable, unlink what it no longer needs; the durable index.

        Unless it insists, it gives up where a reader is in the way, before it makes writers wait.
        """
        self.check()
        whole = self.store.checkpoint()  # most of the log, while writers go on
        if not whole and not insist:
            return self.durable
        with self.lock:
            self.check()
            self._checkpoint_locked()
            return self.durable

    def _checkpoint_locked(self) -> None:
        if not self.store.checkpoint(truncate=True):
            return
        self.durable, self._durable_commits = self.view.applied, self._commits
        kept = []
        for commit, paths in self._trash:
            if commit > self._durable_commits:
                kept.append((commit, paths))
                continue
            for path in paths:
                self.options.files.remove(path)
        self._trash = kept

    def disk_bytes(self) -> int:
        """Bytes of the shard's files."""
        return self.store.bytes_on_disk() + sum(
            part.rows.manifest.size for part in self.view.sealed if part.rows.manifest is not None
        )


def _lock(root: Path) -> int:
    """Hold the directory against other processes and other shards, until the handle is closed."""
    handle = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise ShardInUse(f"{root} is in use by another process or shard") from error
    return handle


def _check_order(entries: Sequence[tuple[int, Any]]) -> None:
    indexes = [index for index, _ in entries]
    if any(later <= earlier for earlier, later in pairwise(indexes)):
        raise ValueError("log indexes must be strictly increasing")
    if indexes and not 0 < indexes[0] <= indexes[-1] < 2**63:
        raise ValueError("log indexes must be from 1 to 2**63 - 1")


def _check_kept(leaving: Iterable[Part], part: Part | None) -> None:
    """What is put in the place of parts has as many living rows as they."""
    wanted, living = sum(item.living for item in leaving), 0 if part is None else part.living
    if living != wanted:
        raise ShardError(f"a segment with {living} living rows cannot stand for {wanted}")


def create_directory(root: Path) -> None:
    """Make a new shard's directory. FileExistsError when there is a shard already."""
    root.mkdir(parents=True, exist_ok=True)
    if (root / FILE).exists():
        raise FileExistsError(f"{root} holds a shard already")
    (root / sealed.DIRECTORY).mkdir(exist_ok=True)
