"""The background thread that checkpoints, and the scrub that reads everything once after opening."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import numpy as np

from vecdb_index import sealed
from vecdb_index.core import Core
from vecdb_index.documents import vectors_of
from vecdb_index.errors import ShardClosed, ShardDamaged, ShardError, SnapshotStopped
from vecdb_index.hashing import MultisetHash, document_digest

_POLL: Final = 0.25  # seconds between looks at the size of the write-ahead log, while there are writes
_RETRY: Final = 5.0
_SCRUB_ROWS: Final = 128
_SCRUB_PACE: Final = 1.0
_PAGE: Final = (
    "SELECT docno, id, version, digest, payload, text FROM docs WHERE docno > ? ORDER BY docno LIMIT ?"
)


class Keeper:
    """Begins checkpoints when SQLite's log is long, and when writes have paused."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._wake = threading.Event()
        self._stop = threading.Event()
        core.on_commit = self._wake.set  # the builder's come after the last write, and need a checkpoint too
        self._thread = threading.Thread(target=self._run, name="vecdb-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the checkpoint in progress."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """There was a write."""
        self._wake.set()

    def _run(self) -> None:
        core = self._core
        failed: str | None = None
        while not self._stop.is_set():
            if not core.unsynced:
                self._wake.wait()
                self._wake.clear()
                continue
            idle = time.monotonic() - core.last_write
            if idle < core.options.rest_seconds and core.store.wal_bytes() < core.options.checkpoint_bytes:
                self._stop.wait(_POLL)
                continue
            try:
                core.checkpoint(insist=False)
            except ShardDamaged as damage:
                core.damaged(damage)
                return
            except ShardClosed:
                return
            except (ShardError, sqlite3.Error, OSError) as error:
                failed = core.error = f"{type(error).__name__}: {error}"
                self._stop.wait(_RETRY)
            else:
                if failed is not None and core.error == failed:
                    failed = core.error = None
                # Readers may have kept it from finishing; they are done in a moment.
                self._stop.wait(_POLL if core.unsynced else 0.0)


def verify(core: Core, *, pace: float = 0.0, stopped: Callable[[], bool] = lambda: False) -> None:
    """Read everything the shard stores and compare it with its checksums.

    After each piece of work it sleeps ``pace`` times as long as that took, so that a scrub beside searches
    leaves them the interpreter. Raises ShardDamaged naming the file, after which nothing is served;
    ShardClosed when the shard closes meanwhile; SnapshotStopped between two pieces of work once ``stopped()``
    is true. Segments that a merge drops meanwhile are passed over.
    """
    try:
        _verify_segments(core, stopped)
        _look(core, stopped)
        _verify_database(core)
        _verify_documents(core, pace, stopped)
    except ShardDamaged as damage:
        core.damaged(damage)
        raise


def _look(core: Core, stopped: Callable[[], bool]) -> None:
    core.check()
    if stopped():
        raise SnapshotStopped(f"{core.root} was not read to its end")


def _verify_segments(core: Core, stopped: Callable[[], bool]) -> None:
    for part in core.view.sealed:
        manifest = part.rows.manifest
        assert manifest is not None, "sealed parts have manifests"
        _look(core, stopped)
        try:
            sealed.verify_vectors(core.root, manifest)
        except FileNotFoundError as error:
            if any(item.rows is part.rows for item in core.view.sealed):
                raise ShardDamaged(manifest.path(core.root, "raw"), "a file is missing") from error


def _verify_database(core: Core) -> None:
    """SQLite's own check, and the sum of the documents' digests."""
    with core.store.reading() as connection:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise ShardDamaged(core.store.path, verdict)
        content = MultisetHash()
        # One statement is one moment: the sum and what it must be belong together.
        rows = connection.execute(
            "SELECT value FROM meta WHERE key = 'content_hash' UNION ALL SELECT digest FROM docs"
        )
        (stored,) = rows.fetchone()
        for (digest,) in rows:
            content.add(digest)
        if content.digest() != stored:
            raise ShardDamaged(core.store.path, "the documents do not sum up to the content hash")


def _verify_documents(core: Core, pace: float, stopped: Callable[[], bool]) -> None:
    """Every document against its digest, in pages, for a long read would keep checkpoints from ending."""
    last = -1
    while True:
        _look(core, stopped)
        begun = time.perf_counter()
        with core.store.reading() as connection:
            rows = connection.execute(_PAGE, (last, _SCRUB_ROWS)).fetchall()
        if not rows:
            return
        _verify_page(core, rows)
        last = rows[-1][0]
        time.sleep(pace * (time.perf_counter() - begun))


def _verify_page(core: Core, rows: list[tuple[int, str, int, bytes, bytes, str | None]]) -> None:
    vectors, here = vectors_of(core.view, np.array([row[0] for row in rows], dtype=np.int64))
    for (docno, id_, version, digest, payload, text), vector, present in zip(
        rows, vectors, here, strict=True
    ):
        if not present:  # rewritten and merged away since this snapshot was taken
            continue
        encoded = None if text is None else text.encode()
        if document_digest(id_.encode(), version, vector.data, payload, encoded) != digest:
            raise ShardDamaged(core.store.path, f"document {id_!r} (docno {docno}) does not fit its digest")


def scrub(core: Core) -> None:
    """Verify in the background; damage is noted, and from then on nothing is served."""
    with suppress(ShardDamaged, ShardClosed):
        verify(core, pace=_SCRUB_PACE)
