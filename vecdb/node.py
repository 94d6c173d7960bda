"""A node: everything put together, run, and taken apart in order."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
import uvloop
from grpc_health.v1 import _async as health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from vecdb_index import (
    FormatTooNew,
    Quarantine,
    RowCache,
    ShardDamaged,
    ShardInUse,
    ShardOptions,
    StorageFailed,
    UnknownMutation,
)
from vecdb_proto.v1 import (
    access_pb2,
    cluster_pb2,
    collections_pb2,
    documents_pb2,
    knowledge_pb2,
    models_pb2,
    search_pb2,
)
from vecdb_replication.host import GroupDamaged, Host, StorageFull
from vecdb_replication.wal import LogDamaged, LogError, LogFailed, LogFull, LogLocked, LogVersion, Wal

from vecdb.api.access import AccessService
from vecdb.api.cluster import ClusterService, NodeFacts
from vecdb.api.collections import CollectionsService
from vecdb.api.dispatch import Dispatcher, Gate
from vecdb.api.documents import DocumentsService
from vecdb.api.knowledge import KnowledgeService
from vecdb.api.models import ModelsService
from vecdb.api.search import SearchService
from vecdb.catalog import (
    CATALOG_GROUP,
    CatalogDamaged,
    CatalogMachine,
    CatalogState,
    CatalogTooNew,
    Genesis,
    UnknownCommand,
    encode,
)
from vecdb.config import Settings
from vecdb.data_dir import DataDir, DataDirError, open_data_dir
from vecdb.exit_code import ExitCode
from vecdb.knowledge import Sandbox
from vecdb.models import ModelConfigError, ModelPool, ModelRegistry, parse_models
from vecdb.query import Database
from vecdb.query.embedding import Embedding
from vecdb.security import Authenticator, AuthError, Role, TokenFileError
from vecdb.security.tls import TlsError, server_context, server_credentials
from vecdb.shards import ShardSet, Watch, open_files
from vecdb.telemetry import HttpServer, NodeMetrics, standard_routes

log = structlog.get_logger(__name__)

# What keeps a node from starting, and is the operator's to mend: told in one line, without a traceback.
_REFUSALS: Final = (
    DataDirError,
    CatalogDamaged,
    CatalogTooNew,
    FormatTooNew,
    GroupDamaged,
    LogDamaged,
    LogFull,
    LogLocked,
    LogVersion,
    ModelConfigError,
    ShardDamaged,
    ShardInUse,
    StorageFailed,
    StorageFull,
    TlsError,
    TokenFileError,
    UnknownCommand,
    UnknownMutation,
    OSError,
)
_GRACE_SECONDS: Final = 10.0
_UPKEEP_SECONDS: Final = 2.0
_DISK_CHECK_SECONDS: Final = 0.5
_READERS: Final = 4
_FILES: Final = {
    "Access": access_pb2,
    "Cluster": cluster_pb2,
    "Collections": collections_pb2,
    "Documents": documents_pb2,
    "Knowledge": knowledge_pb2,
    "Models": models_pb2,
    "Search": search_pb2,
}


def run(settings: Settings) -> ExitCode:
    """Run a node until SIGTERM or SIGINT; returns the process's exit code."""
    try:
        uvloop.run(Node(settings).serve())
    except _REFUSALS as error:
        log.error("the node cannot start", reason=str(error))
        is_config = isinstance(error, ModelConfigError | TlsError | TokenFileError)
        return ExitCode.USAGE if is_config else ExitCode.UNAVAILABLE
    except LogError as error:
        log.error("the log failed", reason=str(error))
        return ExitCode.INTERNAL
    return ExitCode.OK


class DiskGuard:
    """Says when there is too little room for writes. Asks the file system twice a second at most."""

    def __init__(self, root: Path, min_free: int) -> None:
        self._root = root
        self._min_free = min_free
        self._checked = 0.0
        self._answer = ""

    def __call__(self) -> str:
        """Why writes are refused; empty where they are not."""
        now = time.monotonic()
        if now - self._checked >= _DISK_CHECK_SECONDS:
            self._checked = now
            free = shutil.disk_usage(self._root).free
            self._answer = ""
            if free < self._min_free:
                self._answer = (
                    f"the disk of {self._root} has {free} bytes free, less than the {self._min_free} that "
                    "are kept back (limits.min_free_disk_bytes): writes are refused, reads go on"
                )
        return self._answer


class Node:
    """Everything that a running node is made of, opened in order and closed in reverse."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = NodeMetrics()
        limits = settings.limits
        self._gate = Gate(limits.max_concurrent_requests, limits.max_concurrent_bytes)
        self._ready = False
        self._stop = asyncio.Event()

    async def serve(self) -> None:
        """Start, serve until a signal, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        started = time.monotonic()
        open_files.raise_limit()
        async with AsyncExitStack() as stack:
            data = open_data_dir(self._settings.data_dir, may_begin=self._may_begin())
            stack.callback(data.close)
            authenticator = Authenticator.from_token_file(self._settings.token_file)
            self._listen_http(stack, authenticator)
            db, registry = await self._open(stack, data, authenticator)
            sandbox = Sandbox()
            stack.callback(sandbox.close)
            facts = NodeFacts(
                node_id=data.node_id,
                address=str(self._settings.listen),
                peer_address=str(self._settings.peer_listen),
                zone=self._settings.zone or "",
                data_dir=data.root,
                started=started,
            )
            services = {
                "Access": AccessService(db),
                "Cluster": ClusterService(db, facts),
                "Collections": CollectionsService(db, self._settings.limits),
                "Documents": DocumentsService(db, self._settings.limits),
                "Knowledge": KnowledgeService(db, self._settings.limits, sandbox),
                "Models": ModelsService(db, registry, self._settings.limits),
                "Search": SearchService(db, self._settings.limits),
            }
            await self._listen(stack, services, authenticator)
            upkeep = asyncio.create_task(
                self._upkeep(db, Watch(db.shards, partial(self._metrics.error, "engine")))
            )
            stack.callback(upkeep.cancel)
            self._ready = True
            log.info(
                "ready",
                listen=str(self._settings.listen),
                http=str(self._settings.http_listen),
                data_dir=str(data.root),
                collections=len(db.state.collections),
                seconds=round(time.monotonic() - started, 3),
            )
            await self._stop.wait()
            log.info("stopping")
            self._ready = False
        log.info("stopped")

    def _may_begin(self) -> bool:
        settings = self._settings
        return settings.init or (settings.listen.is_loopback and settings.peer_listen.is_loopback)

    # --- data ----------------------------------------------------------------

    async def _open(
        self, stack: AsyncExitStack, data: DataDir, authenticator: Authenticator
    ) -> tuple[Database, ModelRegistry]:
        settings = self._settings
        registry = ModelRegistry(parse_models(settings.models))
        pool = ModelPool(registry)
        stack.push_async_callback(pool.close)
        # A node that has begun had a log; an empty one in its place would forget what was promised.
        has_begun = data.catalog.exists()
        wal = await asyncio.to_thread(
            Wal.open, data.log, segment_bytes=settings.engine.wal_segment_bytes, must_exist=has_begun
        )
        stack.callback(wal.close)
        if wal.recovery.tear is not None:
            tear = wal.recovery.tear
            log.warning(
                "cut an unfinished write off the log", path=str(tear.path), offset=tear.offset, bytes=tear.cut
            )
        host = Host(wal, on_sync=self._metrics.log_synced, on_failure=_die)
        quarantine = Quarantine()

        def follow(state: CatalogState) -> None:
            authenticator.follow(state.tokens)
            if quarantine.authors != state.quarantined.keys():
                quarantine.authors = frozenset(state.quarantined)

        catalog = CatalogMachine(data.catalog, follow)
        follow(catalog.state)
        options = ShardOptions(
            seal_rows=settings.engine.seal_rows,
            threads=settings.engine.threads or None,
            row_cache=RowCache(settings.engine.row_cache_bytes),
            quarantine=quarantine,
        )
        shards = ShardSet(data.shards, host, wal, options)
        stack.callback(shards.close)
        stack.push_async_callback(host.close)
        await host.add(CATALOG_GROUP, catalog)
        if not catalog.state.cluster_id:
            genesis = Genesis(secrets.token_hex(16), secrets.randbits(63) | 1)
            await host.propose(CATALOG_GROUP, encode(genesis))
        await shards.open_all(catalog.state)
        self._metrics.watch_shards(shards.samples)
        readers = ThreadPoolExecutor(_READERS, thread_name_prefix="vecdb-read")
        stack.callback(readers.shutdown)
        db = Database(
            host=host,
            catalog=catalog,
            shards=shards,
            embedding=Embedding(pool),
            readers=readers,
            max_collections=settings.limits.max_collections,
            disk_full=DiskGuard(data.root, settings.limits.min_free_disk_bytes),
        )
        # A change that has begun needs the host and the shards to its end.
        stack.push_async_callback(db.settle)
        return db, registry

    async def _upkeep(self, db: Database, watch: Watch) -> None:
        """Finish what changes left undone, tell how the shards do, and shorten the log now and then."""
        while True:
            await asyncio.sleep(_UPKEEP_SECONDS)
            try:
                await db.reconcile()
                watch.look()
                if dropped := await db.host.compact():
                    log.debug("dropped log segments", count=dropped)
            except LogError as error:
                # A full disk: the log stays long until there is room. A failed log has ended the process.
                log.warning("the log could not be shortened", reason=str(error))
                self._metrics.error("log")
            except Exception as error:
                # One shard that cannot be checkpointed must not end the care for the others.
                log.error("upkeep failed", exc_info=error)
                self._metrics.error("upkeep")

    # --- listening -----------------------------------------------------------

    def _listen_http(self, stack: AsyncExitStack, authenticator: Authenticator) -> None:
        settings = self._settings
        tls = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            tls = server_context(settings.tls_cert, settings.tls_key)
        try:
            server = HttpServer(
                settings.http_listen,
                standard_routes(self._metrics.registry, self._unready),
                tls=None if settings.http_listen.is_loopback else tls,
                authorize=partial(_is_authorized, authenticator),
                insecure=settings.insecure,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataDirError(f"cannot listen on {settings.http_listen} (http_listen): {reason}") from None
        server.start()
        stack.callback(server.stop)

    def _unready(self) -> str:
        return "" if self._ready else "the node is starting or stopping"

    async def _listen(
        self, stack: AsyncExitStack, services: dict[str, object], authenticator: Authenticator
    ) -> None:
        settings = self._settings
        most = settings.limits.max_message_bytes
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", most),
                ("grpc.max_send_message_length", most),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ]
        )
        dispatcher = Dispatcher(authenticator, self._metrics, self._gate)
        names = []
        for name, service in services.items():
            descriptor = _FILES[name].DESCRIPTOR.services_by_name[name]
            server.add_generic_rpc_handlers((dispatcher.handlers(descriptor, service),))
            names.append(descriptor.full_name)
        checks = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        reflection.enable_server_reflection(
            (*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
            server,
        )
        self._bind(server)
        await server.start()
        stack.push_async_callback(self._stop_serving, server, checks)
        for name in ("", *names):
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)

    def _bind(self, server: grpc.aio.Server) -> None:
        settings = self._settings
        address = str(settings.listen)
        try:
            if settings.tls_cert is not None and settings.tls_key is not None:
                server.add_secure_port(address, server_credentials(settings.tls_cert, settings.tls_key))
            else:
                server.add_insecure_port(address)
        except RuntimeError as error:
            raise DataDirError(f"cannot listen on {address} (listen): {error}") from None

    async def _stop_serving(self, server: grpc.aio.Server, checks: Any) -> None:
        self._gate.closed = True
        await checks.enter_graceful_shutdown()
        await server.stop(_GRACE_SECONDS)


def _is_authorized(authenticator: Authenticator, authorization: str | None) -> bool:
    """Metrics tell of all collections, so whoever reads them must be let read them all."""
    try:
        authenticator.authenticate(authorization).principal.require(Role.READ)
    except AuthError:
        return False
    return True


def _die(failure: LogFailed) -> None:
    """A sync failed: what the disk has is not known any more, so nothing may be acknowledged from here on."""
    log.critical("the log failed; the node ends at once", reason=str(failure))
    os._exit(ExitCode.INTERNAL)
