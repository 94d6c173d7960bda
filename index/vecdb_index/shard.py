"""The public face of the engine: one shard in one directory."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from vecdb_index import documents, filters
from vecdb_index.builder import Builder
from vecdb_index.core import Core, create_directory
from vecdb_index.documents import Reader
from vecdb_index.errors import Overtaken, ShardError
from vecdb_index.filters import Filter
from vecdb_index.fulltext import WordQuery, WordStatistics
from vecdb_index.hidden import NOBODY
from vecdb_index.keeper import Keeper, scrub, verify
from vecdb_index.knn import F32
from vecdb_index.matching import Matcher
from vecdb_index.moment import Moment
from vecdb_index.mutations import Delete, Mutation, Update, Upsert, encode
from vecdb_index.parts import Rows, View
from vecdb_index.plan import Wish
from vecdb_index.results import ApplyResult, Row, SearchResult, SegmentStats, ShardStats
from vecdb_index.schema import Schema, ShardOptions
from vecdb_index.search import Limits
from vecdb_index.searcher import Searcher
from vecdb_index.snapshot import Snapshot
from vecdb_index.snapshot import take as take_snapshot
from vecdb_index.store import FILE
from vecdb_index.word_search import WordSearch


class WriteRefused(ShardError):
    """A write of the embedded interface that failed; ``result`` says which documents and why."""

    def __init__(self, result: ApplyResult) -> None:
        first = result.failures[0]
        super().__init__(f"{first.code}: {first.message}")
        self.result = result


class Shard(Searcher):
    """Documents and their vectors in one directory, searched by FAISS. Every method may run on any thread.

    Create one with ``Shard.create`` or ``Shard.open``; it is a context manager, and must be closed.
    """

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._embedded = threading.RLock()
        self._matcher = Matcher(core)
        self._builder = Builder(core)
        self._keeper = Keeper(core)
        self._builder.start()
        self._keeper.start()
        self._scrub = threading.Thread(target=scrub, args=(core,), name="vecdb-scrub", daemon=True)
        if core.options.scrub:
            self._scrub.start()

    @classmethod
    def create(cls, path: Path | str, schema: Schema, options: ShardOptions | None = None) -> Shard:
        """Make a new, empty shard in ``path``. FileExistsError when one is there, ShardInUse, OSError."""
        root = Path(path)
        create_directory(root)
        return cls(Core(root, options or ShardOptions(), schema))

    @classmethod
    def open(cls, path: Path | str, options: ShardOptions | None = None) -> Shard:
        """Open the shard in ``path``.

        Raises FileNotFoundError, ShardInUse (another process, or shard of this one, has it), FormatTooNew, or
        ShardDamaged, which names the file. Log entries above ``applied_index`` are then applied again by the
        caller.
        """
        root = Path(path)
        if not (root / FILE).is_file():
            raise FileNotFoundError(f"{root} holds no shard")
        return cls(Core(root, options or ShardOptions(), None))

    def __enter__(self) -> Shard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop background work, checkpoint, and unlock the directory. Closing twice is no error."""
        self._builder.stop()
        self._keeper.stop()
        self._core.close()
        if self._scrub.is_alive():
            self._scrub.join()

    # --- what it is ----------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Its directory."""
        return self._core.root

    @property
    def schema(self) -> Schema:
        """Its schema, with the fields declared as of the applied index."""
        return self._core.schema

    @property
    def applied_index(self) -> int:
        """The last log index whose effects searches see."""
        return self._core.view.applied

    @property
    def durable_index(self) -> int:
        """The log index up to which no power loss can take effects back: the log may be dropped below it."""
        return self._core.durable

    @property
    def exact_rows(self) -> int:
        """How many rows a search compares one by one, beside the indexes: what makes it cheap or dear."""
        view = self._core.view
        return sum(len(part.rows) for part in (*view.growing, *view.sealed) if part.rows.near is None)

    def check(self) -> None:
        """ShardClosed, ShardDamaged or ShardBroken where it serves no more."""
        self._core.check()

    @property
    def error(self) -> str | None:
        """Why background work fails, or what is damaged; None where all is well."""
        fault = self._core.damage or self._core.broken
        return self._core.error if fault is None else str(fault)

    def content_hash(self) -> bytes:
        """32 bytes, equal for equal (id, version, vector, payload, text), whatever the layout."""
        return self._core.content_hash()

    def stats(self) -> ShardStats:
        """Counts and states, as of now."""
        core, view = self._core, self._core.view
        segments = [segment_stats(part.rows, part.dead, core.schema) for part in view.sealed]
        measured = [segment.recall for segment in segments if segment.recall is not None]
        return ShardStats(
            documents=view.documents,
            segments=tuple(segments),
            growing_rows=sum(part.living for part in view.growing),
            unindexed_rows=self._builder.waiting(view),
            disk_bytes=core.disk_bytes(),
            state=self._state(view),
            recall=min(measured, default=None),
            applied_index=view.applied,
            durable_index=core.durable,
            error=self.error,
        )

    def _state(self, view: View) -> str:
        if self._core.damage is not None:
            return "damaged"
        if self._core.error is not None or self._core.broken is not None:
            return "failing"
        return "ready" if self._builder.settled(view) else "indexing"

    def wait_indexed(self, timeout: float | None = None) -> bool:
        """Wait until nothing waits to be sealed or indexed; False when ``timeout`` seconds pass before."""
        return self._builder.wait_settled(timeout)

    # --- the log's side ------------------------------------------------------------------------------------

    def apply(self, entries: Sequence[tuple[int, bytes]]) -> list[ApplyResult]:
        """Apply log entries: (log index, encoded mutation), indexes strictly increasing; gaps are fine.

        All of them in one transaction, visible together. Entries at or below ``applied_index`` are skipped
        and have no result. What a mutation gets wrong is in its result; exceptions leave the shard as it was:
        UnknownMutation, StorageFailed, ShardDamaged, ShardClosed, ValueError for indexes out of order. After
        anything else (a lack of memory, Ctrl-C) it may raise ShardBroken and has to be reopened.
        """
        results = self._core.apply(entries)
        self._builder.wake()
        self._keeper.wake()
        return results

    def checkpoint(self) -> int:
        """Make everything applied durable; returns ``durable_index`` (older if readers were in the way)."""
        return self._core.checkpoint()

    def snapshot(self, target: Path | str, stopped: Callable[[], bool] = lambda: False) -> Snapshot:
        """Copy the shard as of now into a new directory, which ``Shard.open`` opens; writes go on meanwhile.

        Files are synced, with their checksums in the result. SnapshotStopped soon after ``stopped()`` becomes
        true, and FileExistsError, StorageFailed, OSError: what is in the directory then is no snapshot.
        """
        return take_snapshot(self._core, Path(target), stopped)

    def verify(self) -> None:
        """Read everything that is stored and compare checksums; ShardDamaged names what does not fit."""
        self._core.check()
        verify(self._core)

    # --- searching -----------------------------------------------------------------------------------------

    @contextmanager
    def moment(self) -> Iterator[Moment]:
        """The shard as it is now, to search and fetch in while writes go on.

        What a search finds there is there to be fetched. Meanwhile the database's log cannot be shortened, so
        that a moment is not for keeping. It waits for a writer in the middle of a transaction; one thread at
        a time may use it.
        """
        with self._core.pinned() as (connection, view):
            yield Moment(self._core, connection, view)

    def _searched(
        self, vectors: F32, k: int, wish: Wish, where: Filter | None, limits: Limits, explain: bool
    ) -> SearchResult:
        try:
            return super()._searched(vectors, k, wish, where, limits, explain)
        except Overtaken:
            with self.moment() as moment:
                return moment._searched(vectors, k, wish, where, limits, explain)

    def _words_counted(self, query: WordQuery, deadline: float | None) -> WordStatistics:
        try:
            return super()._words_counted(query, deadline)
        except Overtaken:
            with self.moment() as moment:
                return moment._words_counted(query, deadline)

    def _words_searched(self, wanted: WordSearch) -> SearchResult:
        try:
            return super()._words_searched(wanted)
        except Overtaken:
            with self.moment() as moment:
                return moment._words_searched(wanted)

    def _view(self) -> View:
        return self._core.shown()

    def _matched(self, where: Filter) -> tuple[BitMap, View, bool]:
        return self._matcher.latest(where)

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, View]]:
        view = self._core.view
        with self._core.store.reading() as connection:
            yield connection, view

    # --- reading -------------------------------------------------------------------------------------------

    def get(
        self,
        ids: Sequence[str],
        *,
        payload: bool = True,
        text: bool = True,
        vector: bool = False,
        hidden: bool = False,
    ) -> list[Row]:
        """Documents by id in the order asked, missing ones left out; ``hidden`` as for ``scroll``."""
        core, select = self._core, documents.columns(payload, text)
        core.check()
        left_out = NOBODY if hidden else core.options.quarantine.authors
        if not vector:
            with core.store.moment() as connection:  # many ids are several statements
                rows = Reader(connection, core.view).by_id(ids, select)
            return [row for row in rows if row.author not in left_out] if left_out else rows
        # Vectors are found by the view, so it and the database must agree on what there is.
        with core.pinned(whole=True) as (connection, view):
            reader = Reader(connection, view)
            rows = [row for row in reader.by_id(ids, select) if row.author not in left_out]
            return _present(reader.with_vectors(rows))

    def scroll(
        self,
        after_id: str | None,
        limit: int,
        filter: Filter | None = None,  # noqa: A002
        *,
        payload: bool = True,
        text: bool = True,
        vector: bool = False,
        hidden: bool = False,
    ) -> list[Row]:
        """The next ``limit`` documents after an id (None: from the start), in the order of UTF-8 bytes.

        With ``hidden``, those of quarantined authors too: for whoever is about to write to them.
        """
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        core = self._core
        core.check()
        with self._moment(filter, hidden) as (connection, view, matching):
            reader = Reader(connection, view)
            rows = reader.scroll(after_id, limit, documents.columns(payload, text), matching)
            return _present(reader.with_vectors(rows)) if vector else rows

    def count(self, filter: Filter | None = None) -> int:  # noqa: A002
        """How many documents there are, or match."""
        core = self._core
        core.check()
        if filter is None:
            return core.shown().documents
        with self._moment(filter, False) as (_, _, matching):
            assert matching is not None, "there is a filter"
            return len(matching)

    def matching_ids(
        self,
        filter: Filter,  # noqa: A002
        limit: int,
        *,
        hidden: bool = False,
    ) -> list[tuple[str, int]]:
        """(id, version) of up to ``limit`` matches, in id order: what a write by filter settles.

        ``hidden`` as for ``scroll``.
        """
        rows = self.scroll(None, limit, filter, payload=False, text=False, hidden=hidden)
        return [(row.id, row.version) for row in rows]

    @contextmanager
    def _moment(
        self, where: Filter | None, whole: bool
    ) -> Iterator[tuple[sqlite3.Connection, View, BitMap | None]]:
        """A connection and a view of one moment, and what matched the filter then (None: all of it)."""
        if where is None:
            with self._core.pinned(whole=whole) as (connection, view):
                yield connection, view, view.universe() if view.is_narrowed else None
            return
        filters.validate(where)
        with self._matcher.pinned(where, whole=whole) as moment:
            yield moment

    # --- without a server ----------------------------------------------------------------------------------

    def upsert(
        self,
        ids: Sequence[str],
        vectors: npt.NDArray[np.float32],
        payloads: Sequence[Mapping[str, Any]] | None = None,
        texts: Sequence[str | None] | None = None,
        *,
        if_versions: Sequence[int | None] | None = None,
    ) -> int:
        """Write documents at the next log index, for use without a server; returns their version.

        WriteRefused when it was refused. Durable at once with ``ShardOptions(synchronous="full")``.
        """
        packed = None if payloads is None else [msgpack.packb(dict(item), datetime=True) for item in payloads]
        return self._write(Upsert(ids, vectors, packed, texts, "", _now_ms(), None, if_versions)).index

    def update(
        self,
        ids: Sequence[str],
        payload: Mapping[str, Any],
        *,
        remove_keys: Sequence[str] = (),
        replace: bool = False,
        if_versions: Sequence[int | None] | None = None,
    ) -> int:
        """Change payloads (see ``Update``); returns how many documents there were to change."""
        packed = msgpack.packb(dict(payload), datetime=True)
        mutation = Update(ids, packed, tuple(remove_keys), replace, "", _now_ms(), if_versions)
        return self._write(mutation).count

    def delete(self, ids: Sequence[str] | None = None, *, filter: Filter | None = None) -> int:  # noqa: A002
        """Delete documents by id, or those that match a filter; returns how many there were."""
        if (ids is None) == (filter is None):
            raise ValueError("delete takes ids or a filter")
        with self._embedded:
            if filter is not None:
                ids = [id_ for id_, _ in self.matching_ids(filter, max(1, self.count()))]
            return self._write(Delete(list(ids))).count if ids else 0

    def _write(self, mutation: Mutation) -> ApplyResult:
        with self._embedded:
            (result,) = self.apply([(self.applied_index + 1, encode(mutation))])
        if any(failure.code != "not_found" for failure in result.failures):
            raise WriteRefused(result)
        return result


def segment_stats(rows: Rows, dead: int, schema: Schema) -> SegmentStats:
    """A sealed segment at a glance."""
    manifest, near, efforts, recall = rows.manifest, rows.near, rows.efforts, schema.target_recall
    assert manifest is not None, "sealed parts have manifests"
    effort = None if near is None or efforts is None else efforts.effort(recall) or near.hardest
    return SegmentStats(
        id=manifest.id,
        kind=manifest.kind,
        storage=schema.storage if near is not None and near.coded else "f32",
        state="pending" if manifest.pending else "indexed",
        rows=len(rows),
        tombstones=dead,
        bytes=manifest.size,
        index_bytes=manifest.index_bytes,
        vector_bytes=manifest.vector_bytes,
        effort=None if effort is None else effort.width,
        reranked=0 if effort is None else effort.depth,
        recall=None if efforts is None else efforts.measured(recall),
    )


def _present(rows: Sequence[Row | None]) -> list[Row]:
    return [row for row in rows if row is not None]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
