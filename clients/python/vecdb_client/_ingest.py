"""Feeding sources to a node: paths or bytes in, one result for each out, in order.

The server answers a source once its passages are on a quorum's disks, and
skips one whose content it has. So a stream that broke can be taken up again
from the first source without an answer: sending it twice writes it once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, overload

import grpc
from vecdb_proto.v1 import knowledge_pb2

from vecdb_client import _payloads
from vecdb_client._errors import InternalError, status_code
from vecdb_client._infos import OUTCOMES

_SOURCE_BYTES = 256 << 20
_PART_BYTES = 1 << 20

SourceLike: TypeAlias = "str | PathLike[str] | tuple[str, bytes]"


@dataclass(frozen=True, slots=True)
class Chunking:
    """How sources are cut into passages; None for the server's defaults.

    `target_tokens` is what a passage aims at, `max_tokens` what it never
    exceeds, `overlap_sentences` how many sentences it repeats from the one
    before.
    """

    target_tokens: int | None = None
    max_tokens: int | None = None
    overlap_sentences: int | None = None


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of one source: "added", "updated", "unchanged" or "failed".

    A container (.jsonl, .csv) holds many sources and is answered once, with
    the sums; `sources` says how many, `unchanged` how many of them were. A
    failed one has a `code` and a `message`.
    """

    uri: str
    outcome: str
    passages: int = 0
    deleted: int = 0
    sources: int = 0
    unchanged: int = 0
    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether nothing of it was taken."""
        return self.outcome == "failed"

    @classmethod
    def of(cls, m: knowledge_pb2.IngestResponse) -> IngestResult:
        """The result that the message describes."""
        outcome = OUTCOMES.word(m.outcome)
        return cls(
            m.uri, outcome, m.passages, m.deleted, m.sources, m.unchanged, status_code(m.code), m.message
        )


class IngestReport(Sequence[IngestResult]):
    """What became of all sources, in the order they were given."""

    __slots__ = ("_results",)

    def __init__(self, results: list[IngestResult]) -> None:
        self._results = results

    @overload
    def __getitem__(self, index: int) -> IngestResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[IngestResult]: ...
    def __getitem__(self, index: int | slice) -> IngestResult | list[IngestResult]:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def _with(self, outcome: str) -> int:
        return sum(result.outcome == outcome for result in self._results)

    @property
    def added(self) -> int:
        """Sources that are new."""
        return self._with("added")

    @property
    def updated(self) -> int:
        """Sources whose passages were replaced."""
        return self._with("updated")

    @property
    def unchanged(self) -> int:
        """Sources that the server had already."""
        return self._with("unchanged")

    @property
    def failures(self) -> list[IngestResult]:
        """The sources that failed, with their messages."""
        return [result for result in self._results if result.failed]

    @property
    def passages(self) -> int:
        """Passages written."""
        return sum(result.passages for result in self._results)

    def __repr__(self) -> str:
        return (
            f"IngestReport(added={self.added}, updated={self.updated}, unchanged={self.unchanged}, "
            f"failed={len(self.failures)}, passages={self.passages})"
        )


@dataclass(slots=True)
class _Entry:
    """A source on its way; `result` is set where it failed before it was sent."""

    uri: str
    content: Path | bytes
    result: IngestResult | None = None

    def read(self) -> bytes | None:
        """The content; None, and a result, where there is none to send."""
        try:
            data = self.content if isinstance(self.content, bytes) else self._read(self.content)
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            self.result = IngestResult(self.uri, "failed", code=grpc.StatusCode.NOT_FOUND, message=message)
            return None
        if len(data) > _SOURCE_BYTES:
            message = f"is {len(data):,} bytes, the limit is {_SOURCE_BYTES:,}"
            self.result = IngestResult(
                self.uri, "failed", code=grpc.StatusCode.INVALID_ARGUMENT, message=message
            )
            return None
        return data

    @staticmethod
    def _read(path: Path) -> bytes:
        # Whole, not in parts: the size is announced first, and a file that
        # grows meanwhile would break the stream. A byte too many shows it is too large.
        with path.open("rb") as file:
            return file.read(_SOURCE_BYTES + 1)


def _walk(root: Path) -> Iterator[Path]:
    """The files below a folder in order, hidden ones left out."""
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and path.is_file():
            yield path


def _entries(sources: Iterable[SourceLike] | SourceLike, root: Path | None) -> Iterator[_Entry]:
    single = isinstance(sources, str | PathLike) or (
        isinstance(sources, tuple) and len(sources) == 2 and isinstance(sources[1], bytes)
    )
    every: Iterable[Any] = [sources] if single else sources  # type: ignore[assignment]
    for source in every:
        if isinstance(source, str | PathLike):
            path = Path(fspath(source))
            for file in _walk(path) if path.is_dir() else (path,):
                name = file if root is None else file.resolve().relative_to(root.resolve())
                yield _Entry(name.as_posix(), file)
        elif isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], str):
            yield _Entry(source[0], bytes(source[1]))
        else:
            raise TypeError(f"a source is a path or (uri, bytes), not {type(source).__name__}")


class Feed:
    """The sources of one `ingest`, over as many streams as it takes.

    One thread (or task) takes messages, another hands in answers.
    """

    def __init__(
        self,
        collection: str,
        sources: Iterable[SourceLike] | SourceLike,
        chunking: Chunking | None,
        payload: Mapping[str, Any] | bytes | None,
        format: str,  # noqa: A002
        root: str | PathLike[str] | None,
    ) -> None:
        options = chunking or Chunking()
        header = knowledge_pb2.IngestHeader(
            collection=collection, payload=b"" if payload is None else _payloads.pack(payload)
        )
        header.chunking.target_tokens = options.target_tokens or 0
        header.chunking.max_tokens = options.max_tokens or 0
        if options.overlap_sentences is not None:
            header.chunking.overlap_sentences = options.overlap_sentences
        self.header = knowledge_pb2.IngestRequest(header=header)
        self._format = format
        self._entries = _entries(sources, None if root is None else Path(fspath(root)))
        self._lock = threading.Lock()
        self._pending: deque[_Entry] = deque()  # sent or to be sent again, not answered
        self._stream = 0
        self._error: Exception | None = None

    def messages(self) -> Iterator[knowledge_pb2.IngestRequest]:
        """What one stream sends: what is still without an answer first, then the rest.

        Calling it again ends the messages of the stream before.
        """
        with self._lock:
            self._stream += 1
            stream, again = self._stream, list(self._pending)
        return self._messages(stream, again)

    def _messages(self, stream: int, again: list[_Entry]) -> Iterator[knowledge_pb2.IngestRequest]:
        yield self.header
        for entry in again:
            yield from self._parts(entry)
        while (taken := self._take(stream)) is not None:
            yield from self._parts(taken)

    def _take(self, stream: int) -> _Entry | None:
        with self._lock:
            if stream != self._stream or self._error is not None:
                return None
            try:
                entry = next(self._entries, None)
            except Exception as error:
                # Raised here it would only be logged by gRPC; `finish` raises it to the caller.
                self._error = error
                return None
            if entry is not None:
                self._pending.append(entry)
            return entry

    def _parts(self, entry: _Entry) -> Iterator[knowledge_pb2.IngestRequest]:
        data = entry.read() if entry.result is None else None
        if data is None:
            return
        source = knowledge_pb2.SourceHeader(uri=entry.uri, format=self._format, size=len(data))
        yield knowledge_pb2.IngestRequest(source=source)
        for start in range(0, len(data), _PART_BYTES):
            yield knowledge_pb2.IngestRequest(data=data[start : start + _PART_BYTES])

    def answered(self, message: knowledge_pb2.IngestResponse) -> list[IngestResult]:
        """The results that an answer settles: its own, after those of sources that could not be read."""
        with self._lock:
            results = self._unread()
            if not self._pending:
                raise InternalError(
                    "the server answered a source that it was not sent", code=grpc.StatusCode.INTERNAL
                )
            self._pending.popleft()
            results.append(IngestResult.of(message))
            return results

    def _unread(self) -> list[IngestResult]:
        results: list[IngestResult] = []
        while self._pending and (result := self._pending[0].result) is not None:
            self._pending.popleft()
            results.append(result)
        return results

    def finish(self) -> list[IngestResult]:
        """The results that are left once a stream has ended well.

        Raises what the caller's sources raised, and InternalError where the
        server left sources without an answer.
        """
        with self._lock:
            results = self._unread()
            if self._error is not None:
                raise self._error
            if self._pending:
                raise InternalError(
                    f"the server left {len(self._pending)} sources without an answer",
                    code=grpc.StatusCode.INTERNAL,
                )
            return results
