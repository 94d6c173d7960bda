"""vecdb.v1.Collections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from vecdb_index import Shard, ShardClosed, ShardDamaged, ShardStats
from vecdb_proto.v1 import collections_pb2 as pb
from vecdb_proto.v1 import common_pb2

from vecdb.api import checks, convert
from vecdb.api.dispatch import Call
from vecdb.api.permits import permitted
from vecdb.catalog import AlterCollection, CollectionRecord, UpdateAliases
from vecdb.config import Limits
from vecdb.query import Database, RequestError
from vecdb.security import Role
from vecdb.shards import UnknownShard

_MAX_SHARDS: Final = 256
_LANGUAGE: Final = re.compile("[a-z]{2}")


class CollectionsService:
    """See proto/vecdb/v1/collections.proto."""

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits

    async def Create(self, request: pb.CreateCollectionRequest, call: Call) -> pb.CreateCollectionResponse:
        """Make a collection."""
        call.principal.require(Role.ADMIN, request.config.name)
        record, shards = await self._declared(request.config)
        made = await self._db.create(record, shards, request.if_not_exists)
        return pb.CreateCollectionResponse(collection=await self._info(made), session=self._token(made))

    async def _declared(self, config: pb.CollectionConfig) -> tuple[CollectionRecord, int]:
        """The record that a configuration asks for, and its number of shards."""
        checks.name(config.name, "config.name")
        self._refuse_unserved(config)
        index, storage = self._index(config)
        metric = convert.METRICS.get(config.metric)
        if metric is None:
            raise checks.invalid("config.metric", f"{config.metric} is unknown")
        dim, fingerprint = config.dim, ""
        if config.model:
            model = await self._db.embedding.model(config.model)
            fingerprint = await self._db.embedding.fingerprint(config.model)
            if dim not in (0, model.embedder.dim):
                problem = f"model {config.model!r} has {model.embedder.dim} dimensions, not {dim}"
                raise checks.invalid("config.dim", problem, "WRONG_DIMENSION")
            dim = model.embedder.dim
            metric = metric if config.metric else model.embedder.metric
        elif not dim:
            raise checks.invalid("config.dim", "is needed where there is no model")
        checks.between(dim, 1, self._limits.max_dim, "config.dim", "max_dim")
        recall = config.target_recall or 0.95
        checks.between(recall, 0.5, 1.0, "config.target_recall")
        checks.between(config.shards, 0, _MAX_SHARDS, "config.shards")
        if config.language and not _LANGUAGE.fullmatch(config.language):
            raise checks.invalid("config.language", "must be the two lower-case letters of ISO 639-1")
        if config.replicas > 1:
            raise checks.invalid("config.replicas", "this node is alone, so it can keep 1 copy of a shard")
        record = CollectionRecord(
            collection_id=0,
            name=config.name,
            model=config.model,
            fingerprint=fingerprint,
            dim=dim,
            metric=metric,
            index=index,
            # Kept as a double: the float32 of 0.95 on the wire is meant to be 0.95.
            target_recall=round(recall, 6),
            shards=(),
            replicas=1,
            fields=convert.fields(config.fields, "config.fields"),
            language=config.language or "en",
            created_at_ms=0,
            storage=storage,
        )
        return record, config.shards or 1

    @staticmethod
    def _refuse_unserved(config: pb.CollectionConfig) -> None:
        if config.vectors:
            raise checks.not_served("config.vectors", "named vectors")
        if config.sparse_vectors:
            raise checks.not_served("config.sparse_vectors", "sparse vectors")

    @staticmethod
    def _index(config: pb.CollectionConfig) -> tuple[str, str]:
        """The kind of index and its storage."""
        index, storage = convert.INDEXES.get(config.index), convert.STORAGES.get(config.storage)
        if index is None:
            raise checks.invalid("config.index", f"{config.index} is unknown")
        if storage is None:
            raise checks.invalid("config.storage", f"{config.storage} is unknown")
        if index == "flat" and storage != "f32":
            raise checks.invalid(
                "config.storage", "must be F32 where the index is FLAT, which compares full vectors"
            )
        return index, storage

    async def Describe(
        self, request: pb.DescribeCollectionRequest, call: Call
    ) -> pb.DescribeCollectionResponse:
        """What a collection is and how it does."""
        record = permitted(self._db, call, Role.READ, request.collection)
        await self._db.await_fresh(record.shards, convert.freshness(request.read))
        return pb.DescribeCollectionResponse(collection=await self._info(record), session=self._token(record))

    async def List(self, request: pb.ListCollectionsRequest, call: Call) -> pb.ListCollectionsResponse:
        """Every collection that the caller may read, by name."""
        await self._db.await_fresh((), convert.freshness(request.read))
        infos = []
        state = self._db.state
        for name, record in sorted(state.collections.items()):
            if call.principal.may(Role.READ, (name, *state.aliases_of(name))):
                infos.append(await self._listed(record))
        token = convert.session_token(self._db.positions([]))
        return pb.ListCollectionsResponse(collections=infos, session=token)

    async def Alter(self, request: pb.AlterCollectionRequest, call: Call) -> pb.AlterCollectionResponse:
        """Change fields, target recall or the model's name."""
        record = permitted(self._db, call, Role.ADMIN, request.collection)
        add = convert.fields(request.add_fields, "add_fields")
        recall = round(request.target_recall, 6) if request.HasField("target_recall") else None
        if recall is not None:
            checks.between(recall, 0.5, 1.0, "target_recall")
        model = request.model if request.HasField("model") else None
        if model is not None and await self._db.embedding.fingerprint(model) != record.fingerprint:
            raise RequestError(
                "FAILED_PRECONDITION",
                "MODEL_MISMATCH",
                f"model {model!r} is not the one that the vectors of {record.name!r} were made with",
            )
        command = AlterCollection(record.name, add, tuple(request.drop_fields), recall, model)
        altered = await self._db.alter(command)
        info = await self._info(altered)
        return pb.AlterCollectionResponse(collection=info, session=self._token(altered))

    async def UpdateAliases(self, request: pb.UpdateAliasesRequest, call: Call) -> pb.UpdateAliasesResponse:
        """Set and remove aliases in one step."""
        call.principal.require(Role.ADMIN)
        if not 1 <= len(request.changes) <= 64:
            raise checks.invalid("changes", f"must be 1 to 64, not {len(request.changes)}")
        for at, change in enumerate(request.changes):
            checks.name(change.alias, f"changes[{at}].alias")
        changes = tuple((change.alias, change.collection) for change in request.changes)
        await self._db.update_aliases(UpdateAliases(changes))
        return pb.UpdateAliasesResponse(session=convert.session_token(self._db.positions([])))

    async def Drop(self, request: pb.DropCollectionRequest, call: Call) -> pb.DropCollectionResponse:
        """Drop a collection for good."""
        permitted(self._db, call, Role.ADMIN, request.collection)
        await self._db.drop(request.collection)
        return pb.DropCollectionResponse(session=convert.session_token(self._db.positions([])))

    def _token(self, record: CollectionRecord) -> common_pb2.SessionToken:
        return convert.session_token(self._db.positions(record.shards))

    async def _info(self, record: CollectionRecord) -> pb.CollectionInfo:
        """All there is to say of a collection. UnknownShard, ShardClosed."""
        shards = self._db.opened(record)
        stats = await self._db.run(lambda: [shard.stats() for shard in shards])
        info = self._summary(record, stats)
        info.shards.extend(await self._db.run(shard_infos, record.shards, shards, stats))
        return info

    async def _listed(self, record: CollectionRecord) -> pb.CollectionInfo:
        """A collection as it stands in a list: also one whose shards are being opened at this moment."""
        return self._summary(record, await self._db.run(self._stats, record))

    def _stats(self, record: CollectionRecord) -> list[ShardStats]:
        """Of the shards that are open and whole. Blocks."""
        found = []
        for shard in record.shards:
            with suppress(UnknownShard, ShardClosed, ShardDamaged):
                found.append(self._db.shards.get(shard).stats())
        return found

    def _summary(self, record: CollectionRecord, stats: Sequence[ShardStats]) -> pb.CollectionInfo:
        is_indexed = len(stats) == len(record.shards) and all(each.state == "ready" for each in stats)
        recalls = (1.0 if each.recall is None else each.recall for each in stats)
        info = pb.CollectionInfo(
            config=convert.config(record),
            collection_id=record.collection_id,
            documents=sum(each.documents for each in stats),
            index_state=pb.INDEX_STATE_INDEXED if is_indexed else pb.INDEX_STATE_INDEXING,
            unindexed=sum(each.unindexed_rows for each in stats),
            disk_bytes=sum(each.disk_bytes for each in stats),
            calibrated_recall=min(recalls, default=0.0),
            model_fingerprint=record.fingerprint,
            created_at_ms=record.created_at_ms,
            aliases=self._db.state.aliases_of(record.name),
        )
        if info.documents:
            segments = [segment for each in stats for segment in each.segments]
            info.bytes_per_document = info.disk_bytes / info.documents
            info.index_bytes_per_document = sum(each.index_bytes for each in segments) / info.documents
            info.vector_bytes_per_document = sum(each.vector_bytes for each in segments) / info.documents
        return info


def shard_infos(
    ids: Sequence[int], shards: Sequence[Shard], stats: Sequence[ShardStats]
) -> list[pb.ShardInfo]:
    """What there is to say of each shard. Blocks."""
    return [shard_info(*each) for each in zip(ids, shards, stats, strict=True)]


def shard_info(shard: int, opened: Shard, stats: ShardStats) -> pb.ShardInfo:
    """What there is to say of a shard. Blocks. ShardClosed."""
    info = pb.ShardInfo(
        shard=shard,
        documents=stats.documents,
        applied_index=stats.applied_index,
        durable_index=stats.durable_index,
        unindexed=stats.unindexed_rows,
        disk_bytes=stats.disk_bytes,
        content_hash=opened.content_hash(),
    )
    if stats.growing_rows:
        info.segments.add(
            state="growing", index="flat", rows=stats.growing_rows, recall=1.0, storage=pb.STORAGE_F32
        )
    for segment in stats.segments:
        info.segments.add(
            state="sealed",
            index=segment.kind if segment.state == "indexed" else f"{segment.kind} ({segment.state})",
            rows=segment.rows,
            tombstones=segment.tombstones,
            bytes=segment.bytes,
            effort=segment.effort or 0,
            recall=1.0 if segment.recall is None else segment.recall,
            storage=convert.STORAGE_NUMBERS[segment.storage],
            reranked=segment.reranked,
            index_bytes=segment.index_bytes,
            vector_bytes=segment.vector_bytes,
        )
    return info
