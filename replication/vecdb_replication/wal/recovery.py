"""Opening a log: replay every segment in order, cut a tear, refuse damage.

Nothing on disk changes before every check has passed, so that a damaged log stays as it was found.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from crc32c import crc32c

from vecdb_replication.wal.codec import FORMAT, HEADER_BYTES, Checkpoint, Item, SegmentHeader, run_of
from vecdb_replication.wal.errors import LogDamaged, LogVersion
from vecdb_replication.wal.fs import File, FileSystem
from vecdb_replication.wal.group import ABSENT, GroupLog
from vecdb_replication.wal.scan import Record, proof_behind, records
from vecdb_replication.wal.types import Recovery, Tear

SUFFIX = ".log"
TEMPORARY = ".tmp"
_NAME = re.compile(r"\d{12}\.log")


def segment_name(sequence: int) -> str:
    """The file name of a segment; names sort like sequences."""
    return f"{sequence:012d}{SUFFIX}"


@dataclass(slots=True)
class Segment:
    """An open segment: `end` is where the next record goes, `durable` how much of it is synced.

    `records` counts its records, the checkpoint at its start included; `readers` the reads in flight,
    so that dropping a segment never closes it under one.
    """

    path: Path
    file: File
    header: SegmentHeader
    end: int
    durable: int
    records: int = 0
    readers: int = 0
    dropped: bool = False

    @property
    def sequence(self) -> int:
        """The segment's number, from 1."""
        return self.header.sequence


@dataclass(slots=True)
class Recovered:
    """The state of the log once replayed.

    `lsn` is the next record's number, `chain` that over the last segment's records, and `sealed` says
    whether the last of them is a seal (see `Appender.seal`).
    """

    groups: dict[int, GroupLog] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    lsn: int = 1
    chain: int = 0
    sealed: bool = False
    report: Recovery = field(default_factory=Recovery)


def recover(fs: FileSystem, path: Path) -> Recovered:
    """Replay the log in `path`; an empty directory gives an empty log without segments.

    Raises LogDamaged, LogVersion and OSError, having changed nothing.
    """
    names = fs.listdir(path)
    replay = _Replay(fs, path, sorted(name for name in names if _NAME.fullmatch(name)))
    try:
        replay.run()
        replay.settle(leftovers=[name for name in names if name.endswith(TEMPORARY)])
    except BaseException:
        for segment in replay.result.segments:
            segment.file.close()
        raise
    return replay.result


class _Replay:
    def __init__(self, fs: FileSystem, path: Path, names: list[str]) -> None:
        self._fs = fs
        self._path = path
        self._names = names
        self._records = 0
        self._bytes = 0
        self._tear: Tear | None = None
        self.result = Recovered()

    def run(self) -> None:
        """Read every segment and check that they hang together."""
        for number, name in enumerate(self._names):
            self._check_neighbour(name)
            self._replay(self._path / name, last=number == len(self._names) - 1)
        for group, log in self.result.groups.items():
            missing, _ = log.within(ABSENT)
            if missing:
                lost = f"entries {missing[0]} to {missing[-1]} of group {group} lay in a segment that is gone"
                raise LogDamaged(self._path, 0, lost)

    def settle(self, leftovers: list[str]) -> None:
        """Cut the tear, and make durable what a killed process had written but not synced."""
        for name in leftovers:
            self._fs.unlink(self._path / name)
        if self.result.segments:
            last = self.result.segments[-1]
            if self._tear:
                last.file.truncate(last.end)
            last.file.fdatasync()
            last.durable = last.end
            self._fs.fsync_dir(self._path)
        self.result.report = Recovery(len(self.result.segments), self._records, self._bytes, self._tear)

    def _check_neighbour(self, name: str) -> None:
        if self.result.segments:
            expected = segment_name(self.result.segments[-1].sequence + 1)
            if name != expected:
                raise LogDamaged(self._path / expected, 0, f"the segment is missing, yet there is {name}")

    def _replay(self, path: Path, *, last: bool) -> None:
        file = self._fs.open(path)
        try:
            if last:
                # The process before us may have died of a failed fdatasync: pages that never reached
                # the device then look clean in the cache. Only what the device returns can be trusted.
                file.evict()
            raw = file.pread(0, file.size())
            header = self._read_header(path, raw)
        except BaseException:
            file.close()
            raise
        segment = Segment(path, file, header, HEADER_BYTES, 0)
        self.result.segments.append(segment)
        view = memoryview(raw)
        seed = segment.header.seed
        try:
            for record in records(view, HEADER_BYTES, seed):
                self._take(segment, record)
        except (ValueError, OverflowError) as error:
            raise LogDamaged(path, segment.end, str(error)) from error
        if segment.end == len(raw) and segment.end > HEADER_BYTES:
            segment.durable = segment.end
            return
        bad = segment.end
        if not last:
            raise LogDamaged(segment.path, bad, "no valid record here, though later segments follow")
        if bad == HEADER_BYTES:
            raise LogDamaged(segment.path, bad, "the checkpoint that opens the segment is not valid")
        proof = proof_behind(view, bad, seed)
        if proof is not None:
            raise LogDamaged(segment.path, bad, f"no valid record here, but evidence of one at {proof}")
        self._tear = Tear(segment.path, bad, len(raw) - bad)

    def _read_header(self, path: Path, raw: bytes) -> SegmentHeader:
        header = SegmentHeader.decode(raw)
        if header is None:
            raise LogDamaged(path, 0, "the segment's header is not valid")
        if header.format > FORMAT:
            raise LogVersion(
                f"{path} has log format {header.format}, and this version of vecdb reads up to {FORMAT}:"
                " start the newer version that wrote it"
            )
        if path.name != segment_name(header.sequence):
            raise LogDamaged(path, 0, f"the header is that of segment {header.sequence}")
        if not self.result.segments:
            self.result.lsn = header.lsn
        else:
            before = self.result.segments[-1]
            told = (header.lsn, header.previous_bytes, header.previous_chain)
            if told != (self.result.lsn, before.end, self.result.chain):
                reason = f"it ends otherwise than {path.name} says (cut, extended or exchanged)"
                raise LogDamaged(before.path, before.end, reason)
        self.result.chain = 0
        return header

    def _take(self, segment: Segment, record: Record) -> None:
        if record.head.lsn != self.result.lsn:
            raise ValueError(f"record {record.head.lsn} where {self.result.lsn} should be")
        offset = record.data_offset
        for item in record.items:
            self._apply(item, segment.sequence, offset)
            run = run_of(item)
            offset += run.data_bytes if run else 0
        segment.end = record.end
        segment.records += 1
        self.result.sealed = not record.items
        self.result.lsn += 1
        self.result.chain = crc32c(record.raw_head, self.result.chain)
        self._records += 1
        self._bytes += record.head.size

    def _apply(self, item: Item, sequence: int, offset: int) -> None:
        if not isinstance(item, Checkpoint):
            self.result.groups.setdefault(item.group, GroupLog()).apply(item, sequence, offset)
        elif len(self.result.segments) == 1:
            self.result.groups[item.group] = log = GroupLog()
            log.apply(item, sequence, offset)
        else:
            # Later checkpoints tell nothing new; that they agree is worth knowing.
            known = self.result.groups.get(item.group)
            if known is None or known.checkpoint(item.group) != item:
                raise ValueError(f"the checkpoint contradicts what group {item.group} logged before")
