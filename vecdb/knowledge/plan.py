"""What a second ingest has to do.

Each stored chunk carries the revision of its source (a hash) and how many chunks that revision has. From
these alone one can tell whether an earlier ingest of the same content was completed, without cutting the text
again and without a record beside the collection that could disagree with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vecdb.knowledge.chunking import ChunkOptions, chunk
from vecdb.knowledge.ids import chunk_id
from vecdb.knowledge.source import SourceText
from vecdb.knowledge.tokens import TokenCounter


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """What a collection has of a source: a chunk's id, its revision, and that revision's count of chunks."""

    id: str
    revision: str
    count: int


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A document to write.

    Attributes:
        id: see `vecdb.knowledge.ids.chunk_id`.
        text: the passage.
        source, title, section: where it is from; `section` is the path of headings above it.
        start, end: its offsets in the source text, in code points.
        page: of a PDF, from 1.
        ordinal: its number in the source, from 0, of `count`.
        revision: what `SourcePlan.revision` is.
        metadata: the source's.

    """

    id: str
    text: str
    source: str
    title: str
    section: str
    start: int
    end: int
    page: int | None
    ordinal: int
    count: int
    revision: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """Steps for one source, in this order: write `upsert`; once all of it is acknowledged, delete `delete`.

    Neither means that the collection has the source as it is. An ingest that stops between the steps is
    completed by the next one: it finds the same ids to write and the same ones to delete.
    """

    source: str
    revision: str
    upsert: tuple[NewChunk, ...] = ()
    delete: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether there is nothing to do."""
        return not self.upsert and not self.delete


def revision_of(source: SourceText, options: ChunkOptions, counter: str = "estimate") -> str:
    """The hash that stored chunks carry: of the content, and of how it is cut.

    Args:
        source: the source as read now.
        options: the sizes of its chunks.
        counter: names the token counter (a model's fingerprint): another one cuts elsewhere.

    """
    sizes = f"{options.target_tokens},{options.max_tokens},{options.overlap_sentences},{counter}"
    return hashlib.sha256(f"{source.content_hash},{sizes}".encode()).hexdigest()


def is_current(stored: Collection[StoredChunk], revision: str) -> bool:
    """Whether the stored chunks of a source are all those of `revision`, and no others."""
    return bool(stored) and all(chunk.revision == revision and chunk.count == len(stored) for chunk in stored)


def plan_source(
    source: SourceText,
    stored: Collection[StoredChunk],
    options: ChunkOptions,
    *,
    count_tokens: TokenCounter | None = None,
    counter: str = "estimate",
) -> SourcePlan:
    """What to write and to delete so that the collection has `source` as it is now.

    Args:
        source: the source as read now.
        stored: what the collection has of it.
        options: the sizes of its chunks.
        count_tokens: an exact counter for `chunk`.
        counter: the name of that counter, see `revision_of`.

    """
    revision = revision_of(source, options, counter)
    if is_current(stored, revision):
        return SourcePlan(source.source, revision)
    chunks = chunk(
        source.text,
        target_tokens=options.target_tokens,
        max_tokens=options.max_tokens,
        overlap_sentences=options.overlap_sentences,
        count_tokens=count_tokens,
        sections=source.sections,
    )
    new = tuple(
        NewChunk(
            id=chunk_id(source.source, ordinal, piece.text),
            text=piece.text,
            source=source.source,
            title=source.title,
            section=piece.section,
            start=piece.start,
            end=piece.end,
            page=source.page_at(piece.start),
            ordinal=ordinal,
            count=len(chunks),
            revision=revision,
            metadata=source.metadata,
        )
        for ordinal, piece in enumerate(chunks)
    )
    kept = {piece.id for piece in new}
    gone = sorted({piece.id for piece in stored} - kept)
    return SourcePlan(source.source, revision, new, tuple(gone))


def plan_prune(
    stored: Iterable[str], seen: Collection[str], scopes: Collection[str], failed: Collection[str] = ()
) -> Iterator[str]:
    """The sources that vanished: stored ones that this ingest was to find and did not.

    Args:
        stored: names of the sources in the collection.
        seen: names of the sources that were read now.
        scopes: the files and folders that were ingested. A source is in the scope of "docs" if its name is
            "docs", begins with "docs/" or is a record "docs#..."; "" is the scope of everything. What is
            in no scope is never pruned.
        failed: files that could not be read this time: nothing under them has vanished.

    """
    present, scope_set, failed_set = set(seen), set(scopes), set(failed)
    for name in stored:
        if name in present:
            continue
        above = set(_enclosing(name))
        if above & scope_set and not above & failed_set:
            yield name


def _enclosing(name: str) -> Iterator[str]:
    """The name, the files and folders it may be in, and "" for everything."""
    yield name
    for at in range(len(name) - 1, 0, -1):
        if name[at] in "/#":
            yield name[:at]
    if name.startswith("/"):
        yield "/"
    yield ""
